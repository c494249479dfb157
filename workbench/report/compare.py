"""Finished reports held against a limit or against each other; rows in, rows out, nothing is measured again.

check        does a number of a report break a limit? for the exit code of a build; markdown, the same as a table
settings     what two studies say differently
differences  the numbers of two reports side by side
"""

import operator
import re
from collections.abc import Container
from typing import Any

from workbench.analysis.findings import OUTCOMES
from workbench.errors import RunError, nearest
from workbench.report.content import Document, Row
from workbench.report.document import tables
from workbench.storage import plain_json

OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
CONDITION = re.compile(r"\s*([a-z_]+)(?:\.(low|high))?\s*(>=|<=|>|<)\s*(-?\d+(?:\.\d*)?)\s*")
# what a condition may name: column of a table that says it, and the column of the number
NAMED = {"rates": ("definition", "rate"), "retention": ("kind", "rate"), "effects": ("effect", "value"), "quality": ("definition", "value")}
VALUES = {"rates": "rate", "retention": "rate", "effects": "value", "activity": "value", "quality": "value", "clip": "value"}
NO_LABELS = {"reason", "detector", "features", "model"}


def check(document: Document, condition: str) -> list[Row]:
    """Rows {variant, what, value, low, high, n, broken, reason} of every number a condition is about, controls left out.

    condition   NAME > NUMBER, NAME.low or NAME.high for an end of the interval; NAME as in the tables rates, retention, effects
                and quality, e.g. asr, near, reactivation. It says what must not be; a number that could not be measured breaks it.
                Or an outcome of the verdict, e.g. reactivated: see `outcomes`
    Raises      RunError for a condition that cannot be read, or that no row of the report is about
    """
    if any(condition.strip() in possible for possible in OUTCOMES.values()):
        return outcomes(document, condition.strip())
    found = CONDITION.fullmatch(condition)
    if not found:
        known = list(dict.fromkeys(outcome for possible in OUTCOMES.values() for outcome in possible))
        raise RunError(
            f'"{condition}" is no condition. Write for example: asr > 0.2, or asr.high > 0.2, or near < 0.8, or an outcome of the '
            f"verdict: {', '.join(known)}.{nearest(condition, known)}"
        )
    name, end, sign, limit = found.groups()
    rows, names = [], set()
    for table, (column, number) in NAMED.items():
        for row in document[table]:
            names.add(row[column])
            if row[column] != name or row.get("control"):
                continue
            value = row[end or number]
            keys = {key: row[key] for key in ("variant", "n", "low", "high", "reason")}
            broken = value is None or OPERATORS[sign](value, float(limit))
            rows.append(keys | {"what": _about(table, row, {"variant", column}), "value": row[number], "broken": broken})
    if not rows:
        raise RunError(f'The report has no number called "{name}".{nearest(name, names)}')
    return rows


def outcomes(document: Document, outcome: str) -> list[Row]:
    """Rows as of `check`, one for each finding of the verdict that can have the outcome; broken where it has it.

    Raises   RunError where the verdict has no such finding, or is older than findings
    """
    kinds = [kind for kind, possible in OUTCOMES.items() if outcome in possible]
    rows = []
    for word in document["verdict"]["words"]:
        if word.get("kind") not in kinds:
            continue
        first = word["evidence"][0] if word["evidence"] else dict.fromkeys(("value", "low", "high", "n"))
        about = {key: first[key] for key in ("value", "low", "high", "n")}
        rows.append(
            about
            | {"variant": word["variant"], "what": f"{word['subject']}: {word['outcome']}", "reason": None}
            | {"broken": word["outcome"] == outcome}
        )
    if not rows:
        raise RunError(
            f'No finding of this report can be "{outcome}": its verdict has nothing about {" or ".join(kinds)}, or was written before '
            "findings had a kind. Run the study again; what is finished is kept."
        )
    return rows


def markdown(checked: dict[str, list[Row]]) -> str:
    """{condition: rows of `check`} as a Markdown table."""
    lines = ["| must not be | variant | what | value | 95 % interval | n | |", "| --- | --- | --- | ---: | ---: | ---: | --- |"]
    for condition, rows in checked.items():
        for row in rows:
            value = "not measured" if row["value"] is None else f"{row['value']:.3f}"
            span = "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
            cells = (condition, row["variant"], row["what"], value, span, row["n"], "**broken**" if row["broken"] else "kept")
            lines.append(f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |")
    return "\n".join(lines)


def settings(a: Row, b: Row) -> list[Row]:
    """[{setting, a, b}] of two studies as dicts, with the path of every value that differs; None where one has none."""
    one, two = _flat(a), _flat(b)
    return [{"setting": key, "a": one.get(key), "b": two.get(key)} for key in dict.fromkeys([*one, *two]) if one.get(key) != two.get(key)]


def differences(a: Document, b: Document) -> list[Row]:
    """[{table, about, a, b, difference, apart}] of every number of two reports that differs; None where only one has it.

    apart   whether the two intervals do not meet; None where one is missing. Runs are not paired: for prompts in pairs put the
            variants into one study.
    """
    rows = []
    for table, number in VALUES.items():
        one, two = ({_about(table, row): row for row in document[table]} for document in (a, b))
        for about in dict.fromkeys([*one, *two]):
            x, y = (side.get(about) or _nothing(number) for side in (one, two))
            if x[number] == y[number]:
                continue
            missing = None in (x[number], y[number])
            ends = (x["low"], x["high"], y["low"], y["high"])
            apart = None if missing or None in ends else x["high"] < y["low"] or y["high"] < x["low"]
            difference = None if missing else y[number] - x[number]
            rows.append({"table": table, "about": about, "a": x[number], "b": y[number], "difference": difference, "apart": apart})
    return plain_json(rows)


def _nothing(number: str) -> Row:
    return dict.fromkeys((number, "low", "high"))


def _about(table: str, row: Row, without: Container[str] = ()) -> str:
    """What a row is about: its texts and flags, in the order of its table."""
    said = []
    for column in tables()[table].columns:
        name = column.name
        if name in NO_LABELS or name in without or row.get(name) is None:
            continue
        if column.type == "text":
            said.append(row[name])
        elif column.type == "flag" and row[name]:
            said.append(name)
    return ", ".join(said)


def _flat(value: Any, path: str = "") -> Row:
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        return {name: leaf for key, part in inner for name, leaf in _flat(part, f"{path}.{key}" if path else str(key)).items()}
    return {path: value}
