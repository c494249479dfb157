"""CSV files with the canonical columns: fractions, full precision, an empty cell for null."""

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

from workbench.errors import RunError
from workbench.report.document import columns, tables
from workbench.report.table import Column

# A spreadsheet runs a cell that begins like this as a formula, and prompts come from anywhere.
FORMULA = ("=", "+", "-", "@", "'", "\t", "\r")


def to_csv(rows: Iterable[dict[str, Any]], table: str) -> str:
    """The rows of a table of report.json as CSV text, columns in canonical order."""
    text, rows = io.StringIO(), list(rows)
    written = tables()[table].written(rows)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.name for column in written])
    for row in rows:
        writer.writerow([_cell(row[column.name], column) for column in written])
    return text.getvalue()


def from_csv(text: str, table: str) -> list[dict[str, Any]]:
    """The rows again, with the types of the schema; the inverse of to_csv."""
    reader = csv.reader(io.StringIO(text))
    names = next(reader, [])
    all_of, rare = tables()[table].columns, {column.name for column in tables()[table].columns if column.rare}
    if [name for name in names if name not in rare] != [name for name in columns(table) if name not in rare]:
        raise RunError(f"The CSV of {table} has the columns {', '.join(names)}; expected: {', '.join(columns(table))}.")
    known, missing = [column for column in all_of if column.name in names], {name: None for name in rare if name not in names}
    return [{column.name: _value(cell, column) for column, cell in zip(known, row, strict=True)} | missing for row in reader]


def _cell(value: Any, column: Column) -> str:
    if value is None:
        return ""
    if column.type == "list":
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    if column.type == "flag":
        return "true" if value else "false"
    if column.type == "text":
        return f"'{value}" if value.startswith(FORMULA) else value
    return repr(value)


def _value(cell: str, column: Column) -> Any:
    if cell == "" and column.kind != "text":
        return None
    if column.type == "list":
        return json.loads(cell)
    if column.type == "flag":
        return cell == "true"
    if column.type == "text":
        return cell.removeprefix("'")
    return int(cell) if column.type == "count" else json.loads(cell)
