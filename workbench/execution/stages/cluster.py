"""The stage `cluster`, and its rows of the report: clusters are made on the selection half, described on the evaluation half.

run             each cluster is saved as a neuron set
to_cluster      which neurons are clustered
cluster_files, members    the saved sets
one_per_unit    prompts that describe them
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas

from workbench.analysis import cluster_description, cluster_features, clusters
from workbench.analysis.cluster_stability import Stability, choose_k, layer_information, stability
from workbench.errors import StatisticsError
from workbench.execution import neuron_choice
from workbench.execution.attribution_inputs import here, spread
from workbench.execution.condition import Condition
from workbench.execution.graph import Graph, NodeSpec
from workbench.execution.plan import Node, Shard
from workbench.execution.rows import Row, Tables
from workbench.execution.stages.attribute import Found, leading, leading_method, read_found
from workbench.execution.workspace import Workspace
from workbench.neurons import sets as neuron_sets
from workbench.storage import plain_json, read_json, read_table, write_json, write_table
from workbench.study.cluster import Cluster
from workbench.study.prompt_set_name import control_of
from workbench.study.study import Study

Credit = Callable[[np.ndarray | None], np.ndarray]  # weights of the units, or None -> (neuron,)
VERSION = 3
SECONDS = 20
TABLES = ("cluster_choice", "clusters", "cluster_effects", "cluster_profiles", "cluster_layers", "cluster_prompts")
RANGE = (2, 8)
NO_INFORMATION = dict.fromkeys(f"layer_{name}" for name in ("information", "chance", "chance_low", "chance_high", "p"))


def nodes(study: Study, graph: Graph) -> Iterator[NodeSpec]:
    """cluster."""
    part = study.cluster
    if not part:
        return
    pairs, attributions = graph.conditions(), [spec.id for spec in graph.of_stage("attribute")] if part.attribution is not False else []
    own = {name: value for name, value in part.model_dump(mode="json").items() if name not in part.added_later}
    yield NodeSpec(
        "cluster",
        "cluster",
        {"cluster": own, "conditions": pairs, "seed": study.choose.seed}
        | {"trajectories": study.record.trajectories, "n_resamples": study.choose.n_resamples},
        ("score", *(Condition(variant, name).node("record") for variant, name in pairs), *attributions),
        context={
            "cluster": part,
            "choose": study.choose,
            "pruned": [variant.name for variant in study.variants if variant.role == "pruned"],
            "about": {"study": study.name, "concept": study.concept.name, "method": part.method, "half": "a", "share": part.share},
        },
        bytes=graph.n_neurons * 60 + 50_000,
    )


def run(workspace: Workspace, node: Node, shard: Shard, out: Path) -> None:
    """tables.json, neurons.parquet (one row per clustered neuron) and cluster-<n>.safetensors, a NeuronSet each."""
    part, index = node.context["cluster"], workspace.neurons
    trajectory, half = workspace.headline_trajectory, workspace.units_in_half_a()
    pairs = [(variant, name) for variant, name in node.parameters["conditions"]]
    recorded = {pair: workspace.unit_means(pair[1], workspace.mean_abs(pair[0], pair[1], trajectory)) for pair in pairs}
    a, b = ({c: array[rows] for c, array in recorded.items()} for rows in (half, ~half))
    members, credits = to_cluster(workspace, node), _credits(workspace, node)

    def make(weights: np.ndarray | None) -> cluster_features.Features:
        given = {name: credit(weights) for name, credit in credits.items()}
        return cluster_features.features(a, index, members, given, weights)

    made = make(None)
    n_units, settings = (
        int(half.sum()),
        {"n_resamples": part.n_resamples, "seed": part.seed, "parts": _chosen_for(workspace, node)[made.position]},
    )
    k, choices, judged = part.k, [], None
    if part.method != "hdbscan" and not isinstance(k, int):
        first, last = k or RANGE
        k, tried = choose_k(make, n_units, range(first, last + 1), part.method, **settings)
        choices = tried.to_dict("records")
        if k is None:
            k = int(tried.loc[tried["stability"].idxmax(), "k"])
        judged = next(row for row in choices if row["k"] == k)
    sure = stability(make, n_units, part.method, k, min_size=part.min_size, judged=judged, **settings)
    choices = _chosen(choices, sure, made, part)
    written: Tables = {name: [] for name in TABLES} | {"cluster_choice": choices}
    if sure.labels.max() >= 0:
        groups = clusters.as_sets(sure.labels, made, workspace.model.digest(), node.context["about"])
        for number, group in groups.items():
            group.save(out / f"cluster-{number}.safetensors")
        written |= _described(workspace, node, sure, made, b, trajectory)
    write_json(out / "tables.json", plain_json(written))
    table = made.index[["layer", "index"]].assign(position=made.position, cluster=sure.labels, kept=sure.kept)
    try:
        plane = clusters.embed(made)[0].set_index("position")
        table["x"], table["y"] = (plane[axis].reindex(table["position"]).to_numpy() for axis in "xy")
    except StatisticsError:
        table["x"] = table["y"] = np.nan  # too few neurons or features to span a plane
    write_table(out / "neurons.parquet", table)


def to_cluster(workspace: Workspace, node: Node) -> np.ndarray:
    """(neuron,) bool: the concept and suppressed set, and of the site ff the share with the largest score of either sign, by the
    choosing score and, where it is a feature, by the leading attribution; all on the selection half.
    """
    return _chosen_for(workspace, node) > 0


def _chosen_for(workspace: Workspace, node: Node) -> np.ndarray:
    """(neuron,) what a neuron is clustered for: 0 not at all, else a number for each pair of the sign of the choosing score, and of the
    leading attribution, where these are among the largest. Neurons of two signs are two groups by this choice alone.
    """
    part, choose, ff = node.context["cluster"], node.context["choose"], here(workspace)
    table = read_table(workspace.result("score") / "neurons.parquet")
    value = neuron_choice.value(choose, table)
    members = (table["in_concept"] | table["in_suppressed"]).to_numpy() & ff
    members |= neuron_sets.top(np.abs(value), part.share, ff)
    reasons = np.where(members, 1 + (value < 0), 0)
    first = leading(workspace) if part.attribution is not False else None
    if first is None:
        return reasons
    return reasons + np.where(neuron_sets.top(np.abs(first), part.share, ff), 3 * (1 + (first < 0)), 0)


def _credits(workspace: Workspace, node: Node) -> dict[str, Credit]:
    """{feature: weights or None -> (neuron,)}: attribution of every attributed condition on the selection half, as a feature of clusters.

    A resample of the units resamples the attribution too, where it has all units of the half.
    """
    method = leading_method(workspace)
    if node.context["cluster"].attribution is False or method is None:
        return {}
    names = [unit for unit, mine in zip(workspace.units, workspace.units_in_half_a(), strict=True) if mine]

    def credit(one: Found) -> Credit:
        place = [one.about["units"].index(unit) for unit in names] if set(names) == set(one.about["units"]) else None

        def of(weights: np.ndarray | None) -> np.ndarray:
            value = one.value if weights is None or place is None else weights @ one.per_unit[place].astype(float)
            return np.nan_to_num(spread(workspace, value))

        return of

    made = [one for one in workspace.plan.of_stage("attribute") if one.variant not in node.context["pruned"]]
    return {f"{one.variant} x {one.prompt_set}": credit(read_found(workspace, one, method, "a")) for one in made}


def _chosen(choices: list[Row], sure: Stability, made: cluster_features.Features, part: Cluster) -> list[Row]:
    """Rows of cluster_choice: every k that was tried, and what was taken, of which it is said whether clusters are just layers."""
    taken = sure.row | {"chosen": True} | NO_INFORMATION
    rows = [row | {"chosen": False} | NO_INFORMATION for row in choices if row["k"] != taken["k"]]
    if choices and not any(row["chosen"] for row in choices):
        tried = f"from {choices[0]['k']} to {choices[-1]['k']}"
        why = taken["reason"] or "of all neurons it is, of the sample that was tried it is not"
        taken["reason"] = f"no number of clusters {tried} is both stable and grouped; the most stable, {taken['k']}, is used: {why}"
    try:
        layer = layer_information(sure.labels, made.index["layer"].to_numpy(), seed=part.seed)
        taken |= {"layer_information": layer["value"], "layer_p": layer["p_random"]}
        taken |= {f"layer_{name}": layer[name] for name in ("chance", "chance_low", "chance_high")}
    except StatisticsError as error:
        taken["reason"] = taken["reason"] or str(error)
    return sorted([*rows, taken], key=lambda row: row["k"] or 0)


def _described(
    workspace: Workspace,
    node: Node,
    sure: Stability,
    made: cluster_features.Features,
    values: dict[tuple[str, str], np.ndarray],
    trajectory: str,
) -> Tables:
    """The tables about the clusters themselves, on the evaluation half."""
    part, index = node.context["cluster"], workspace.neurons
    about = workspace.trajectory(trajectory, workspace.prompt_set(trajectory))
    settings = {"n_resamples": node.parameters["n_resamples"], "seed": node.parameters["seed"]}
    attacks = [(v, name, control_of(name)) for v, name in values if (v, control_of(name)) in values]
    prompts = {name: one_per_unit(workspace, name) for name in {name for _, name in values}}
    profiles = cluster_description.profiles(sure.labels, made, values, about.calls)
    effects = cluster_description.effects(sure.labels, made, values, index, attacks, n_random=part.n_random, **settings)
    top = cluster_description.top_prompts(sure.labels, made, values, prompts)
    where = cluster_description.layers(sure.labels, made)
    score = read_table(workspace.result("score") / "neurons.parquet")
    concept = score["in_concept"].to_numpy()[made.position]
    rows = sure.clusters.rename(columns={"n": "n_neurons"}).to_dict("records")
    for row in rows:
        own = sure.labels == row["cluster"]
        row |= {"n_concept": int((own & concept).sum()), "n_layers": int(made.index["layer"][own].nunique())}
        row |= {"n_resamples": part.n_resamples, "file": f"neuron-sets/cluster-{row['cluster']}.safetensors"}

    def named(row: Row) -> Row:
        return row | Condition(row["variant"], row["prompt_set"]).keys(workspace)

    # a column of counts with a gap in it is one of floats
    effects["n_random"] = effects["n_random"].astype("Int64")
    times = dict(zip(about.calls, about.timesteps, strict=True))
    lines = [named(row) | {"timestep": float(times[row["call"]])} for row in profiles.to_dict("records")]
    wanted = ["cluster", "variant", "prompt_set", "rank", "value", "id", "unit", "prompt"]
    return {
        "clusters": rows,
        "cluster_effects": [named(row) for row in effects.astype(object).where(effects.notna(), None).to_dict("records")],
        "cluster_profiles": lines,
        "cluster_layers": where.to_dict("records"),
        "cluster_prompts": top[wanted].to_dict("records"),
    }


def one_per_unit(workspace: Workspace, name: str) -> pandas.DataFrame:
    """Data frame, the first prompt of each unit of the evaluation half, in the order of `workspace.units`."""
    prompts = workspace.prompt_set(name).table.drop_duplicates("unit").set_index("unit", drop=False)
    return prompts.loc[[unit for unit, mine in zip(workspace.units, workspace.units_in_half_a(), strict=True) if not mine]]


def rows(workspace: Workspace, table: pandas.DataFrame) -> Tables:
    """{table: rows} of what the stage wrote; empty where the study does not ask."""
    found_rows: Tables = {name: [] for name in TABLES}
    for folder in workspace.results("cluster"):
        found_rows |= read_json(folder / "tables.json")
    return found_rows


def columns(workspace: Workspace) -> dict[str, np.ndarray]:
    """{column of the neuron table: (neuron,)}: the cluster, NaN where it was not clustered, -1 where it is in none; how often it
    came back; its place in the plane."""
    new = {}
    for folder in workspace.results("cluster"):
        own = read_table(folder / "neurons.parquet").set_index("position")
        for name, column in (("cluster", "cluster"), ("cluster_kept", "kept"), ("cluster_x", "x"), ("cluster_y", "y")):
            new[name] = own[column].astype(float).reindex(range(len(workspace.neurons))).to_numpy()
    return new


def cluster_files(workspace: Workspace) -> list[Path]:
    """Paths of the saved neuron sets of the clusters."""
    return [path for folder in workspace.results("cluster") for path in sorted(folder.glob("cluster-*.safetensors"))]


def members(workspace: Workspace) -> dict[str, np.ndarray]:
    """{cluster: (neuron,) bool over all recorded neurons}."""
    return {
        f"cluster {path.stem.split('-')[1]}": neuron_sets.NeuronSet.load(path).to_boolean(workspace.neurons)
        for path in cluster_files(workspace)
    }
