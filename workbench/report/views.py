"""The tables a reader sees: the same rows as the CSV files, fewer columns, in words.

Shared by the HTML and the Markdown report; a view is {title, note, head, rows, numeric} of plain text. What detectors saw in images
is in image_views.
"""

from workbench.report import wording
from workbench.report.wording import DASH, integer, number, percent


def view(title, head, rows, numeric=(), note=""):
    """A table of text; columns that are empty in every row are dropped.

    note   what holds for every row, a sentence above the table
    """
    rows = [[DASH if cell in (None, "") else str(cell) for cell in row] for row in rows]
    kept = [place for place in range(len(head)) if place == 0 or any(row[place] != DASH for row in rows)]
    return {
        "title": title,
        "note": note,
        "head": [head[place] for place in kept],
        "rows": [[row[place] for place in kept] for row in rows],
        "numeric": [place in numeric for place in kept],
    }


def models(document):
    """Which models were compared."""
    return view(
        "Models",
        ("Variant", "Role", "Method", "Made from", "What was changed", "Weights changed") + ("Share", "Time", "SHA-256", "Note"),
        [
            (
                row["variant"],
                row["role"],
                row["method"],
                row["parent"],
                row["what"],
                integer(row["parameters_changed"]),
                percent(row["share_changed"], 2),
                wording.seconds(row["seconds"]),
                (row["digest"] or "")[:12],
                row["reason"],
            )
            for row in document["models"]
        ],
        numeric=(5, 6, 7),
    )


def changes(document):
    """Which modules each variant changed most."""
    return view(
        "Largest changes of weights",
        ("Variant", "Module", "Relative change"),
        [
            (row["variant"], change["module"], number(change["relative_change"], 4))
            for row in document["models"]
            for change in row["largest_changes"]
        ],
        numeric=(2,),
    )


def training(document, n_steps=9):
    """How masks were learned and concepts relearned, at a few steps of each."""
    rows = []
    for variant in dict.fromkeys(row["variant"] for row in document["training"]):
        own = [row for row in document["training"] if row["variant"] == variant]
        places = sorted({round(place * (len(own) - 1) / max(1, n_steps - 1)) for place in range(n_steps)} & set(range(len(own))))
        rows += [own[place] for place in places]
    return view(
        "Learning the masks, relearning the concept",
        ("Variant", "Step", "Loss (erasing; of relearning: denoising)", "Change on retained prompts", "Share expected to be cut"),
        [
            (
                row["variant"],
                integer(row["step"]),
                number(row["loss"], 5),
                number(row["retention"], 5),
                percent(row["expected_share"], 2),
            )
            for row in rows
        ],
        numeric=(1, 2, 3, 4),
    )


def activity(document):
    """Concept activity of every condition and neuron set."""
    rows = wording.arranged(document["activity"], wording.variant_names(document))
    return view(
        "Concept activity A",
        ("Variant", "Prompts", "How made", "Neurons", "Site", "Latents", "Units", "A") + ("95 % interval", "If missing, why"),
        [
            (
                row["variant"],
                wording.condition(row),
                wording.provenance(row),
                wording.NEURON_SETS.get(row["neuron_set"], row["neuron_set"]),
                row["site"],
                row["trajectory"],
                integer(row["n"]),
                number(row["value"]),
                wording.span(row["low"], row["high"]),
                row["reason"],
            )
            for row in rows
        ],
        numeric=(6, 7, 8),
    )


def effects(document):
    """Differences of activity: the p of "there is a change", and the same effect in comparable sets."""
    places = {name: place for place, name in enumerate(wording.EFFECTS)}
    rows = wording.arranged(document["effects"], wording.variant_names(document))
    rows.sort(key=lambda row: places.get(row["effect"], len(places)))
    return view(
        "Effects",
        ("Effect", "Variant", "Attack", "How made", "Neurons", "Latents", "Units", "Value")
        + ("95 % interval", "p of a change", "Comparable sets", "Beside them", "Random sets", "Number of sets", "If missing, why"),
        [
            (
                row["effect"].replace("_", " "),
                row["variant"],
                row["attack"],
                wording.provenance(row),
                wording.NEURON_SETS.get(row["neuron_set"], row["neuron_set"]),
                row["trajectory"],
                integer(row["n"]),
                number(row["value"]),
                wording.span(row["low"], row["high"]),
                wording.p_value(wording.p_of_change(row)),
                _cell(row, "comparable", number),
                row["comparable_outcome"],
                wording.span(row["random_low"], row["random_high"]),
                integer(row["n_random"]),
                row["reason"],
            )
            for row in rows
        ],
        numeric=(6, 7, 8, 9, 10, 12, 13),
    )


def other_concept(document):
    """The same effects on the neurons of another concept."""
    rows = wording.arranged(document["other_concept"], wording.variant_names(document))
    places = {"deactivation": 0, "reactivation": 1}
    rows.sort(key=lambda row: (places.get(row["effect"], 2), row["trajectory"]))
    name = next((row["concept"] for row in rows), "")
    return view(
        f"The same on the neurons of another concept, {name}, each set on the base scale of its own concept",
        ("Effect", "Variant", "Attack", "How made", "Prompts", "Latents", "Units", f"Neurons of {name}", "95 % interval", "p")
        + ("Concept neurons", "95 % interval", "Difference", "95 % interval", "p of the difference", "If missing, why"),
        [
            (
                row["effect"],
                row["variant"],
                row["attack"],
                wording.provenance(row),
                f"of {name}" if row["prompts"] == "other-target" else "of the study",
                row["trajectory"],
                integer(row["n"]),
                number(row["value"]),
                wording.span(row["low"], row["high"]),
                wording.p_value(wording.p_of_change(row)),
                number(row["own"]),
                wording.span(row["own_low"], row["own_high"]),
                number(row["difference"]),
                wording.span(row["difference_low"], row["difference_high"]),
                wording.p_value(row["p_difference"]),
                row["reason"],
            )
            for row in rows
        ],
        numeric=range(6, 15),
    )


def shares(document):
    """Per-neuron summaries."""
    rows = wording.arranged(document["neurons"], wording.variant_names(document))
    return view(
        "Single neurons",
        ("Variant", "Attack", "How made", "Neurons", "Latents", "n", "Excluded", "Silenced")
        + ("Woken again", "Median D", "Median R", "Median δ", "If missing, why"),
        [
            (
                row["variant"],
                row["attack"],
                wording.provenance(row),
                wording.NEURON_SETS.get(row["neuron_set"], row["neuron_set"]),
                row["trajectory"],
                integer(row["n"]),
                integer(row["excluded"]),
                _cell(row, "share_deactivated", percent),
                _cell(row, "share_reactivated", percent),
                _cell(row, "median_d", number),
                _cell(row, "median_r", number),
                _cell(row, "median_delta", number),
                row["reason"],
            )
            for row in rows
        ],
        numeric=(5, 6, 7, 8, 9, 10, 11),
    )


def top_neurons(neurons, document, limit=20):
    """The neurons that carry the concept most, by what chose them on half A: a score, or the agreement of several; half B beside it."""
    agreed = any(neuron.get("agreement_a") is not None for neuron in neurons)
    by = "agreement_a" if agreed else "score"
    ranked = [neuron for neuron in neurons if neuron.get(by) is not None and neuron.get("score") is not None]
    ranked.sort(key=lambda n: (-n[by], str(n["layer"]), n["index"]))
    variants = [name for name in wording.subjects(document) if any(f"d_{name}" in n for n in ranked[:1])]
    what = f"{min(limit, len(ranked))} of {integer(len(ranked))} neurons by the {'agreement of scores' if agreed else 'score'}"
    return view(
        f"Top {what} on the half that chooses; D and R on the other half",
        ("Layer", "Neuron", "Agreement, half A", "Agreement, half B", "Score, half A", "Score, half B", "Confirmed", "κ", "Role")
        + tuple(f"{symbol} {name}" for name in variants for symbol in ("D", "R")),
        [
            (
                neuron["layer"],
                neuron["index"],
                number(neuron.get("agreement_a"), 3),
                number(neuron.get("agreement_b"), 3),
                number(neuron["score"]),
                number(neuron.get("score_b")),
                {True: "yes", False: "no", None: None}[neuron.get("confirmed")],
                number(neuron.get("kappa"), 3),
                _role(neuron),
                *(number(neuron.get(f"{key}_{name}")) for name in variants for key in ("d", "r")),
            )
            for neuron in ranked[:limit]
        ],
        numeric=(1, 2, 3, 4, 5, 7, *range(9, 9 + 2 * len(variants))),
        note=f"Scores in {wording.score_unit(document['study'])}.",
    )


def _role(neuron):
    for column, word in (("in_prune", "pruned"), ("in_watch", "watched"), ("in_concept", "chosen")):
        if neuron.get(column):
            return word
    return ""


def waking(document):
    """Whether the prompts that wake the neurons more are the ones whose images show the concept."""
    return view(
        "Does waking go with success? AUROC of the activity under attack for success in the images (0.5 is chance)",
        ("Variant", "Attack", "How made", "Neurons", "Activity measured", "Successes of n", "AUROC", "95 % interval", "If missing, why"),
        [
            (
                row["variant"],
                row["attack"],
                wording.provenance(row),
                wording.NEURON_SETS.get(row["neuron_set"], row["neuron_set"]),
                wording.TRAJECTORIES.get(row["trajectory"], row["trajectory"]),
                f"{integer(row['successes'])} of {integer(row['n'])}",
                number(row["value"]),
                wording.span(row["low"], row["high"]),
                row["reason"],
            )
            for row in document["waking"]
        ],
        numeric=(5, 6),
    )


def relocation(document):
    """Whether the activity under attack went to neurons outside the concept set."""
    return view(
        "Did the activity move? Mean change outside the concept set under attack, in the base model's standard deviations",
        ("Variant", "Attack", "How made", "Activity measured", "n", "Mean delta outside", "95 % interval")
        + ("Overlap of the set chosen anew (IoU)", "By chance", "If missing, why"),
        [
            (
                row["variant"],
                row["attack"],
                wording.provenance(row),
                wording.TRAJECTORIES.get(row["trajectory"], row["trajectory"]),
                integer(row["n"]),
                number(row["value"]),
                wording.span(row["low"], row["high"]),
                number(row["iou"], 3),
                number(row["iou_chance"], 3),
                row["reason"],
            )
            for row in document["relocation"]
        ],
        numeric=(4, 5, 7, 8),
    )


def scores(document):
    """How the neurons were chosen and whether the choice is stable."""
    return view(
        "Ways to choose concept neurons",
        ("Score", "Chosen", "Agreement of the halves (IoU)", "By chance", "Note"),
        [
            (
                row["score"],
                integer(row["n_chosen"]),
                number(row["iou_halves"]),
                number(row["iou_chance"], 3),
                row["note"],
            )
            for row in document["scores"]
        ],
        numeric=(1, 2, 3),
    )


def evidence(word):
    """The numbers behind one sentence of the verdict."""
    return view(
        "",
        ("Evidence", "Value", "95 % interval", "n"),
        [
            (
                item["name"],
                wording.p_value(item["value"]) if item["low"] is None and 0 < (item["value"] or 0) < 0.001 else number(item["value"], 3),
                wording.span(item["low"], item["high"]),
                integer(item["n"]),
            )
            for item in word["evidence"]
        ],
        numeric=(1, 2, 3),
    )


def timings(document):
    """Where the time went."""
    return view(
        "Time per stage",
        ("Stage", "Time", "Nodes"),
        [(row["stage"], wording.seconds(row["seconds"]), integer(row["nodes"])) for row in document["timings"]],
        numeric=(1, 2),
    )


def reproduce(document):
    """What another person needs to get the same numbers."""
    facts = document["reproduce"]
    yes = {True: "yes", False: "no", None: None}
    memory = facts["peak_memory_mb"]
    return view(
        "Circumstances",
        ("What", "Value"),
        [
            ("Study, SHA-256", facts["study_digest"]),
            ("Seeds", ", ".join(map(str, facts["seeds"]))),
            ("Scheduler", facts["scheduler"]),
            ("Device", facts["device"]),
            ("CPU threads", facts["threads"]),
            ("Number format", facts["dtype"]),
            ("Deterministic algorithms of torch", yes[facts["torch_deterministic"]]),
            ("Git commit", facts["git_commit"]),
            ("Uncommitted changes", yes[facts["git_dirty"]]),
            ("Wall time", wording.seconds(facts["wall_seconds"])),
            ("Peak memory", None if memory is None else f"{integer(round(memory))} MB"),
            ("Started", facts["started"]),
            ("Finished", facts["finished"]),
            *((f"{name}", version) for name, version in sorted(facts["versions"].items())),
        ],
    )


def over_runs(document):
    """Numbers over the runs of variants and attacks with seeds."""
    rates = ("rate", "retained", "difference between variants", "attack minus control")
    return view(
        "Over runs with other seeds: mean over runs and units, interval over both",
        ("Number", "Of", "Variant", "Beside", "Prompts", "Attack", "How made", "Neurons", "Latents", "Units", "Runs", "Attacks a run")
        + ("Value", "95 % interval", "p", "If missing, why"),
        [
            (
                row["quantity"],
                wording.DEFINITIONS.get(row["name"], wording.EFFECTS.get(row["name"], row["name"])),
                row["variant"],
                row["beside"],
                wording.condition(row) if row["attack"] or row["prompt_set"] else None,
                row["attack"],
                wording.provenance(row),
                wording.NEURON_SETS.get(row["neuron_set"], row["neuron_set"]),
                wording.TRAJECTORIES.get(row["trajectory"], row["trajectory"]),
                integer(row["n_units"]),
                integer(row["n_runs"]),
                integer(row["n_inner"]),
                (percent if row["quantity"] in rates else number)(row["value"]),
                wording.span(row["low"], row["high"], percent if row["quantity"] in rates else number),
                wording.p_value(row["p"] if row["p_adjusted"] is None else row["p_adjusted"]),
                row["reason"],
            )
            for row in document["over_runs"]
        ],
        numeric=tuple(range(9, 15)),
        note="p after Benjamini-Hochberg where words rest on it.",
    )


def digests(document):
    """Fingerprints of the prompts and the models."""
    facts = document["reproduce"]
    return view(
        "Fingerprints (SHA-256)",
        ("Kind", "Name", "Prompts", "Digest"),
        [("prompt set", row["set"], integer(row["n"]), row["digest"]) for row in facts["prompts"]]
        + [("model", row["variant"], "", row["digest"]) for row in facts["models"]],
        numeric=(2,),
    )


def missing(document):
    """What could not be measured, and why: every null of the tables in words."""
    rows = []
    for table in (
        "models",
        "rates",
        "detectors",
        "budget",
        "retention",
        "quality",
        "clip",
        "activity",
        "effects",
        "other_concept",
        "neurons",
        "comparisons",
        "over_runs",
        "selection",
        "stability",
        "attribution",
        "fidelity",
        "tokens",
        "cluster_effects",
        "cluster_regions",
        "ablation",
        "leave_one_out",
        "greedy",
        "shapley",
        "necessity",
        "sufficiency",
        "set_effects",
        "set_ablation",
    ):
        for row in document[table]:
            if row["reason"]:
                subject, about = _about(row)
                rows.append((table, subject, about.replace("_", " "), row["reason"]))
    return view("Not measured", ("Table", "Variant", "What", "Why"), list(dict.fromkeys(rows)))


def _about(row):
    """Whose number is missing, and which."""
    if "over" in row:
        return "base", f"{row['over']}: {row['first']} and {row['second']}"
    if "chosen_by" in row:
        return "base", f"choice of {wording.NEURON_SETS.get(row['neuron_set'], row['neuron_set'])} at {row['site']}"
    if "quantity" in row:
        return row["variant"], f"{row['quantity']} over runs: {row['name'] or row['beside'] or row['attack'] or row['prompt_set']}"
    subject = row.get("variant") or row.get("role") or f"{row['variant_a']} against {row['variant_b']}"
    return subject, row.get("effect") or row.get("kind") or row.get("method") or row.get("prompt_sets") or wording.condition(row)


def _cell(row, name, form):
    value = row[name]
    interval = wording.span(row[f"{name}_low"], row[f"{name}_high"], form)
    return DASH if value is None else f"{form(value)} ({interval})" if interval else form(value)
