"""The schema of report.json, the one source every renderer reads; `load` is the one reader of it."""

import json
import math
import reprlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import RunError, nearest
from workbench.storage import plain_json, write_text

if TYPE_CHECKING:
    from workbench.report.section import Section
    from workbench.report.table import Column, Object, Table

SCHEMA_VERSION = 1


class OtherVersion(RunError):
    """A report of a schema version that this workbench does not read."""


KINDS = {
    "text": (str,),
    "flag": (bool,),
    "count": (int,),
    "number": (int, float),
    "share": (int, float),
    "p": (int, float),
    "list": (list,),
    "object": (dict,),
}


def sections() -> "dict[str, Section]":
    """The sections of a report; they are imported when they are asked for, not with this module."""
    from workbench.report.section import found

    return found()


@cache
def tables() -> "dict[str, Table]":
    """{name: table} of report.json, as the sections declare them."""
    return {table.name: table for section in sections().values() for table in section.tables}


@cache
def objects() -> "dict[str, Object]":
    """{name: object} of the parts of report.json that are no tables."""
    return {one.name: one for section in sections().values() for one in section.objects}


def columns(table: str) -> list[str]:
    """Column names of a table, in the order of its CSV file."""
    if table not in tables():
        raise RunError(f'report.json has no table "{table}".{nearest(table, tables())}')
    return tables()[table].names


def load(report_folder: str | Path) -> dict[str, Any]:
    """Read and check report.json of a report folder; one written before a table or column was added has it empty.

    Raises   RunError that names the file: it is missing, no JSON, of another schema version, or does not fit the schema (`check`)
    """
    path = Path(report_folder) / "report.json"
    again = "Run the study again: results are kept, the report is written again."
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except FileNotFoundError:
        raise RunError(
            f"{report_folder} holds no report: there is no report.json in it. Run the study's report stage first: workbench run STUDY."
        ) from None
    except ValueError as error:
        raise RunError(f"{path} is not valid JSON ({error}). {again}") from None
    except RecursionError:
        raise RunError(f"{path} is damaged: it is nested too deeply. {again}") from None
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}.") from None
    document = with_added(document)
    try:
        check(document)
    except OtherVersion as error:
        raise OtherVersion(f"{path}: {error}") from None
    except RunError as error:
        raise RunError(f"{path} is damaged. {error} {again}") from None
    return document


def with_added(document: Any) -> Any:
    """The document with every table, column and key that reports of this schema version have gained; empty where it is older."""
    if not isinstance(document, dict):
        return document
    document = dict(document)
    for table in tables().values():
        rows = document.setdefault(table.name, []) if table.since else document.get(table.name)
        added = dict.fromkeys(table.added)
        if added and isinstance(rows, list):
            document[table.name] = [added | row if isinstance(row, dict) else row for row in rows]
    for one in objects().values():
        if isinstance(document.get(one.name), dict):
            document[one.name] = dict.fromkeys(column.name for column in one.columns if column.since) | document[one.name]
    for section in sections().values():
        if section.upgrade:
            document = section.upgrade(document)
    return document


def write(document: dict[str, Any], folder: str | Path) -> Path:
    """Write report.json: keys sorted, NaN and infinities as null, checked; returns the path."""
    document = plain_json(with_added(document))
    check(document)
    path = Path(folder) / "report.json"
    write_text(path, written(document))
    return path


def written(document: dict[str, Any]) -> str:
    """The text of report.json for a document of plain JSON values: keys sorted, without what is rare and says nothing."""
    return json.dumps(without_rare(document), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_write(document: dict[str, Any]) -> list[str]:
    """Names of the tables that files have: all but rare ones without rows."""
    return [name for name, table in tables().items() if document[name] or not table.rare]


def without_rare(document: dict[str, Any]) -> dict[str, Any]:
    """The document without rare tables that have no rows, and rare columns that say nothing: what `with_added` puts back."""
    written = {name: value for name, value in document.items() if name not in tables()}
    for name in to_write(document):
        columns = [column.name for column in tables()[name].written(document[name])]
        written[name] = [{column: row[column] for column in columns} for row in document[name]]
    return written


def check(document: Any) -> None:
    """Raise RunError naming the table, row and column of the first thing that does not fit.

    Refused: another schema version, missing or unknown keys, a wrong type, a share outside [0, 1],
    an interval turned round, a number without its interval or a null without its reason.
    """
    if not isinstance(document, dict):
        raise RunError("report.json: an object was expected at the top level.")
    version = document.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise OtherVersion(
            f"report.json has schema_version {_short(version)}; this workbench reads {SCHEMA_VERSION}. "
            "Render it with the version of the workbench that wrote it, or run the study again."
        )
    for name in (*objects(), *tables(), "neuron_table"):
        if name not in document:
            raise RunError(
                f'report.json has no "{name}". A report has: '
                f"{', '.join(('schema_version', *objects(), *tables(), 'neuron_table'))}. "
                "An empty table is an empty list."
            )
    for one in objects().values():
        check_row(one.columns, document[one.name], f'"{one.name}"', extra=one.open)
    for table in tables():
        check_table(table, document[table])
    if not (document["neuron_table"] is None or isinstance(document["neuron_table"], str)):
        raise RunError('report.json, "neuron_table": a file name or null was expected.')


def check_table(name: str, rows: Any) -> None:
    """Raise RunError for the first row of a table that does not fit, as `check`."""
    if not isinstance(rows, list):
        raise RunError(f'report.json, "{name}": a list of rows was expected.')
    table, declared = tables()[name], _declared_in(tables()[name])
    for position, row in enumerate(rows):
        where = f'"{name}", row {position}'
        check_row(table.columns, row, where, declared=declared)
        _check_values(table, row, where)


def check_row(columns: "Iterable[Column]", row: Any, where: str, extra: bool = False, declared: str = "workbench/report/sections/") -> None:
    """Raise RunError for the first thing in a row, or an object, that does not fit its columns.

    where      what the message calls it;   extra   whether it may have further keys;   declared   where its columns are declared
    """
    if not isinstance(row, dict):
        raise RunError(f"report.json, {where}: an object was expected, found {_short(row)}.")
    names = [column.name for column in columns]
    for column in columns:
        if column.name not in row:
            raise RunError(
                f'report.json, {where} has no "{column.name}". Expected keys: {", ".join(names)}. '
                "A number that could not be measured is null, with its reason."
            )
        _check_value(column, row[column.name], where)
    unknown = sorted(set(row) - set(names))
    if unknown and not extra:
        raise RunError(
            f'report.json, {where} has an unknown key "{unknown[0]}".{nearest(unknown[0], names)} A newer workbench wrote it, or the file '
            f"was edited; new keys are declared in {declared}."
        )
    for column in columns:
        if column.of and column.type == "list":
            for position, inner in enumerate(row[column.name]):
                check_row(column.of, inner, f"{where}, {column.name}[{position}]")
        elif column.of and row[column.name] is not None:
            check_row(column.of, row[column.name], f"{where}, {column.name}")


def _check_value(column: "Column", value: Any, where: str) -> None:
    if value is None and column.optional:
        return
    allowed, share = KINDS[column.type], column.type in ("share", "p")
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        expected = "number" if share else column.type
        raise RunError(f'report.json, {where}, "{column.name}": {expected} was expected, found {_short(value)}.')
    if isinstance(value, float) and not math.isfinite(value):
        raise RunError(f'report.json, {where}, "{column.name}": {value} is not a number; use null.')
    if isinstance(value, int | float) and share and not 0 <= value <= 1:
        raise RunError(f'report.json, {where}, "{column.name}": {_short(value)} is outside [0, 1]; rates are fractions, never per cent.')


def _declared_in(table: "Table") -> str:
    """The file of the package that declares the columns of a table."""
    return next(f"workbench/report/sections/{name}.py" for name, section in sections().items() if table in section.tables)


def _short(value: Any) -> str:
    """A value of a report in a message, cut where it is long or deep."""
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother, short.maxlong = 2, 80, 80, 80
    return short.repr(value)


def _check_values(table: "Table", row: dict[str, Any], where: str) -> None:
    reason = row.get("reason")
    if reason == "":
        raise RunError(f"report.json, {where}: the reason is empty; use null or say why.")
    for column in table.columns:
        if column.needed and row[column.name] is None and reason is None:
            raise RunError(
                f'report.json, {where}: "{column.name}" is null without a reason. A number that cannot say how sure it is needs a '
                "sentence why."
            )
    for low, high in _intervals(row):
        if row[low] is not None and row[high] is not None and row[low] > row[high]:
            raise RunError(f"report.json, {where}: {low} {row[low]} is above {high} {row[high]}.")
    successes, n = row.get("successes"), row.get("n")
    if successes is not None and n is not None and not 0 <= successes <= n:
        raise RunError(f"report.json, {where}: {successes} successes of {n}.")


def _intervals(row: dict[str, Any]) -> list[tuple[str, str]]:
    return [(field, field[:-3] + "high") for field in row if field.endswith("low")]


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
