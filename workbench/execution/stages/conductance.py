"""The stage `conductance`: how much of the target flows from the text through each neuron, in every attributed condition.

What it writes reads like what `attribute` writes, and stands beside it in the report's table and in the neuron table. Its nodes are
separate, so that adding conductance does not invalidate nodes that read attributions.
"""

from collections.abc import Iterator
from pathlib import Path

from workbench.analysis.conductance import conductance
from workbench.execution.attribution_inputs import condition, layers, rows_of
from workbench.execution.condition import Condition
from workbench.execution.graph import Graph, NodeSpec
from workbench.execution.plan import Node, Shard
from workbench.execution.stages.attribute import COMPARES, GRADIENT, asked, attributed, kept
from workbench.execution.workspace import Workspace
from workbench.models import text
from workbench.study.study import Study

VERSION = 1
STEPS = 16


def nodes(study: Study, graph: Graph) -> Iterator[NodeSpec]:
    """conductance:<variant>:<prompt set>, one shard per half of the units."""
    part = study.attribute
    if not (part and part.conductance):
        return
    parameters, context = asked(study, part, graph)
    jobs = [["conductance", half] for half in ("a", "b")]
    n_rows = sum(graph.n_rows(part.units, half) for _, half in jobs)
    for variant, name in attributed(part, graph):
        yield NodeSpec(
            Condition(variant, name).node("conductance"),
            "conductance",
            parameters | {"set": name, "steps": STEPS, "jobs": jobs, "prompts": graph.written(["target", "reference", name])},
            tuple(graph.needed(variant, name)),
            variant,
            name,
            ((0, 1), (1, 2)),
            "jobs",
            context=context,
            passes=(COMPARES[part.target] + (STEPS + 1) * GRADIENT) * n_rows * len(parameters["calls"]),
            bytes=graph.n_neurons * (48 + 4 * n_rows),
        )


def run(workspace: Workspace, node: Node, shard: Shard, out: Path) -> None:
    """The files of attribute.kept, on one half of the units."""
    given, own = node.parameters, layers(workspace)
    _, half = given["jobs"][shard.start]
    rows, calls = rows_of(workspace, half, given["units"]), node.context["calls"]
    with condition(workspace, *node.condition, rows, calls, given["target"]) as (items, target):
        empty = text.unconditional(workspace.model)
        every = range(sum(layer.n_neurons for layer in own))
        made = conductance(workspace.model, own, items, target, empty, n_steps=given["steps"], watch=every, batch=workspace.batch)
    kept(made, items, out)
