"""Clusters of neurons: how many and how sure, what erasing and attacks do to them, where they are in the model and in the image.

cluster_choice  every number of clusters tried; chosen marks the one selected; stable, grouped: above those of a single cloud, p_silhouette
                over all n_tried numbers; layer_information: what share of a neuron's cluster its layer explains, beside permuted labels
clusters        the clusters selected; jaccard: how much of one is found again when units are resampled
cluster_effects deactivation and reactivation in shares of the cluster's own base contrast, sensitivity (delta) in base standard deviations
cluster_profiles    mean contrast in base standard deviations, by call
cluster_regions     where in the image a cluster is active, on the units that activate it most: share of its activity in the tenth of the
                picture where it is most active; even: the same of a map that is the same everywhere; random_*: of matched random sets, each
                in its own most active tenth; n_tokens: places that its finest layer tells apart. Files: drawn, the condition's own image;
                read_on, the base model's image on whose latents the map was recorded; overlay, the same under the map. place: where the
                brightest tenth lies; top: how many times its mean a place is as active that has the full colour; picture_reason: why a
                file is missing
"""

from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Any

from workbench.report import looks, wording
from workbench.report.charts import forest, lines, scatter
from workbench.report.charts.style import COLOURS, Plot
from workbench.report.content import Report, Row, arranged, by_effect
from workbench.report.section import Drawing, Figure, Section, Template
from workbench.report.sections.by_call import lines_by_call
from workbench.report.table import (
    CONDITION,
    CONTROL,
    NAMED_ATTACK,
    NEW,
    REASON,
    UNITS,
    VARIANT,
    Column,
    Table,
    interval,
    random_sets,
    value,
    words_of,
)
from workbench.report.wording import number, percent

EFFECTS = {
    "deactivation": "deactivation",
    "reactivation": "reactivation",
    "sensitivity": "sensitivity δ (standard deviations of the base model)",
}
CLUSTER = Column("cluster", "count", "Cluster", right=False)
# what an effect on a group of neurons, named in the column before, says of it
EFFECT_ON_A_GROUP = (
    Column("effect", "text", "Effect", words_of(EFFECTS)),
    VARIANT,
    Column("prompt_set", "text"),
    *NAMED_ATTACK,
    CONTROL,
    UNITS,
    *value(),
    Column("p_change", "p?", since=NEW),
    *random_sets(title="p among random sets"),
    REASON,
)
CLUSTER_CHOICE = Table(
    "cluster_choice",
    "Number of clusters: are they stable under resampling, are they groups at all, do they merely reproduce layers?",
    (
        Column("method", "text", "Method"),
        Column("k", "count?"),
        Column("n", "count", "Neurons"),
        Column("n_units", "count"),
        Column("n_clusters", "count", "Clusters"),
        Column("in_none", "count", "Unclustered"),
        Column("silhouette", "number", "Silhouette"),
        Column("silhouette_chance", "number", "Single-cloud reference"),
        Column("p_silhouette", "p", "p (over all numbers tried)"),
        Column("stability", "number", "Stability (adjusted Rand index)"),
        Column("low", "number", "95 % of resamples", cell=interval()),
        Column("high", "number"),
        Column("stability_chance", "number", "Single-cloud reference"),
        Column("p_stability", "p?", "p", since=NEW),
        Column("n_resamples", "count"),
        Column("n_random", "count"),
        Column("n_tried", "count?", since=NEW),
        Column("stable", "flag"),
        Column("grouped", "flag"),
        Column("chosen", "flag", "Selected", lambda chosen: "yes" if chosen else ""),
        Column("layer_information", "number?", "Explained by layer"),
        Column("layer_chance", "number?"),
        Column(
            "layer_chance_low",
            "number?",
            "Layers permuted",
            cell=interval(low="layer_chance_low", high="layer_chance_high"),
        ),
        Column("layer_chance_high", "number?"),
        Column("layer_p", "p?", "p"),
        REASON.but(title="Caveat"),
    ),
    first=("method", "n_clusters", "chosen", "n", "in_none", "stability", "low", "stability_chance", "p_stability"),
    remarks=True,
    since=NEW,
)
CLUSTERS = Table(
    "clusters",
    "Clusters",
    (
        CLUSTER,
        Column("n_neurons", "count", "Neurons"),
        Column("n_concept", "count", "Concept neurons"),
        Column("n_layers", "count", "Layers"),
        Column("jaccard", "share", "Stability (Jaccard)", number),
        Column("low", "number", "95 % of resamples", cell=interval()),
        Column("high", "number"),
        Column("n_resamples", "count", "Resamples"),
        Column("file", "text", "Neuron set"),
    ),
    fold="Clusters and their files",
    since=NEW,
)
CLUSTER_EFFECTS = Table(
    "cluster_effects",
    "Effects of erasing and attacks on each cluster, on the evaluation half",
    (CLUSTER, *EFFECT_ON_A_GROUP),
    rows=lambda report: _by_cluster(report, "cluster_effects"),
    fold="Table of effects, with sensitivity δ",
    about=lambda row: (row["variant"], row["effect"].replace("_", " ")),
    since=NEW,
)
CLUSTER_PROFILES = Table(
    "cluster_profiles",
    columns=(
        CLUSTER,
        *CONDITION,
        Column("call", "count"),
        Column("timestep", "number"),
        Column("n_neurons", "count"),
        Column("n", "count?"),
        Column("value", "number?"),
        Column("low", "number?"),
        Column("high", "number?"),
    ),
    hidden=True,
    since=NEW,
)
CLUSTER_LAYERS = Table(
    "cluster_layers",
    "Layers of the neurons of each cluster",
    (
        CLUSTER,
        Column("layer", "text", "Layer"),
        Column("n", "count", "Neurons"),
        Column("share", "share", "Share of the cluster"),
        Column("expected", "share", "Share of all clustered neurons"),
    ),
    rows=lambda report: [row for row in report["cluster_layers"] if row["n"]],
    fold="Layers",
    since=NEW,
)
CLUSTER_PROMPTS = Table(
    "cluster_prompts",
    "Prompts that activate each cluster most in the base model, in its standard deviations",
    (
        CLUSTER,
        Column("variant", "text"),
        Column("prompt_set", "text", "Prompts", words_of(wording.PROMPTS)),
        Column("rank", "count", "Rank"),
        Column("value", "number", "Contrast", after="unit"),
        Column("id", "text"),
        Column("unit", "text", "Unit", after="prompt"),
        Column("prompt", "text", "Prompt"),
    ),
    fold="Prompts that activate them most",
    since=NEW,
)
REGION_PICTURES = (
    Column("drawn", "text?", since=NEW),
    Column("read_on", "text?", since=NEW),
    Column("overlay", "text?", since=NEW),
    Column("blurred", "flag?", since=NEW),
    Column("place", "text?", since=NEW),
    Column("top", "number?", since=NEW),
    Column("picture_reason", "text?", since=NEW),
)
CLUSTER_REGIONS = Table(
    "cluster_regions",
    "Concentration of each cluster's activity in one region of the image, on the units that activate it most",
    (
        CLUSTER,
        *CONDITION,
        Column("rank", "count", "Rank"),
        Column("id", "text"),
        Column("unit", "text", "Unit", after="prompt"),
        Column("prompt", "text", "Prompt"),
        Column("n_neurons", "count", "Neurons"),
        Column("n_tokens", "count?", "Positions"),
        Column("share", "share?", "Share in its most active tenth"),
        Column("even", "number", "Share of an even map", percent),
        *random_sets(percent),
        REASON,
        *REGION_PICTURES,
    ),
    rows=lambda report: _by_cluster(report, "cluster_regions"),
    fold="Concentration in one region of the image",
    since=NEW,
)


def _by_cluster(report: Report, table: str) -> list[Row]:
    return sorted(report.arranged(table), key=lambda row: row["cluster"])


def cluster_map_figure(neurons: list[Row], webgl: bool | None = None) -> Plot:
    """Every clustered neuron on the two directions of largest variance of its features, made on the selection half.

    neurons   rows of neurons.parquet with cluster, cluster_x, cluster_y
    """
    groups = []
    for place in sorted({neuron["cluster"] for neuron in neurons}, key=lambda place: (place < 0, place)):
        mine, look = [neuron for neuron in neurons if neuron["cluster"] == place], looks.cluster(place)
        groups.append(
            scatter.Group(
                "unclustered" if place < 0 else f"cluster {place:.0f}",
                look["colour"],
                look["symbol"],
                [neuron["cluster_x"] for neuron in mine],
                [neuron["cluster_y"] for neuron in mine],
                [_point(neuron) for neuron in mine],
            )
        )
    return scatter.figure(groups, "%{customdata[0]}", "first direction of largest variance", "second", size=6, webgl=webgl)


def _point(neuron: Row) -> list[str]:
    """What a point carries: the words of its hover text, and on a page, where neurons have short names, its id behind them."""
    own = f"{neuron['layer']}:{neuron['index']}"
    return [escape(neuron["name"]), own] if "name" in neuron else [escape(own)]


def cluster_map_alt(neurons: list[Row]) -> str:
    """How many neurons each cluster has."""
    numbers = [neuron["cluster"] for neuron in neurons]
    parts = [f"{'unclustered' if n < 0 else f'cluster {n:.0f}'}: {numbers.count(n)}" for n in sorted(set(numbers))]
    return f"{len(neurons)} neurons on the two directions of largest variance of their features. {', '.join(parts)}."


def cluster_profiles_figure(rows: list[Row], variants: Sequence[str] = ()) -> Plot:
    """Mean contrast of each cluster along the sampling run, one panel per cluster, one line per condition."""
    several = [
        row | {"variant": f"cluster {row['cluster']}", "prompt_set": _condition(row), "attack": None, "control": False}
        for row in arranged(rows, variants)
    ]
    names = [f"cluster {number}" for number in sorted({row["cluster"] for row in rows})]
    return lines_by_call(several, names, y_title="contrast (base SD)", guides=(0,))


def cluster_profiles_alt(rows: list[Row], variants: Sequence[str] = ()) -> str:
    """First and last call of each line."""
    lines: dict[tuple, list] = {}
    for row in arranged(rows, variants):
        lines.setdefault((row["cluster"], row["variant"], wording.condition(row)), []).append(row)
    parts = []
    for (cluster, variant, condition), points in sorted(lines.items(), key=lambda item: item[0][0]):
        first, last = (pick(points, key=lambda row: row["call"]) for pick in (min, max))
        parts.append(f"cluster {cluster}, {variant}, {condition}: {number(first['value'])} to {number(last['value'])}")
    return (
        f"Contrast of each cluster from the first to the last recorded call, in standard deviations of the base model. {'; '.join(parts)}."
    )


def groups_figure(rows: list[Row], name: Callable[[Row], str], look: Callable[[Row], looks.Look], what: str) -> Plot:
    """Deactivation and reactivation of groups of neurons, in shares of their own base contrast, beside matched random sets.

    name, look   row -> the group's name, its colour and symbol;   what   one of the groups, as "cluster"
    """
    return forest.figure(
        by_effect(row for row in rows if row["effect"] != "sensitivity"),
        group=lambda row: wording.named(wording.EFFECTS, row["effect"]),
        label=lambda row: [f"{name(row)}, {row['variant']}", row["attack"] and _condition(row)],
        style=lambda row: look(row) | {"name": name(row)},
        guides=((0, "no effect"), (1, "all of the contrast")),
        behind=("random_low", "random_high", forest.MATCHED),
        title=f"share of the {what}'s base contrast (95 % interval; grey: matched random sets)",
    )


def groups_alt(rows: list[Row], name: Callable[[Row], str], what: str) -> str:
    """Deactivation and reactivation of groups of neurons."""
    parts = [
        f"{row['effect']}, {name(row)}, {row['variant']}{', ' + row['attack'] if row['attack'] else ''}: "
        f"{wording.with_n(row)}{wording.beside_random(row)}"
        for row in rows
        if row["effect"] != "sensitivity"
    ]
    return f"Effects on each {what}, in shares of its base contrast. {'; '.join(parts)}."


def _name(row: Row) -> str:
    return f"cluster {row['cluster']}"


def cluster_effects_figure(rows: list[Row], variants: Sequence[str] = ()) -> Plot:
    """Deactivation and reactivation of each cluster."""
    rows = sorted(arranged(rows, variants), key=lambda row: row["cluster"])
    return groups_figure(rows, _name, lambda row: looks.cluster(row["cluster"]), "cluster")


def cluster_effects_alt(rows: list[Row], variants: Sequence[str] = ()) -> str:
    """Deactivation and reactivation of each cluster."""
    return groups_alt(arranged(rows, variants), _name, "cluster")


def _condition(row: Row) -> str:
    return f"{row['variant']}, {wording.condition_made(row)}"


def _map_drawn(report: Report) -> Iterator[Drawing]:
    points = [neuron for neuron in report.neurons if neuron.get("cluster_x") is not None]
    if points:
        yield Drawing("Similarity of neurons", (points,))


def _profiles_drawn(report: Report) -> Iterator[Drawing]:
    rows = [row for row in report["cluster_profiles"] if not row["control"]]
    if rows:
        yield Drawing("Contrast of each cluster along the sampling run", (rows, report.variants))


def _effects_drawn(report: Report) -> Iterator[Drawing]:
    if any(row["effect"] != "sensitivity" for row in report["cluster_effects"]):
        yield Drawing("Effects of erasing and attacks on each cluster", (report["cluster_effects"], report.variants))


def choice_figure(rows: list[Row]) -> Plot:
    """Stability and silhouette of every number of clusters that was tried, beside a single cloud without groups."""
    rows = sorted(rows, key=lambda row: row["n_clusters"])
    panels = ["stability (adjusted Rand index)", "silhouette"]
    drawn = []
    for panel, own, chance in zip(panels, ("stability", "silhouette"), ("stability_chance", "silhouette_chance"), strict=True):
        at = [row["n_clusters"] for row in rows]
        data = [["selected" if row["chosen"] else "tried", row["n"]] for row in rows]
        hover = "%{x} clusters (%{customdata[0]}): %{y:.2f}, n = %{customdata[1]} neurons<extra></extra>"
        error = {"array": [row["high"] - row[own] for row in rows], "arrayminus": [row[own] - row["low"] for row in rows], "thickness": 1}
        drawn += [
            lines.Line(panel, "single cloud", at, [row[chance] for row in rows], COLOURS["grey"], "line-ew-open", "dash", size=9),
            lines.Line(
                panel,
                "clusters",
                at,
                [row[own] for row in rows],
                COLOURS["blue"],
                size=[13 if row["chosen"] else 7 for row in rows],
                data=data,
                hover=hover,
                more={"error_y": error} if own == "stability" else {},
            ),
        ]
    figure = lines.figure(drawn, panels, "number of clusters (large: selected)", "value", shared_y=False)
    figure.update_xaxes(tickvals=sorted({row["n_clusters"] for row in rows}))
    return figure


def choice_alt(rows: list[Row]) -> str:
    """Both measures of each number of clusters."""
    parts = [
        f"{row['n_clusters']} clusters{' (selected)' if row['chosen'] else ''}: stability {number(row['stability'])} "
        f"({wording.span(row['low'], row['high'])}, single cloud {number(row['stability_chance'])}), "
        f"silhouette {number(row['silhouette'])} (single cloud {number(row['silhouette_chance'])}), n = {row['n']} neurons"
        for row in sorted(rows, key=lambda row: row["n_clusters"])
    ]
    return f"Stability and silhouette by number of clusters. {'; '.join(parts)}."


CHOICE_FIGURE = Figure(choice_figure, choice_alt)
MAP_FIGURE = Figure(cluster_map_figure, cluster_map_alt, _map_drawn, points=True)
PROFILES_FIGURE = Figure(cluster_profiles_figure, cluster_profiles_alt, _profiles_drawn)
EFFECTS_FIGURE = Figure(cluster_effects_figure, cluster_effects_alt, _effects_drawn, forest=True)


def _regions(report: Report) -> dict[str, Any] | None:
    """What is said above the pictures; None without pictures."""
    rows = report["cluster_regions"]
    return {"top": rows[0]["top"], "blurred": rows[0]["blurred"]} if rows else None


def _regions_in_markdown(report: Report) -> str:
    """Pictures of where in the image clusters are active, each with its words."""
    from urllib.parse import quote

    from workbench.report.region_cards import cards
    from workbench.report.renderers.marks import text

    parts = []
    for card in cards(report):
        if card["shots"]:
            pictures = " ".join(f"![{text(shot['alt'])}]({quote(shot['path'])})" for shot in card["shots"])
            parts += [pictures, f"**{text(card['title'])}** — {text(card['prompt'])}. {text(card['words'])}"]
    return "\n\n".join(["### Where clusters are active in the image", *parts]) if parts else ""


SECTION = Section(
    order=110,
    title="Clusters",
    short="Clusters",
    lead=(
        "Groups of neurons with similar responses over prompts, variants and calls; formed on the selection half, described on the "
        "evaluation half. Check first whether they are groups: splits of a continuum are stable too. A single cloud without groups shows "
        "what such splits reach."
    ),
    parts=(
        CLUSTER_CHOICE,
        MAP_FIGURE,
        PROFILES_FIGURE,
        EFFECTS_FIGURE,
        CLUSTERS,
        CLUSTER_EFFECTS,
        CLUSTER_LAYERS,
        CLUSTER_PROMPTS,
        CLUSTER_PROFILES,
        Template("regions.html.j2", _regions_in_markdown, _regions),
        CLUSTER_REGIONS,
    ),
)
