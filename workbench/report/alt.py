"""Alternative texts: for each figure the sentence a reader without the picture needs."""

from workbench.report import alt_analysis, wording
from workbench.report.alt_neurons import waking_alt
from workbench.report.plane_figures import plane_alt
from workbench.report.set_figures import named_effects_alt


def rates_alt(rows, variants=()):
    """Each rate with its interval and n, in the order of the figure."""
    return _sentences(
        "Rates of images that show the concept",
        wording.arranged(rows, variants),
        lambda row: f"{row['variant']}, {_condition(row)}, {wording.DEFINITIONS.get(row['definition'], row['definition'])}",
        "rate",
        wording.percent,
    )


def retention_alt(rows, variants=()):
    """Each retention rate with its interval and n."""
    return _sentences(
        "Rates of images drawn right",
        rows,
        lambda row: f"{row['variant']}, {row['kind']}",
        "rate",
        wording.percent,
    )


def activity_alt(rows, variants=(), trajectory=None):
    """Each activity with its interval and n."""
    return _sentences(
        "Concept activity, where the base model is 0 without and 1 with the concept",
        wording.arranged([r for r in rows if trajectory in (None, r["trajectory"])], variants),
        lambda row: f"{row['variant']}, {_condition(row)}, {_set(row)}",
    )


def activity_by_call_alt(rows, variants=(), window=None, opening="Concept activity along the sampling run"):
    """First and last call of each line."""
    lines = {}
    for row in wording.arranged(rows, variants):
        lines.setdefault((row["variant"], _condition(row), _set(row), row["prompt_set"]), []).append(row)
    parts = []
    for (variant, condition, *_), points in lines.items():
        first = min(points, key=lambda row: row["call"])
        last = max(points, key=lambda row: row["call"])
        parts.append(
            f"{variant}, {condition}: {wording.number(first['value'])} at call {first['call']}, "
            f"{wording.number(last['value'])} at call {last['call']}"
        )
    return f"{opening}. " + "; ".join(parts) + "."


def neuron_by_call_alt(rows, variants=(), window=None):
    """First and last call of each line."""
    return activity_by_call_alt(rows, variants, opening="Activity of one neuron along the sampling run")


def budget_alt(rows, variants=()):
    """First and last point of each line, as far as its search went."""
    lines = {}
    for row in wording.arranged(rows, variants):
        lines.setdefault((row["variant"], _condition(row)), []).append(row)
    parts = []
    for (variant, condition), points in lines.items():
        points = sorted((p for p in points if not p["ended"] or p["rate"] is None), key=lambda row: row["budget"])
        ends = [points[0], points[-1]] if len(points) > 1 and points[0]["rate"] is not None else points[:1]
        words = [
            f"{wording.with_interval(p, 'rate', wording.percent)} within {p['budget']:.0f} passes and {p['looks']} looks, n = {p['n']}"
            for p in ends
        ]
        parts.append(f"{variant}, {condition}: {', '.join(words)}")
    return "Prompts on which the steering detector had seen the concept, against UNet row passes per prompt. " + "; ".join(parts) + "."


def effects_alt(rows, variants=()):
    """Each effect with its interval, the p of "there is a change", and the range of the comparable sets."""
    (low, high), sets = wording.beside(rows)

    def name(row):
        said = [wording.p_words(wording.p_of_change(row)), f"{sets} {wording.span(row[low], row[high])}" * (row[low] is not None)]
        condition = f", {_condition(row)}" if row["attack"] else ""
        return f"{wording.EFFECTS.get(row['effect'], row['effect'])}, {row['variant']}{condition}, {_set(row)}" + (
            f" ({', '.join(filter(None, said))})" if any(said) else ""
        )

    return _sentences("Effects in units of concept activity", rows, name)


def shares_alt(rows, variants=()):
    """Silenced and woken shares of each row."""
    parts = [
        f"{row['variant']}, {_condition(row)}, {_set(row)}: silenced "
        f"{wording.with_interval(row, 'share_deactivated', wording.percent)}, woken "
        f"{wording.with_interval(row, 'share_reactivated', wording.percent)}, n = {row['n']}"
        for row in wording.arranged(rows, variants)
    ]
    return "Shares of neurons. " + "; ".join(parts) + "."


def neurons_alt(neurons, variant, thresholds=(0.5, 0.25)):
    """How many of the points lie in each corner."""
    silenced, woken = thresholds
    quiet = [neuron for neuron in neurons if neuron[f"d_{variant}"] > silenced]
    again = [neuron for neuron in quiet if neuron[f"r_{variant}"] > woken]
    return (
        f"{len(neurons)} neurons of {variant}, deactivation D against reactivation R: "
        f"{len(quiet)} have D above {silenced}, {len(again)} of these have R above {woken}."
    )


def _condition(row):
    made = wording.provenance(row)
    return wording.condition(row) + (f" ({made})" if made else "")


def _set(row):
    return wording.NEURON_SETS.get(row["neuron_set"], row["neuron_set"])


def _sentences(opening, rows, name, value="value", form=wording.number):
    parts = []
    for row in rows:
        n = "" if row["n"] is None else f", n = {row['n']}"
        parts.append(f"{name(row)}: {wording.with_interval(row, value, form)}{n}")
    return f"{opening}. " + "; ".join(parts) + "."


ALT = {
    "rates_figure": rates_alt,
    "retention_figure": retention_alt,
    "plane_figure": plane_alt,
    "activity_figure": activity_alt,
    "activity_by_call_figure": activity_by_call_alt,
    "budget_figure": budget_alt,
    "effects_figure": effects_alt,
    "shares_figure": shares_alt,
    "neurons_figure": neurons_alt,
    "neuron_by_call_figure": neuron_by_call_alt,
    "waking_figure": waking_alt,
    "attribution_figure": alt_analysis.attribution_alt,
    "cluster_map_figure": alt_analysis.cluster_map_alt,
    "cluster_profiles_figure": alt_analysis.cluster_profiles_alt,
    "cluster_effects_figure": alt_analysis.cluster_effects_alt,
    "named_effects_figure": named_effects_alt,
    "ablation_figure": alt_analysis.ablation_alt,
    "set_effects_figure": alt_analysis.set_effects_alt,
}
