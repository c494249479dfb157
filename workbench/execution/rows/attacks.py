"""Rows of report.json about attacks: settings and cost of each, and success in the attack-visible detector against budget."""

import json
from collections.abc import Collection

from workbench.analysis import budget
from workbench.execution.condition import Condition
from workbench.execution.plan import Node
from workbench.execution.rows import Row
from workbench.execution.workspace import Workspace
from workbench.storage import read_table
from workbench.study.attacks import AttackTable
from workbench.study.study import BASE


def settings_rows(workspace: Workspace) -> list[Row]:
    """Each attack under its name in all tables: method, preset, settings, and its mean cost of a prompt.

    Seconds differ from run to run, so they are no result of the stage that measures: `with_seconds` fills them in.
    """
    parts: dict[str | None, AttackTable] = {part.label: part for part in workspace.study.attacks}
    rows = []
    for node in workspace.plan.of_stage("attack"):
        planned = next(planned for planned in workspace.plan.sets.values() if planned.node == node.id)
        settings = ", ".join(f"{key} = {json.dumps(value)}" for key, value in node.parameters["parameters"].items())
        about = {"attack": planned.attack, "method": node.parameters["method"], "preset": parts[planned.attack].preset}
        about |= {"against": planned.against, "settings": settings, "n": len(workspace.prompt_set("target"))}
        rows.append(about | _spent(workspace, node) | {"seconds": None})
    return rows


def with_seconds(workspace: Workspace, rows: list[Row]) -> list[Row]:
    """The rows of `settings_rows` with the seconds a prompt took, mean."""
    return [
        row | {"seconds": _spent(workspace, node)["seconds"]} for row, node in zip(rows, workspace.plan.of_stage("attack"), strict=True)
    ]


def _spent(workspace: Workspace, node: Node) -> Row:
    folder, ids = workspace.result(node.id), workspace.prompt_set("target").table["id"].tolist()
    return budget.spent(read_table(folder / "log.parquet"), read_table(folder / "seconds.parquet"), ids)


def budget_rows(workspace: Workspace, attacks: Collection[str] | None = None) -> list[Row]:
    """Every attack with detector queries, and its control, at the budgets at which either of them made one.

    attacks   names of the attacks wanted, as every table calls them; default: all of the study
    """
    rows, targets = [], workspace.prompt_set("target")
    for node in workspace.plan.of_stage("attack"):
        names = {planned.control: name for name, planned in workspace.plan.sets.items() if planned.node == node.id}
        if attacks is not None and workspace.plan.sets[names[False]].attack not in attacks:
            continue
        log = read_table(workspace.result(node.id) / "log.parquet")
        logs = {control: log[log["of"] == name] for control, name in ((False, "attack"), (True, "control"))}
        if not len(budget.looked(logs[False])):
            continue
        points = sorted({point for part in logs.values() for point in budget.budgets(part)})
        for control, part in logs.items():
            keys = Condition(node.variant or BASE, names[control]).keys(workspace) | {"detector": workspace.detector("steer").version}
            rows += budget.success_rows(part, targets.table["id"].tolist(), points, targets.units, **keys)
    return rows
