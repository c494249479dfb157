"""What was compared: models, changes of weights, training, attacks, prompts and sampling.

training    how a mask was learned: the erasing loss on the drawn batch, the change on retained prompts, and the share of the gates
            expected to be pruned, all before the step's update; what was pruned in the end stands in models. Of a relearned concept the
            denoising loss on the drawn images of it; it has no retention term and no gates, so both are missing
attacks     what each attack is under the name all tables call it; passes (UNet evaluations), seconds and looks (detector queries) are
            means per prompt; named: as in rates, named_as_asked: where the target prompt says one too
study.score what chose the concept neurons: {rule in words, name of the score whose values are shown, its unit, what it is}
"""

from workbench.report import wording
from workbench.report.content import Report, Row
from workbench.report.section import Section, Template
from workbench.report.table import NEW, REASON, VARIANT, Column, Object, Table
from workbench.report.wording import digits, integer, percent

STEPS = 9  # of a training, in the table that readers see
STUDY = Object(
    "study",
    (
        Column("name", "text"),
        Column("title", "text"),
        Column("question", "text?"),
        Column("concept", "object"),
        Column("n_units", "count"),
        Column("n_units_half_a", "count?"),
        Column("n_units_half_b", "count?"),
        Column("seeds", "list"),
        Column("steps", "count"),
        Column("guidance", "number"),
        Column("scheduler", "text"),
        Column("window", "list"),
        Column("sites", "list"),
        Column("text", "text"),
        Column("score", "object?", since=NEW, of=tuple(Column(name, "text") for name in ("rule", "name", "unit", "what"))),
    ),
)
MODELS = Table(
    "models",
    "Models",
    (
        VARIANT,
        Column("role", "text", "Role"),
        Column("method", "text?", "Method"),
        Column("parent", "text?", "Made from"),
        Column("digest", "text?", "SHA-256", lambda digest: digest[:12], after="seconds"),
        Column("what", "text?", "What was changed"),
        Column("parameters_changed", "count?", "Weights changed"),
        Column("share_changed", "share?", "Share", digits(2, percent)),
        Column("seconds", "number?", "Time", wording.seconds),
        Column("largest_changes", "list", of=(Column("module", "text"), Column("relative_change", "number?"))),
        REASON.but(title="Note"),
    ),
    about=lambda row: (row["variant"], row["method"] or wording.condition(row)),
)
CHANGES = Table(
    "changes",
    "Largest changes of weights",
    (VARIANT, Column("module", "text", "Module"), Column("relative_change", "number?", "Relative change", digits(4))),
    derived=True,
    rows=lambda report: [{"variant": row["variant"]} | change for row in report["models"] for change in row["largest_changes"]],
    fold="Largest changes of weights",
)


def _some_steps(report: Report) -> list[Row]:
    """A few steps of each training, the first and the last among them."""
    rows = []
    for variant in dict.fromkeys(row["variant"] for row in report["training"]):
        own = [row for row in report["training"] if row["variant"] == variant]
        places = sorted({round(place * (len(own) - 1) / (STEPS - 1)) for place in range(STEPS)} & set(range(len(own))))
        rows += [own[place] for place in places]
    return rows


TRAINING = Table(
    "training",
    "Training of masks, relearning of concepts",
    (
        VARIANT,
        Column("method", "text"),
        Column("step", "count", "Step"),
        Column("loss", "number", "Loss (erasing, or denoising when relearning)", digits(5)),
        Column("retention", "number?", "Change on retained prompts", digits(5)),
        Column("expected_share", "share?", "Expected share of pruned weights", digits(2, percent)),
    ),
    rows=_some_steps,
    fold="Training of masks: loss and share of pruned weights over steps",
    since=NEW,
)
ATTACKS = Table(
    "attacks",
    "Attacks and their cost per prompt (means; an attack that succeeds early costs less)",
    (
        Column("attack", "text", "Attack"),
        Column("method", "text", "Method"),
        Column("preset", "text?", "Preset"),
        Column("against", "text?", "Optimised against"),
        Column("settings", "text", "Settings", after="most_looks"),
        Column("n", "count", "Prompts"),
        Column("passes", "number", "UNet evaluations (NFE)", lambda passes: integer(round(passes))),
        Column("seconds", "number?", "Seconds", digits(1)),
        Column("looks", "number", "Detector queries", digits(1)),
        Column("most_looks", "count", "Detector queries, at most"),
        Column(
            "named", "count?", "Prompts that name the concept", cell=lambda row: wording.of(row["named"], row["n"]), after="n", since=NEW
        ),
        Column("named_as_asked", "count?", since=NEW),
    ),
    fold="Attacks: method, settings, cost",
    since=NEW,
)


def sampling(report: Report) -> list[str]:
    """Concept, units and sampling, a sentence each."""
    study = report.study
    kind, names = study["concept"].get("kind"), study["concept"].get("names")
    concept = f"Concept: {report.concept}" + (f" ({kind})" if kind else "") + (f", written as {', '.join(names)}" if names else "")
    units = f"{integer(study['n_units'])} units"
    if study["n_units_half_a"] is not None:
        units += f": {integer(study['n_units_half_a'])} in the selection half, {integer(study['n_units_half_b'])} in the evaluation half"
    steps = f"{study['steps']} steps of {study['scheduler']}, guidance {study['guidance']}"
    if study["window"]:
        steps += f", activity averaged over the calls {study['window'][0]} to {study['window'][-1]}"
    return [
        f"{concept}.",
        f"{units}; seeds {', '.join(map(str, study['seeds']))}.",
        f"{steps}; neurons recorded at {', '.join(study['sites'])}.",
    ]


def _lead(report: Report) -> str:
    n = len(report.subjects)
    return (
        f"The original model, called base, beside {n} changed {'version' if n == 1 else 'versions'} of it, on the same prompts, the same "
        "starting noise and the same settings."
    )


def _markdown(report: Report) -> str:
    from workbench.report.renderers.marks import bullets

    return f"### Prompts and sampling\n\n{bullets(sampling(report))}"


SECTION = Section(
    order=20,
    title="What was compared",
    short="Compared",
    lead=_lead,
    parts=(
        MODELS,
        CHANGES,
        TRAINING,
        ATTACKS,
        Template("sampling.html.j2", _markdown, lambda report: {"sentences": sampling(report)}),
    ),
    always=True,
    objects=(STUDY,),
)
