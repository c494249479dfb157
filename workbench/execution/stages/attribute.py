"""The stage `attribute`, and the rows of the report about it and about the stage `conductance`.

run                 scores of every neuron of one condition, by one method, on one half of the units
attributed, asked   the conditions that [attribute] asks for, and what all nodes about its target depend on
kept                writes scores, and those of the stage `conductance`
Found, found        what a shard of either found
leading             base x target by the first method on the selection half: what rankings and clusters read
rows                {"attribution": rows} of report.json
columns             columns of the neuron table
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch

from workbench.analysis import attribution
from workbench.diffusion.targets import Items
from workbench.errors import StatisticsError, StudyError, nearest
from workbench.execution.attribution_inputs import condition, here, layers, rows_of, spread
from workbench.execution.condition import Condition
from workbench.execution.graph import Graph, NodeSpec
from workbench.execution.plan import Node, Shard
from workbench.execution.rows import Row, Tables
from workbench.execution.workspace import Workspace
from workbench.statistics import jackknife, matched_random_sets, permutation_p
from workbench.storage import read_arrays, read_json, read_table, write_arrays, write_json, write_table
from workbench.study.attribute import Attribute
from workbench.study.study import BASE, Study

VERSION = 1
GRADIENT = 2.5  # UNet evaluations that one with gradient costs
COMPARES = {"T1": 1, "T2": 3, "T3": 1, "T4": 0}  # evaluations for what a target compares with
STEPS = {"gradient": GRADIENT, "integrated": 16 * GRADIENT, "curvature": 2 * GRADIENT}


def attributed(part: Attribute, graph: Graph) -> list[Condition]:
    """The conditions that [attribute] asks for.

    Raises   StudyError for a prompt set the study does not have
    """
    for name in part.prompt_sets or []:
        if name not in graph.sets:
            raise StudyError(f'attribute.prompt_sets names "{name}", which is no prompt set of this study.{nearest(name, graph.sets)}')
    pairs = []
    for variant in part.variants or [BASE, *graph.plain]:
        sets = part.prompt_sets or ["target", *(graph.met(variant) if variant != BASE else [])]
        pairs += [Condition(variant, name) for name in sets]
    return pairs


def attributed_calls(part: Attribute, graph: Graph) -> list[int]:
    """The calls that are attributed; StudyError for one that is not recorded."""
    calls = part.calls
    for call in calls or []:
        if call not in graph.calls:
            raise StudyError(
                f"attribute.calls names call {call}, which is not recorded; recorded are {', '.join(map(str, graph.calls))}. "
                "Attribution needs the latents kept there."
            )
    return sorted(set(calls)) if calls else list(graph.calls)


def asked(study: Study, part: Attribute, graph: Graph) -> tuple[dict[str, Any], dict[str, Any]]:
    """(parameters, context) of every node about the target of [attribute].

    The detector of T4 finds nothing in calls that are too noisy: these are left out unless the study lists the calls.
    """
    calls = attributed_calls(part, graph)
    parameters: dict[str, Any] = graph.model | graph.halves | {"target": part.target, "calls": calls}
    parameters |= {"units": part.units, "seed": study.choose.seed}
    if part.target == "T4":
        parameters |= {"steer": graph.looks["steer"], "labels": graph.looks["labels"]} | ({"listed": True} if part.calls else {})
    return parameters, {"calls": part.calls and calls}


def nodes(study: Study, graph: Graph) -> Iterator[NodeSpec]:
    """attribute:<variant>:<prompt set>, one shard per method and half of the units."""
    part = study.attribute
    if not part:
        return
    parameters, context = asked(study, part, graph)
    jobs = [[method, half] for method in part.methods for half in ("a", "b")]
    for variant, name in attributed(part, graph):
        each = COMPARES[part.target] + 2
        yield NodeSpec(
            Condition(variant, name).node("attribute"),
            "attribute",
            parameters | {"prompts": graph.written(["target", "reference", name]), "set": name, "jobs": jobs},
            tuple(graph.needed(variant, name)),
            variant,
            name,
            tuple((place, place + 1) for place in range(len(jobs))),
            "jobs",
            context=context,
            passes=sum((each + STEPS[method]) * graph.n_rows(part.units, half) * len(parameters["calls"]) for method, half in jobs),
            bytes=sum(graph.n_neurons * (24 + 4 * graph.n_rows(part.units, half)) for _, half in jobs),
        )


def run(workspace: Workspace, node: Node, shard: Shard, out: Path) -> None:
    """scores.safetensors: value, low, high (neuron,), per_unit (unit, neuron), of the site ff; items.parquet; about.json."""
    given, own = node.parameters, layers(workspace)
    method, half = given["jobs"][shard.start]
    n_neurons = sum(layer.n_neurons for layer in own)
    rows = rows_of(workspace, half, given["units"])
    with condition(workspace, *node.condition, rows, node.context["calls"], given["target"]) as (items, target):
        batch, seed = workspace.batch, given["seed"]
        made = attribution.attribute(workspace.model, own, items, target, method, watch=range(n_neurons), batch=batch, seed=seed)
    kept(made, items, out)


def kept(made: attribution.Attribution, items: Items, folder: Path) -> None:
    """Write an Attribution that watched every neuron; `Found` reads it."""
    arrays = {name: torch.tensor(made.scores[name].to_numpy(float)) for name in ("value", "low", "high")}
    per_unit = np.stack([made.watched[neuron] for neuron in range(len(made.scores))], axis=1)
    arrays["per_unit"] = torch.tensor(per_unit, dtype=torch.float32)
    write_arrays(folder / "scores.safetensors", arrays)
    write_table(folder / "items.parquet", made.items)
    about = {"target": made.target, "complete": made.complete, "calls": made.calls, "settings": made.settings, "passes": made.passes}
    write_json(folder / "about.json", about | {"units": sorted(set(items.units)), "n_prompts": made.n_prompts})


class Found:
    """What a shard of `attribute` or `conductance` found; arrays are over the neurons of the site ff.

    value, low, high   (neuron,);  per_unit (unit, neuron), units in the order of `about["units"]`;  items  data frame
    """

    def __init__(self, folder: Path) -> None:
        arrays = read_arrays(folder / "scores.safetensors")
        self.value, self.low, self.high, self.per_unit = (arrays[name].numpy() for name in ("value", "low", "high", "per_unit"))
        self.items, self.about = read_table(folder / "items.parquet"), read_json(folder / "about.json")


def read_found(workspace: Workspace, node: Node, method: str, half: str) -> Found:
    """The Found of a node of `attribute` or `conductance`, for one of its methods and one half."""
    shard = next(one for one in node.shards if node.parameters["jobs"][one.start] == [method, half])
    return Found(workspace.store.result(node.stage, shard.key))


def found(workspace: Workspace, variant: str, prompt_set: str, method: str, half: str) -> Found | None:
    """The Found of one condition, method and half; None when the study does not ask for it."""
    for node in _nodes(workspace):
        if node.condition == (variant, prompt_set) and [method, half] in node.parameters["jobs"]:
            return read_found(workspace, node, method, half)
    return None


def _nodes(workspace: Workspace) -> list[Node]:
    """Every condition that was attributed, then the same ones by conductance."""
    return workspace.plan.of_stage("attribute") + workspace.plan.of_stage("conductance")


def leading(workspace: Workspace) -> np.ndarray | None:
    """(neuron,) over all recorded neurons: base x target by the first method on the selection half, NaN elsewhere; or None."""
    method = leading_method(workspace)
    first = None if method is None else found(workspace, BASE, "target", method, "a")
    return None if first is None else spread(workspace, first.value)


def leading_method(workspace: Workspace) -> str | None:
    """The first method of [attribute]; None where the study does not ask for attribution."""
    nodes = workspace.plan.of_stage("attribute")
    return nodes[0].parameters["jobs"][0][0] if nodes else None


def rows(workspace: Workspace, table: pandas.DataFrame) -> Tables:
    """The target's value, how complete the attribution is, and how much of it goes to the concept set; all on the evaluation half."""
    nodes = _nodes(workspace)
    if not nodes:
        return {"attribution": []}
    choose, rows, ff = workspace.study.choose, [], here(workspace)
    concept, suppressed = (table[name].to_numpy()[ff] for name in ("in_concept", "in_suppressed"))
    layer = table["layer"].to_numpy()[ff]
    try:
        random, reason = matched_random_sets(concept, layer, choose.n_random, choose.seed + 1, suppressed), None
    except StatisticsError as error:
        random, reason = None, str(error)
    for node in nodes:
        keys = node.condition.keys(workspace)
        for method in dict.fromkeys(method for method, _ in node.parameters["jobs"]):
            one = read_found(workspace, node, method, "b")
            whole, about = one.items, one.about
            value = jackknife(lambda mean: mean, whole["unit"].tolist(), whole["value"])
            credit = jackknife(lambda mean: mean, about["units"], one.per_unit[:, concept].sum(axis=1))
            row = keys | {"method": method, "target": about["target"], "calls": about["calls"], "complete": about["complete"]}
            row |= {"n": value.n, "n_prompts": about["n_prompts"], "value": value.value, "low": value.low, "high": value.high}
            row |= {name: whole[name].mean() for name in ("off", "explained", "delta")} | {"n_neurons": int(concept.sum())}
            row |= {"credit": credit.value, "credit_low": credit.low, "credit_high": credit.high}
            row |= _beside_random(credit.value, one.value, random)
            rows.append(row | {"passes": sum(about["passes"].values()), "reason": reason})
    return {"attribution": rows}


def _beside_random(credit: float, value: np.ndarray, random: np.ndarray | None) -> Row:
    """p, number and band of the same sum over matched random sets (set, neuron); nulls where none could be drawn."""
    if random is None:
        return dict.fromkeys(("p_random", "n_random", "random_low", "random_high"))
    null = random @ value
    low, high = np.quantile(null, [0.025, 0.975])
    return {"p_random": permutation_p(credit, null), "n_random": len(null), "random_low": low, "random_high": high}


def columns(workspace: Workspace) -> dict[str, np.ndarray]:
    """{column of the neuron table: (neuron,)}, see measure.with_columns."""
    new = {}
    for node in _nodes(workspace):
        for method, half in node.parameters["jobs"]:
            one = read_found(workspace, node, method, half)
            new[f"attribution_{method}_{node.variant}_{node.prompt_set}_{half}"] = spread(workspace, one.value)
            if (*node.condition, method) == (BASE, "target", leading_method(workspace)):
                new["attribution" if half == "a" else "attribution_b"] = spread(workspace, one.value)
                if half == "b":
                    new |= {f"attribution_b_{end}": spread(workspace, getattr(one, end)) for end in ("low", "high")}
    return new
