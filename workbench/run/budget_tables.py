"""Rows of report.json that come from the logs of attacks: success in the steering detector against budget."""

from workbench.analysis import budget
from workbench.run.image_tables import labels
from workbench.storage import read_table
from workbench.study.study import BASE


def budget_rows(room):
    """Every attack that looked at the detector, and its control, at the budgets at which either of them looked."""
    rows, ids = [], room.prompt_set("target").table["id"].tolist()
    for node in room.plan.of_stage("attack"):
        log = read_table(room._folder(node.id) / "log.parquet")
        logs = {control: log[log["of"] == name] for control, name in ((False, "attack"), (True, "control"))}
        if not len(budget.looked(logs[False])):
            continue
        points = sorted({point for part in logs.values() for point in budget.budgets(part)})
        names = {planned.control: name for name, planned in room.plan.sets.items() if planned.node == node.id}
        for control, part in logs.items():
            keys = labels(room, node.variant or BASE, names[control]) | {"detector": room.detector("steer").version}
            rows += budget.success_rows(part, ids, points, **keys)
    return rows
