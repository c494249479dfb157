"""Alternative texts of the figures about attribution, clusters and ablation."""

from workbench.report import wording
from workbench.report.ablation_figures import reading, which
from workbench.report.attribution_figures import credit_rows


def attribution_alt(rows, variants=()):
    """Each credit with its interval and the range of random sets."""
    parts = [
        f"{row['variant']}, {wording.condition(row)}, {row['method']}: {wording.with_interval(row)}, n = {row['n']}{_random(row)}"
        for row in wording.arranged(credit_rows(rows), variants)
    ]
    return "Summed attribution of the concept neurons, in units of the target. " + "; ".join(parts) + "."


def cluster_map_alt(neurons):
    """How many neurons each cluster has."""
    numbers = [neuron["cluster"] for neuron in neurons]
    parts = [f"{'no cluster' if n < 0 else f'cluster {n:.0f}'}: {numbers.count(n)}" for n in sorted(set(numbers))]
    return f"{len(neurons)} neurons on the two directions of largest variance of their features. " + ", ".join(parts) + "."


def cluster_profiles_alt(rows, variants=()):
    """First and last call of each line."""
    lines = {}
    for row in wording.arranged(rows, variants):
        lines.setdefault((row["cluster"], row["variant"], wording.condition(row)), []).append(row)
    parts = []
    for (cluster, variant, condition), points in sorted(lines.items(), key=lambda item: item[0][0]):
        first, last = (pick(points, key=lambda row: row["call"]) for pick in (min, max))
        parts.append(f"cluster {cluster}, {variant}, {condition}: {wording.number(first['value'])} to {wording.number(last['value'])}")
    return "Contrast of each cluster from the first to the last recorded call, in base standard deviations. " + "; ".join(parts) + "."


def cluster_effects_alt(rows, variants=()):
    """Deactivation and reactivation of each cluster."""
    parts = [
        f"{row['effect']}, cluster {row['cluster']}, {row['variant']}{', ' + row['attack'] if row['attack'] else ''}: "
        f"{wording.with_interval(row)}, n = {row['n']}{_random(row)}"
        for row in wording.arranged(rows, variants)
        if row["effect"] != "sensitivity"
    ]
    return "Effects on each cluster, in shares of its base contrast. " + "; ".join(parts) + "."


def region_alt(row, kind):
    """What one picture of a row of cluster_regions shows: `drawn`, `read_on` or `overlay`."""
    condition = f"{row['variant']}, {wording.condition(row)}"
    blurred = " (blurred)" if row["blurred"] else ""
    if kind == "drawn":
        return f"Image drawn by {condition}: {row['prompt']}{blurred}"
    if kind == "read_on":
        return f"The base model's image of the plain prompt of {row['unit']}{blurred}"
    share = f"{wording.percent(row['share'])} of its activity in its brightest tenth, {row['place']}"
    where = f"over it where cluster {row['cluster']} is active in {condition}: {share}"
    return f"The base model's image of {row['unit']} in grey, {where}{blurred}"


def ablation_alt(rows, variants=()):
    """Each change with its interval and the range of random sets."""
    parts = [
        f"{reading(row)}, {wording.percent(row['share'])} of the neurons: {wording.with_interval(row)}, n = {row['n']}{_random(row)}"
        for row in rows
    ]
    return "Change by taking out the highest ranked neurons. " + "; ".join(parts) + "."


def set_effects_alt(rows, variants=()):
    """Each change with its interval and the range of random sets."""
    parts = [f"{reading(row)}, {which(row)}: {wording.with_interval(row)}, n = {row['n']}{_random(row)}" for row in rows]
    return "Change by the ablation of sets. " + "; ".join(parts) + "."


def _random(row):
    random = wording.span(row["random_low"], row["random_high"])
    return f" (random sets {random})" if random else ""
