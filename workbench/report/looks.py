"""Colour, symbol and name of what the report draws: kinds of conditions, neuron sets, clusters, roles of neurons."""

from typing import Any

from workbench.report import wording
from workbench.report.charts.style import COLOURS, PALETTE, SYMBOLS

Look = dict[str, str]
KINDS: dict[str, Look] = {
    "target": {"colour": COLOURS["blue"], "symbol": "circle", "name": "without attack"},
    "reference": {"colour": COLOURS["black"], "symbol": "square-open", "name": "without the concept"},
    "attack": {"colour": COLOURS["vermillion"], "symbol": "diamond", "name": "attack"},
    "control": {"colour": COLOURS["vermillion"], "symbol": "diamond-open", "name": "control"},
    "false": {"colour": COLOURS["grey"], "symbol": "x", "name": "false positives"},
    "other": {"colour": COLOURS["purple"], "symbol": "square", "name": "other prompts"},
}
_SETS = {
    "concept": (COLOURS["blue"], "circle"),
    "watch": (COLOURS["green"], "triangle-up"),
    "pruned": (COLOURS["vermillion"], "x"),
    "suppressed": (COLOURS["purple"], "triangle-down"),
    "complement": (COLOURS["black"], "square-open"),
    "random": (COLOURS["grey"], "line-ns-open"),
}
SETS: dict[str, Look] = {
    name: {"colour": colour, "symbol": symbol, "name": wording.NEURON_SETS[name]} for name, (colour, symbol) in _SETS.items()
}
# roles that have a look of their own: column of the neuron table, name, colour, symbol
ROLES = (
    ("in_prune", "chosen, pruned", COLOURS["vermillion"], "x"),
    ("in_watch", "chosen, watched", COLOURS["green"], "triangle-up"),
    ("in_concept", "chosen", COLOURS["blue"], "circle"),
    (None, "measured only", COLOURS["grey"], "circle"),
)


def kind(row: dict[str, Any]) -> Look:
    """The look of a condition: attack, control, target, reference or other."""
    if row.get("control"):
        return KINDS["control"]
    if row.get("attack") is not None:
        return KINDS["attack"]
    name = row.get("prompt_set") or ""
    return KINDS[name if name in ("target", "reference") else "other"]


def neuron_set(row: dict[str, Any]) -> Look:
    """The look of a row's neuron set."""
    return SETS.get(row["neuron_set"], KINDS["other"] | {"name": row["neuron_set"]})


def cluster(number: float) -> Look:
    """Colour and symbol of a cluster; -1 = in none."""
    place = int(number)
    if place < 0:
        return {"colour": COLOURS["grey"], "symbol": "circle-open"}
    return {"colour": PALETTE[place % len(PALETTE)], "symbol": SYMBOLS[place % len(SYMBOLS)]}


def by_role(neurons: list[dict[str, Any]]) -> list[tuple[Look, list[dict[str, Any]]]]:
    """(look, its neurons) of every role of the neuron table that some neuron has, pruned ones drawn last."""
    groups: dict[str | None, list[dict[str, Any]]] = {}
    for neuron in neurons:
        role = next(column for column, *_ in ROLES if column is None or neuron.get(column))
        groups.setdefault(role, []).append(neuron)
    return [
        ({"name": name, "colour": colour, "symbol": symbol}, groups[column])
        for column, name, colour, symbol in reversed(ROLES)
        if column in groups
    ]
