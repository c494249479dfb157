"""report.json as a JSON Schema, made from what the sections declare; docs/reference/report.schema.json is its copy.

It says the types, which keys there are and which may be null. What one key says about another (an interval turned round, a null without
its reason) is checked by `document.check` alone.
"""

from collections.abc import Iterable
from typing import Any

from workbench.report.document import SCHEMA_VERSION, objects, tables
from workbench.report.table import Column

DIALECT = "https://json-schema.org/draft/2020-12/schema"
KINDS: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "flag": {"type": "boolean"},
    "count": {"type": "integer"},
    "number": {"type": "number"},
    "share": {"type": "number", "minimum": 0, "maximum": 1},
    "p": {"type": "number", "minimum": 0, "maximum": 1},
    "list": {"type": "array"},
    "object": {"type": "object"},
}


def json_schema() -> dict[str, Any]:
    """The schema of a report.json that this workbench writes: every table and key is there, tables without rows are empty lists."""
    parts: dict[str, Any] = {"schema_version": {"const": SCHEMA_VERSION}}
    parts |= {one.name: _row(one.columns, one.open) for one in objects().values()}
    for name, table in tables().items():
        title = {"title": table.title} if isinstance(table.title, str) and table.title else {}
        there = "only a report where it has rows has it" if table.rare else "an older report may not have it"
        since = {"description": f"Since {table.since}; {there}."} if table.since else {}
        parts[name] = {"type": "array", **title, **since, "items": _row(table.columns)}
    parts["neuron_table"] = {"type": ["string", "null"], "description": "The file of the table of single neurons, beside report.json."}
    return {
        "$schema": DIALECT,
        "title": f"report.json of the Concept Erasure Workbench, schema version {SCHEMA_VERSION}",
        "description": "Shares and p values are fractions. A number has its interval (low, high; 95 %) and its n; a null has its reason.",
        "type": "object",
        "properties": parts,
        "required": [name for name in parts if name not in tables() or not tables()[name].rare],
        "additionalProperties": True,
    }


def _row(columns: Iterable[Column], extra: bool = False) -> dict[str, Any]:
    columns = list(columns)
    return {
        "type": "object",
        "properties": {column.name: _value(column) for column in columns},
        "required": [column.name for column in columns if not column.rare],
        "additionalProperties": extra,
    }


def _value(column: Column) -> dict[str, Any]:
    said = dict(KINDS[column.type])
    if column.of:
        inner = _row(column.of)
        said |= {"items": inner} if column.type == "list" else {name: part for name, part in inner.items() if name != "type"}
    if column.optional:
        said["type"] = [said["type"], "null"]
    if isinstance(column.title, str) and not column.cell:
        said["title"] = column.title
    if column.since:
        there = "there only where some row says something" if column.rare else "null in an older report"
        said["description"] = f"Since {column.since}; {there}."
    return said
