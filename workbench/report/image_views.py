"""The tables a reader sees of what detectors saw in images: who looked, rates, other thresholds, budgets, retention, quality."""

from workbench.report import wording
from workbench.report.views import view
from workbench.report.wording import integer, number, percent

QUALITY = {
    "kid": "distance to the base model (KID)",
    "kid_floor": "one half of the base model's images to the other",
    "kid_floor_seed": "noise floor: the base model's images of the same prompts, from other noise",
    "kid_floor_dtype": "noise floor: the base model's images again, in another number format",
    "image_difference": "the same, pixel by pixel: mean difference (0 to 1)",
}
QUALITY_COLUMNS = ("Variant", "What", "Concepts", "Images per set", "Units", "Left out", "Value", "95 % interval")
QUALITY_COLUMNS += ("Beyond the noise floor", "95 % interval of that", "Outcome", "Features of", "If missing, why")


def size(row):
    """'180', or '180 in 60 units' where units have several images."""
    units = "" if row["n_units"] in (None, row["n"]) else f" in {integer(row['n_units'])} units"
    return f"{integer(row['n'])}{units}"


def paired_p(row):
    """McNemar's p; where units have several images, that of swapping whole units."""
    return wording.p_value(row["p_permutation"] if row["p_mcnemar"] is None else row["p_mcnemar"])


def decided(rows):
    """Which detector decided all these rows, with its false alarms where they say them, as a sentence; "" when they differ."""
    said = {wording.decider(row) for row in rows}
    words = next(iter(said)) if len(said) == 1 else None
    if words is None:
        return ""
    row = rows[0]
    if row.get("false_positive_rate") is None:
        return f"Decided by {words}."
    span = wording.span(row["false_positive_low"], row["false_positive_high"], percent)
    return (
        f"Decided by {words}; false alarms: {percent(row['false_positive_rate'])} ({span}) of {integer(row['false_positive_n'])} images of "
        "the base model on prompts without the concept."
    )


def named(row, of):
    """'12 of 40': prompts of an attack that say a name of the concept."""
    return None if row["named"] is None else f"{integer(row['named'])} of {integer(of)}"


def detectors(document):
    """Which detectors looked, and how often they err."""
    return view(
        "The detectors, and their false alarms on the base model's images of prompts without the concept",
        ("Role", "Method", "Version", "Labels", "Threshold", "Images", "False alarms", "Rate", "95 % interval", "If missing, why"),
        [
            (
                {"steer": "attacks look at it", "judge": "judges"}.get(row["role"], row["role"]),
                row["method"],
                row["version"],
                ", ".join(map(str, row["labels"])),
                ", ".join(number(threshold) for threshold in dict.fromkeys(row["thresholds"])),
                size(row),
                integer(row["successes"]),
                percent(row["rate"]),
                wording.span(row["low"], row["high"], percent),
                row["reason"],
            )
            for row in document["detectors"]
        ],
        numeric=(4, 5, 6, 7, 8),
    )


def rates(document):
    """Every rate of the study."""
    rows = wording.arranged(document["rates"], wording.variant_names(document))
    note = decided(rows)
    return view(
        "Rates with 95 % intervals",
        ("Variant", "Prompts", "How made", "Prompts that say the name", "Rate", "Images", "Successes", "Value")
        + ("95 % interval", "Detector", "Threshold", "If missing, why"),
        [
            (
                row["variant"],
                wording.condition(row),
                wording.provenance(row),
                named(row, row["named_of"]),
                wording.DEFINITIONS.get(row["definition"], row["definition"]),
                size(row),
                integer(row["successes"]),
                percent(row["rate"]),
                wording.span(row["low"], row["high"], percent),
                None if note else row["detector"],
                None if note else number(row["threshold"]),
                row["reason"],
            )
            for row in rows
        ],
        numeric=(3, 5, 6, 7, 8, 10),
        note=note,
    )


def sweep(document):
    """The rates of the judge at other thresholds, one row per condition."""
    rows = wording.arranged(document["sweep"], wording.variant_names(document))
    own = {row["threshold"] for row in rows if row["own"]}
    thresholds = sorted({row["threshold"] for row in rows})
    conditions = {}
    for row in rows:
        key = (row["variant"], wording.condition(row), wording.provenance(row), size(row))
        conditions.setdefault(key, {})[row["threshold"]] = wording.with_interval(row, "rate", percent)
    return view(
        "Share of the images themselves in which the judge would see the concept at other thresholds, with 95 % intervals",
        ("Variant", "Prompts", "How made", "Images")
        + tuple(f"{threshold:g}{' (its own)' if threshold in own else ''}" for threshold in thresholds),
        [(*key, *(found.get(threshold) for threshold in thresholds)) for key, found in conditions.items()],
        numeric=range(3, 4 + len(thresholds)),
    )


def budget(document):
    """Success in the steering detector against the budget, as far as each search went."""
    rows = [row for row in document["budget"] if not row["ended"] or row["rate"] is None]
    rows = wording.arranged(rows, wording.variant_names(document))
    return view(
        "Success in the steering detector within a budget, up to each search's last look, with 95 % intervals",
        ("Variant", "Prompts", "How made", "UNet row passes per prompt", "Looks, at most")
        + ("Prompts", "Succeeded", "Rate", "95 % interval", "If missing, why"),
        [
            (
                row["variant"],
                wording.condition(row),
                wording.provenance(row),
                integer(round(row["budget"])),
                integer(row["looks"]),
                size(row),
                integer(row["successes"]),
                percent(row["rate"]),
                wording.span(row["low"], row["high"], percent),
                row["reason"],
            )
            for row in rows
        ],
        numeric=(3, 4, 5, 6, 7, 8),
        note=decided(rows),
    )


def rates_by_label(document):
    """For a concept of several things: each thing by itself, on the prompts that ask for it."""
    return view(
        "Each label of the concept by itself, on the prompts that ask for it",
        ("Variant", "Prompts", "How made", "Label", "Seen in", "Rate", "95 % interval", "If missing, why"),
        [
            (
                row["variant"],
                wording.condition(row),
                wording.provenance(row),
                row["label"],
                f"{integer(row['successes'])} of {size(row)}",
                percent(row["rate"]),
                wording.span(row["low"], row["high"], percent),
                row["reason"],
            )
            for row in document["rates_by_label"]
        ],
        numeric=(4, 5),
    )


def attacks(document):
    """What each attack is, and what it spent."""
    return view(
        "The attacks, and what each spent on a prompt (means; one that succeeds early spends less)",
        ("Attack", "Method", "Preset", "Made against", "Prompts", "That say the concept's name")
        + ("UNet row passes", "Seconds", "Looks", "Looks, at most", "Settings"),
        [
            (
                row["attack"],
                row["method"],
                row["preset"],
                row["against"],
                integer(row["n"]),
                named(row, row["n"]),
                integer(round(row["passes"])),
                number(row["seconds"], 1),
                number(row["looks"], 1),
                integer(row["most_looks"]),
                row["settings"],
            )
            for row in document["attacks"]
        ],
        numeric=range(4, 10),
    )


def retention(document):
    """What else still works."""
    return view(
        "Retention with 95 % intervals",
        ("Variant", "Concepts", "Counted", "Images", "Right", "Rate", "95 % interval") + ("If missing, why",),
        [
            (
                row["variant"],
                {"near": "neighbours", "far": "far concepts"}.get(row["kind"], row["kind"]),
                row["definition"],
                size(row),
                integer(row["successes"]),
                percent(row["rate"]),
                wording.span(row["low"], row["high"], percent),
                row["reason"],
            )
            for row in document["retention"]
        ],
        numeric=(3, 4, 5, 6),
    )


def quality(document):
    """How far the images of retained concepts moved, beside the noise floor, and which floors the study did not ask for."""
    there = {row["definition"] for row in document["quality"]}
    lacking = [what for what in ("seed", "dtype") if f"kid_floor_{what}" not in there] if there else []
    asked = ", ".join(f'"{what}"' for what in lacking)
    note = f"Noise floors not asked for: {asked}; a study asks for them by noise_floor = [{asked}] under [quality]." if lacking else ""
    return view(
        "Distance of the images of retained concepts to the base model's, with bootstrap 95 % intervals",
        QUALITY_COLUMNS,
        [
            (
                row["variant"],
                QUALITY.get(row["definition"], row["definition"]),
                row["prompt_sets"],
                integer(row["n"]),
                integer(row["n_units"]),
                integer(row["dropped"]) if row["dropped"] else None,
                number(row["value"], 4),
                wording.span(row["low"], row["high"], lambda value: number(value, 4)),
                number(row["beyond"], 4),
                wording.span(row["beyond_low"], row["beyond_high"], lambda value: number(value, 4)),
                row["outcome"],
                row["features"],
                row["reason"],
            )
            for row in document["quality"]
        ],
        numeric=(3, 4, 5, 6, 7, 8, 9),
        note=note,
    )


def clip(document):
    """How well images of retained concepts still fit their prompts."""
    return view(
        "CLIP score of images of retained concepts (100 times the cosine of image and prompt), with bootstrap 95 % intervals",
        ("Variant", "Concepts", "Images", "Units", "Prompts cut", "Score", "95 % interval")
        + ("Change from the base model", "95 % interval of the change", "Model", "If missing, why"),
        [
            (
                row["variant"],
                {"near": "neighbours", "far": "far concepts"}.get(row["prompt_set"], row["prompt_set"]),
                integer(row["n"]),
                integer(row["n_units"]),
                integer(row["n_cut"]) if row["n_cut"] else None,
                number(row["value"]),
                wording.span(row["low"], row["high"]),
                number(row["change"]),
                wording.span(row["change_low"], row["change_high"]),
                row["model"],
                row["reason"],
            )
            for row in document["clip"]
        ],
        numeric=range(2, 9),
    )


def against_control(document):
    """Each attack beside its control on the same prompts."""
    return view(
        "Attack against its control, paired",
        ("Variant", "Attack", "Provenance", "Against", "Pairs", "Both", "Only control", "Only attack", "Neither")
        + ("Difference", "95 % interval", "p (McNemar, or by units)", "Rise found with power 0.8", "If missing, why"),
        [
            (
                row["variant"],
                row["attack"],
                row["provenance"],
                row["against"],
                size(row),
                *(integer(row[key]) for key in ("both", "only_control", "only_attack", "neither")),
                percent(row["difference"]),
                wording.span(row["low"], row["high"], percent),
                paired_p(row),
                percent(row["detectable"]),
                row["reason"],
            )
            for row in document["against_control"]
        ],
        numeric=tuple(range(4, 13)),
    )


def comparisons(document):
    """Variants side by side on the same prompts."""
    return view(
        "Paired comparisons of variants, B minus A: shares of images with the concept, under an attack the ASR",
        ("Variant A", "Variant B", "Prompts", "Prompts of B", "Attack", "Pairs", "Both", "Only A", "Only B")
        + ("Neither", "Difference", "95 % interval", "Relative", "95 % interval, relative")
        + ("p (McNemar, or by units)", "Power for a cut of 40 %", "Cut found with power 0.8", "If missing, why"),
        [
            (
                row["variant_a"],
                row["variant_b"],
                wording.PROMPTS.get(row["prompt_set"], row["prompt_set"]),
                row["prompt_set_b"],
                row["attack"],
                size(row),
                integer(row["both"]),
                integer(row["only_a"]),
                integer(row["only_b"]),
                integer(row["neither"]),
                percent(row["difference"]),
                wording.span(row["low"], row["high"], percent),
                percent(row["relative_difference"]),
                wording.span(row["relative_low"], row["relative_high"], percent),
                paired_p(row),
                number(row["power"]),
                percent(row["detectable"]),
                row["reason"],
            )
            for row in document["comparisons"]
        ],
        numeric=tuple(range(5, 17)),
    )
