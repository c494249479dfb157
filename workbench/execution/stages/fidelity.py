"""The stage `fidelity`: do cheap scores say what happens when neurons are ablated?

Scores against exact ablation, of single neurons and of random sets, on a sample of the evaluation half.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas

from workbench.analysis import fidelity as checks
from workbench.errors import StatisticsError
from workbench.execution.attribution_inputs import condition, layers, rows_of
from workbench.execution.condition import Condition
from workbench.execution.graph import Graph, NodeSpec
from workbench.execution.plan import Node, Shard
from workbench.execution.rows import Tables
from workbench.execution.stages.attribute import COMPARES, STEPS, asked
from workbench.execution.workspace import Workspace
from workbench.storage import plain_json, read_json, write_json
from workbench.study.attribute import Attribute
from workbench.study.study import BASE, Study

VERSION = 1
UNITS = 8  # of the evaluation half
SAMPLE, TOP, N_SETS, SET_SHARE = 200, 50, 100, 0.01
EMPTY = dict.fromkeys(("share", "n_units", "n", "spearman", "pearson", "passes", "reason"))
EMPTY |= {f"{name}_{end}": None for name in ("spearman", "pearson") for end in ("low", "high")}


def probed(study: Study, part: Attribute, graph: Graph) -> tuple[dict[str, Any], dict[str, Any]]:
    """(parameters, context) of nodes that ask a few units about the target of [attribute]."""
    parameters, context = asked(study, part, graph)
    return parameters | {"units": UNITS}, context


def nodes(study: Study, graph: Graph) -> Iterator[NodeSpec]:
    """fidelity:base:target, one shard for single neurons, one for random sets."""
    part = study.attribute
    if not (part and part.fidelity):
        return
    parameters, context = probed(study, part, graph)
    scored = sum(COMPARES[part.target] + 2 + STEPS[method] for method in part.methods)
    parameters |= {"methods": part.methods, "share": SET_SHARE, "jobs": [["neurons", [SAMPLE, TOP]], ["sets", [N_SETS]]]}
    yield NodeSpec(
        Condition(BASE, "target").node("fidelity"),
        "fidelity",
        parameters | {"prompts": graph.written(["target", "reference"])},
        tuple(graph.needed(BASE, "target")),
        BASE,
        "target",
        ((0, 1), (1, 2)),
        "jobs",
        context=context,
        passes=graph.n_rows(UNITS) * len(parameters["calls"]) * (SAMPLE + TOP + N_SETS + 2 * scored),
        bytes=4000,
    )


def run(workspace: Workspace, node: Node, shard: Shard, out: Path) -> None:
    """rows.json: the rows of fidelity.one_by_one or by_sets, or one that says why there is none."""
    given = node.parameters
    job, size = given["jobs"][shard.start]
    methods: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in given["methods"]}
    common = {"batch": workspace.batch, "seed": given["seed"]}
    units, calls, target_name = rows_of(workspace, "b", given["units"]), node.context["calls"], given["target"]
    try:
        with condition(workspace, *node.condition, units, calls, target_name) as (items, target):
            if job == "neurons":
                table = checks.one_by_one(workspace.model, layers(workspace), items, target, methods, *size, **common)
            else:
                table = checks.by_sets(workspace.model, layers(workspace), items, target, methods, given["share"], size[0], **common)
        rows = table.rename(columns={"n_neurons": "n", "n_sets": "n"}).to_dict("records")
    except StatisticsError as error:
        rows = [{"method": ", ".join(methods), "target": target_name, "reason": str(error)}]
    write_json(out / "rows.json", plain_json([{"where": "sets", **row} for row in rows]))


def rows(workspace: Workspace, table: pandas.DataFrame) -> Tables:
    """{"fidelity": rows} of report.json."""
    found = []
    for node in workspace.plan.of_stage("fidelity"):
        about = node.condition.keys(workspace)
        for shard in node.shards:
            found += [about | EMPTY | row for row in read_json(workspace.store.file("fidelity", shard.key, "rows.json"))]
    return {"fidelity": found}
