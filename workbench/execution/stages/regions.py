"""The stage `regions`, and its rows of the report: where in the image the neurons of each cluster are active.

For the units of the evaluation half that excite a cluster most, in the base model and under the first attack on the first variant.

Maps are recorded in the shared regime, on the base model's way to its target images, one prompt at a time.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas
import torch

from workbench.analysis import regions as maps
from workbench.analysis.cluster_description import top_prompts
from workbench.errors import RecordingMismatch, StatisticsError
from workbench.execution.attribution_inputs import encoded, layers, picked
from workbench.execution.condition import Condition
from workbench.execution.graph import Graph, NodeSpec
from workbench.execution.plan import Node, Shard
from workbench.execution.rows import Row, Tables
from workbench.execution.stages.cluster import one_per_unit
from workbench.execution.workspace import Workspace
from workbench.models.variants import applied
from workbench.neurons.sets import by_layer
from workbench.statistics import matched_random_sets, permutation_p
from workbench.storage import plain_json, read_json, read_table, write_arrays, write_json
from workbench.study.study import BASE, Study

VERSION = 1
N_RANDOM = 19
N_CLUSTERS = 5  # a guess for the estimate, where the study leaves k open
EVEN = maps.BRIGHT  # share of an evenly spread map in its brightest tenth


def nodes(study: Study, graph: Graph) -> Iterator[NodeSpec]:
    """regions: of base x target, and of the first non-sham variant under its first attack; one made against it takes precedence."""
    if not (study.cluster and study.cluster.regions):
        return
    pairs, n = [[BASE, "target"]], study.cluster.regions
    for variant in graph.plain[:1]:
        names = sorted(graph.met(variant), key=lambda name: graph.sets[name].against != variant)
        pairs += [[variant, name] for name in names[:1]]
    parameters = graph.model | graph.halves | {"regions": n, "n_random": N_RANDOM, "seed": study.choose.seed, "conditions": pairs}
    parameters |= {"trajectories": study.record.trajectories, "prompts": graph.written(["target", "reference"])}
    needed = [node for pair in pairs for node in graph.needed(*pair)]
    recorded = [Condition(variant, name).node("record") for variant, name in [[BASE, "reference"], *pairs]]
    n_maps = len(pairs) * n * N_CLUSTERS
    inputs = tuple(dict.fromkeys(["cluster", *recorded, *needed]))
    yield NodeSpec("regions", "regions", parameters, inputs, passes=n_maps * len(graph.calls), bytes=n_maps * 10_000)


def run(workspace: Workspace, node: Node, shard: Shard, out: Path) -> None:
    """rows.json, and maps.safetensors: "<cluster>|<variant>|<prompt set>|<rank>" (height, width) at the size of the latents."""
    given, rows, kept = node.parameters, [], {}
    table = read_table(workspace.result("cluster") / "neurons.parquet")
    numbers = sorted(set(table.loc[table["cluster"] >= 0, "cluster"].astype(int)))
    sets = {number: np.isin(np.arange(len(workspace.neurons)), table.loc[table["cluster"] == number, "position"]) for number in numbers}
    taken = np.any([np.zeros(len(workspace.neurons), bool), *sets.values()], axis=0)
    drawn = {number: _random(workspace, members, taken, given) for number, members in sets.items()}
    pairs = given["conditions"] if sets else []
    wanted = [((variant, name), row) for variant, name in pairs for row in _exciting(workspace, table, variant, name, given["regions"])]
    for done, ((variant, name), row) in enumerate(wanted, start=1):
        number = row["cluster"]
        random, reason = drawn[number]
        own = {"cluster": number, "variant": variant, "prompt_set": name, **{key: row[key] for key in ("rank", "id", "unit", "prompt")}}
        own |= {"n_neurons": int(sets[number].sum()), "even": EVEN}
        try:
            found, picture, n_tokens = _located(workspace, variant, name, row["place"], sets[number], random)
        except RecordingMismatch as error:
            rows.append(own | {"n_tokens": None, "share": None} | _beside(None, []) | {"reason": str(error)})
        else:
            rows.append(own | {"n_tokens": n_tokens, "share": found[0]} | _beside(found[0], found[1:]) | {"reason": reason})
            kept[f"{number}|{variant}|{name}|{row['rank']}"] = picture
        workspace.progress(done, len(wanted))
    write_json(out / "rows.json", plain_json(rows))
    write_arrays(out / "maps.safetensors", kept)


def _random(workspace: Workspace, members: np.ndarray, taken: np.ndarray, given: dict[str, Any]) -> tuple[np.ndarray, str | None]:
    """(set, neuron) matched random sets outside all clusters, and None; or none and why."""
    try:
        return matched_random_sets(members, workspace.neurons["layer"].to_numpy(), given["n_random"], given["seed"], taken & ~members), None
    except StatisticsError as error:
        return np.zeros((0, len(members)), bool), str(error)


def _exciting(workspace: Workspace, table: pandas.DataFrame, variant: str, name: str, n: int) -> list[Row]:
    """Rows of top_prompts of one condition on the evaluation half, with the row number of each prompt in the target set."""
    trajectory, half = workspace.headline_trajectory, workspace.units_in_half_a()
    pairs = [(BASE, "reference"), (variant, name)]
    values = {pair: workspace.unit_means(pair[1], workspace.mean_abs(pair[0], pair[1], trajectory))[~half] for pair in pairs}
    clustered = SimpleNamespace(position=table["position"].to_numpy())
    prompts = {name: one_per_unit(workspace, name)}
    found = top_prompts(table["cluster"].to_numpy(), clustered, values, prompts, variant, n).to_dict("records")
    units = list(workspace.prompt_set("target").units)
    return [row | {"place": units.index(row["unit"])} for row in found if row["prompt_set"] == name]


def _located(
    workspace: Workspace, variant: str, name: str, place: int, members: np.ndarray, random: np.ndarray
) -> tuple[list[float], torch.Tensor, int]:
    """(shares of the cluster and of its random sets, map of the cluster, tokens of its finest layer) on one prompt."""
    together = by_layer(workspace.neurons, np.any([members, *random], axis=0))
    plain_prompt = picked(workspace, "target", [place])
    with applied(workspace.model, workspace.variant(variant)), torch.no_grad():
        states = encoded(workspace, picked(workspace, name, [place]))
        recorded = maps.record_maps(workspace.model, states, workspace.trajectory("target", plain_prompt), layers(workspace), together)
    latent = workspace.model.latent_shape[-2:]
    sets = {which: SimpleNamespace(neurons=by_layer(workspace.neurons, one)) for which, one in enumerate((members, *random))}
    found, pictures = maps.regions(recorded, sets, latent, latent)
    n_tokens = max(values.shape[1] for values in recorded.part(sets[0].neurons).values.values())
    return found["share_in_brightest_tenth"].tolist(), pictures[0][0].half(), n_tokens


def _beside(share: float | None, null: Sequence[float]) -> Row:
    """p, number and band of the same share of the random sets, each in its own brightest tenth; nulls where none could be drawn."""
    if not null or share is None:
        return dict.fromkeys(("p_random", "n_random", "random_low", "random_high"))
    low, high = np.quantile(null, [0.025, 0.975])
    return {"p_random": permutation_p(share, null, "greater"), "n_random": len(null), "random_low": low, "random_high": high}


def rows(workspace: Workspace, table: pandas.DataFrame) -> Tables:
    """{table: rows} of what the stage wrote; empty where the study does not ask."""
    found = []
    for folder in workspace.results("regions"):
        for row in read_json(folder / "rows.json"):
            found.append(row | Condition(row["variant"], row["prompt_set"]).keys(workspace))
    return {"cluster_regions": found}
