"""CSV files with the canonical columns: fractions, full precision, an empty cell for null."""

import csv
import io
import json

from workbench.errors import RunError
from workbench.report.document import TABLES, columns

# A spreadsheet runs a cell that begins like this as a formula, and prompts come from anywhere.
FORMULA = ("=", "+", "-", "@", "'", "\t", "\r")


def to_csv(rows, table):
    """The rows of a table of report.json as CSV text, columns in canonical order."""
    names = columns(table)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_cell(row[name], TABLES[table][name]) for name in names])
    return text.getvalue()


def from_csv(text, table):
    """The rows again, with the types of the schema; the inverse of to_csv."""
    reader = csv.reader(io.StringIO(text))
    names = next(reader, [])
    if names != columns(table):
        raise RunError(f"The CSV of {table} has the columns {', '.join(names)}; expected: {', '.join(columns(table))}.")
    return [{name: _value(cell, TABLES[table][name]) for name, cell in zip(names, row, strict=True)} for row in reader]


def _cell(value, kind):
    if value is None:
        return ""
    if kind.startswith("list"):
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    if kind.startswith("flag"):
        return "true" if value else "false"
    if kind.startswith("text"):
        return f"'{value}" if value.startswith(FORMULA) else value
    return repr(value)


def _value(cell, kind):
    if cell == "" and kind != "text":
        return None
    if kind.startswith("list"):
        return json.loads(cell)
    if kind.startswith("flag"):
        return cell == "true"
    if kind.startswith("text"):
        return cell.removeprefix("'")
    return int(cell) if kind.startswith("count") else json.loads(cell)
