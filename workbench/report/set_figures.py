"""What erasing and attacks do to the [[sets]] of a study; with the sentence that says the same."""

from workbench.report import wording
from workbench.report.charts import forest
from workbench.report.cluster_figures import look


def named_effects_figure(rows, variants=()):
    """Deactivation and reactivation of each set, in shares of its own base contrast, beside matched random sets."""
    rows = [row for row in wording.arranged(rows, variants) if row["effect"] != "sensitivity"]
    names = list(dict.fromkeys(row["neuron_set"] for row in rows))
    places = {name: place for place, name in enumerate(wording.EFFECTS)}
    rows.sort(key=lambda row: (places.get(row["effect"], len(places)), names.index(row["neuron_set"])))
    return forest.figure(
        rows,
        group=lambda row: wording.EFFECTS.get(row["effect"], row["effect"]),
        label=lambda row: [f"{row['neuron_set']}, {row['variant']}", row["attack"] and _condition(row)],
        style=lambda row: look(names.index(row["neuron_set"])) | {"name": row["neuron_set"]},
        guides=((0, "no effect"), (1, "all of it")),
        row_band=("random_low", "random_high"),
        title="share of the set's base contrast (95 % interval; grey: matched random sets)",
    )


def named_effects_alt(rows, variants=()):
    """Deactivation and reactivation of each set."""
    parts = []
    for row in (row for row in wording.arranged(rows, variants) if row["effect"] != "sensitivity"):
        random = wording.span(row["random_low"], row["random_high"])
        what = f"{row['effect']}, {row['neuron_set']}, {row['variant']}" + (f", {row['attack']}" if row["attack"] else "")
        parts.append(f"{what}: {wording.with_interval(row)}, n = {row['n']}" + (f" (random sets {random})" if random else ""))
    return "Effects on each set, in shares of its base contrast. " + "; ".join(parts) + "."


def _condition(row):
    made = wording.provenance(row)
    return f"{row['variant']}, {wording.condition(row)}" + (f" ({made})" if made else "")
