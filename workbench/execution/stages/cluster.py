"""The stage `cluster`, and what the report says of it: made on half A, described on half B.

cluster         each cluster is saved as a neuron set
to_cluster      which neurons are clustered
cluster_files, members    the saved sets
one_per_unit, headline_trajectory    prompts and recordings that describe them
columns         columns of the neuron table
"""

import numpy as np

from workbench.analysis import cluster_description, cluster_features, clusters
from workbench.analysis.cluster_stability import choose_k, layer_information, stability
from workbench.errors import StatisticsError
from workbench.execution import neuron_choice
from workbench.execution.attribution_inputs import here, spread
from workbench.execution.rows.rates import labels
from workbench.execution.stages.attribute import found, leading
from workbench.neurons import sets as neuron_sets
from workbench.report.document import plain
from workbench.storage import read_json, read_table, write_json, write_table
from workbench.study.prompt_set_name import control_of

TABLES = ("cluster_choice", "clusters", "cluster_effects", "cluster_profiles", "cluster_layers", "cluster_prompts")
RANGE = (2, 8)
NO_INFORMATION = dict.fromkeys(f"layer_{name}" for name in ("information", "chance", "chance_low", "chance_high", "p"))


def cluster(workspace, node, shard, folder):
    """tables.json, neurons.parquet (one row per clustered neuron) and cluster-<n>.safetensors, a NeuronSet each."""
    study, part, index = workspace.study, workspace.study.cluster, workspace.neurons
    trajectory, half = headline_trajectory(study), workspace.units_in_half_a()
    recorded = {tuple(c): workspace.unit_means(c[1], workspace.mean_abs(*c, trajectory)) for c in node.parameters["conditions"]}
    a, b = ({c: array[rows] for c, array in recorded.items()} for rows in (half, ~half))
    members, credits = to_cluster(workspace), _credits(workspace)

    def make(weights):
        given = {name: credit(weights) for name, credit in credits.items()}
        return cluster_features.features(a, index, members, given, weights)

    made = make(None)
    n_units, settings = (
        int(half.sum()),
        {"n_resamples": part.n_resamples, "seed": part.seed, "parts": _chosen_for(workspace)[made.position]},
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
    written = {name: [] for name in TABLES} | {"cluster_choice": choices}
    if sure.labels.max() >= 0:
        about = {"study": study.name, "concept": study.concept.name, "method": part.method, "half": "a", "share": part.share}
        groups = clusters.as_sets(sure.labels, made, workspace.model.digest(), about)
        for number, group in groups.items():
            group.save(folder / f"cluster-{number}.safetensors")
        written |= _described(workspace, node, sure, made, b, trajectory)
    write_json(folder / "tables.json", plain(written))
    table = made.index[["layer", "index"]].assign(position=made.position, cluster=sure.labels, kept=sure.kept)
    try:
        plane = clusters.embed(made)[0].set_index("position")
        table["x"], table["y"] = (plane[axis].reindex(table["position"]).to_numpy() for axis in "xy")
    except StatisticsError:
        table["x"] = table["y"] = np.nan  # too few neurons or features to span a plane
    write_table(folder / "neurons.parquet", table)


def to_cluster(workspace):
    """(neuron,) bool: the concept and suppressed set, and of the site ff the share with the largest score of either sign, by the
    choosing score and, where it is a feature, by the leading attribution; all on half A.
    """
    return _chosen_for(workspace) > 0


def _chosen_for(workspace):
    """(neuron,) what a neuron is clustered for: 0 not at all, else a number for each pair of the sign of the choosing score, and of the
    leading attribution, where these are among the largest. Neurons of two signs are two groups by this choice alone.
    """
    study, ff = workspace.study, here(workspace)
    table = read_table(workspace._folder("score") / "neurons.parquet")
    value = neuron_choice.value(study.choose, table)
    members = (table["in_concept"] | table["in_suppressed"]).to_numpy() & ff
    members |= neuron_sets.top(np.abs(value), study.cluster.share, ff)
    reasons = np.where(members, 1 + (value < 0), 0)
    first = leading(workspace) if study.cluster.attribution is not False else None
    if first is None:
        return reasons
    return reasons + np.where(neuron_sets.top(np.abs(first), study.cluster.share, ff), 3 * (1 + (first < 0)), 0)


def _credits(workspace):
    """{feature: weights or None -> (neuron,)}: attribution of every attributed condition on half A, as a feature of clusters.

    A resample of the units resamples the attribution too, where it has all units of the half.
    """
    if workspace.study.cluster.attribution is False or not workspace.study.attribute:
        return {}
    method = workspace.study.attribute.methods[0]
    names = [unit for unit, mine in zip(workspace.units, workspace.units_in_half_a(), strict=True) if mine]

    def credit(one):
        place = [one.about["units"].index(unit) for unit in names] if set(names) == set(one.about["units"]) else None

        def of(weights):
            value = one.value if weights is None or place is None else weights @ one.per_unit[place].astype(float)
            return np.nan_to_num(spread(workspace, value))

        return of

    pruned = {variant.name for variant in workspace.study.variants if variant.role == "pruned"}
    nodes = [node for node in workspace.plan.of_stage("attribute") if node.variant not in pruned]
    return {f"{node.variant} x {node.prompt_set}": credit(found(workspace, node.variant, node.prompt_set, method, "a")) for node in nodes}


def _chosen(choices, sure, made, part):
    """Rows of cluster_choice: every k that was tried, and what was taken, of which it is said whether clusters are just layers."""
    taken = sure.row | {"chosen": True} | NO_INFORMATION
    rows = [row | {"chosen": False} | NO_INFORMATION for row in choices if row["k"] != taken["k"]]
    if choices and not any(row["chosen"] for row in choices):
        tried = f"from {choices[0]['k']} to {choices[-1]['k']}"
        why = taken["reason"] or "of all neurons it is, of the sample that was tried it is not"
        taken["reason"] = f"no number of clusters {tried} is both stable and grouped; {taken['k']}, the most stable, was taken: {why}"
    try:
        layer = layer_information(sure.labels, made.index["layer"].to_numpy(), seed=part.seed)
        taken |= {"layer_information": layer["value"], "layer_p": layer["p_random"]}
        taken |= {f"layer_{name}": layer[name] for name in ("chance", "chance_low", "chance_high")}
    except StatisticsError as error:
        taken["reason"] = taken["reason"] or str(error)
    return sorted([*rows, taken], key=lambda row: row["k"] or 0)


def _described(workspace, node, sure, made, values, trajectory):
    """The tables about the clusters themselves, on half B."""
    study, part, index = workspace.study, workspace.study.cluster, workspace.neurons
    about = workspace.trajectory(trajectory, workspace.prompt_set(trajectory))
    settings = {"n_resamples": study.choose.n_resamples, "seed": study.choose.seed}
    attacks = [(v, name, control_of(name)) for v, name in values if (v, control_of(name)) in values]
    prompts = {name: one_per_unit(workspace, name) for name in {name for _, name in values}}
    profiles = cluster_description.profiles(sure.labels, made, values, about.calls)
    effects = cluster_description.effects(sure.labels, made, values, index, attacks, n_random=part.n_random, **settings)
    top = cluster_description.top_prompts(sure.labels, made, values, prompts)
    where = cluster_description.layers(sure.labels, made)
    score = read_table(workspace._folder("score") / "neurons.parquet")
    concept = score["in_concept"].to_numpy()[made.position]
    rows = sure.clusters.rename(columns={"n": "n_neurons"}).to_dict("records")
    for row in rows:
        own = sure.labels == row["cluster"]
        row |= {"n_concept": int((own & concept).sum()), "n_layers": int(made.index["layer"][own].nunique())}
        row |= {"n_resamples": part.n_resamples, "file": f"neuron-sets/cluster-{row['cluster']}.safetensors"}

    def named(row):
        return row | labels(workspace, row["variant"], row["prompt_set"])

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


def one_per_unit(workspace, name):
    """Data frame, the first prompt of each unit of half B, in the order of `workspace.units`."""
    prompts = workspace.prompt_set(name).table.drop_duplicates("unit").set_index("unit", drop=False)
    return prompts.loc[[unit for unit, mine in zip(workspace.units, workspace.units_in_half_a(), strict=True) if not mine]]


def headline_trajectory(study):
    """The trajectory of the headline numbers."""
    return "reference" if "reference" in study.record.trajectories else study.record.trajectories[0]


def rows(workspace):
    """{table: rows} of what the stage wrote; nothing where the study does not ask."""
    found_rows = {}
    for node in workspace.plan.of_stage("cluster"):
        found_rows |= read_json(_folder(workspace, node) / "tables.json")
    return found_rows


def columns(workspace):
    """{column of the neuron table: (neuron,)}, see analysing.with_columns."""
    new = {}
    for node in workspace.plan.of_stage("cluster"):
        own = read_table(_folder(workspace, node) / "neurons.parquet").set_index("position")
        for name, column in (("cluster", "cluster"), ("cluster_kept", "kept"), ("cluster_x", "x"), ("cluster_y", "y")):
            new[name] = own[column].astype(float).reindex(range(len(workspace.neurons))).to_numpy()
    return new


def cluster_files(workspace):
    """Paths of the saved neuron sets of the clusters."""
    return [path for node in workspace.plan.of_stage("cluster") for path in sorted(_folder(workspace, node).glob("cluster-*.safetensors"))]


def members(workspace):
    """{cluster: (neuron,) bool over all recorded neurons}."""
    return {
        f"cluster {path.stem.split('-')[1]}": neuron_sets.NeuronSet.load(path).to_boolean(workspace.neurons)
        for path in cluster_files(workspace)
    }


def _folder(workspace, node):
    return workspace.store.result(node.stage, node.shards[0].key)
