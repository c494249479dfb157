"""The schema of report.json, the one source every renderer reads; `load` is the one reader of it."""

import json
import math
import reprlib
from pathlib import Path

from workbench.errors import RunError, nearest
from workbench.report import analysis_fields, choice_fields, other_fields, rate_fields, set_fields
from workbench.report.fields import (
    ADDED,
    ADDED_COLUMNS,
    ADDED_KEYS,
    EVIDENCE,
    LISTS,
    OBJECTS,
    OLD_WORDS,
    SCORE,
    SHARES,
    TABLES,
    VALUES,
    WORD_DATA,
)
from workbench.storage import plain_json, write_text

SCHEMA_VERSION = 1


class OtherVersion(RunError):
    """A report of a schema version that this workbench does not read."""


KINDS = {
    "text": (str,),
    "flag": (bool,),
    "count": (int,),
    "number": (int, float),
    "list": (list,),
    "object": (dict,),
}


def columns(table):
    """Column names of a table, in the order of its CSV file."""
    if table not in TABLES:
        raise RunError(f'report.json has no table "{table}".{nearest(table, TABLES)}')
    return list(TABLES[table])


def load(report_folder):
    """Read and check report.json of a report folder; one written before a table or column was ADDED has it empty.

    Raises   RunError that names the file: it is missing, no JSON, of another schema version, or does not fit the schema (`check`)
    """
    path = Path(report_folder) / "report.json"
    again = "Run the study again: results are kept, the report is written anew."
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except FileNotFoundError:
        raise RunError(
            f"A report was asked of {report_folder}, but there is no report.json in it. "
            "Run the study's report stage first: workbench run STUDY."
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


def with_added(document):
    """The document with every table, column and key that reports of this schema version have gained; empty where it is older."""
    if not isinstance(document, dict):
        return document
    document = dict.fromkeys(ADDED, []) | document
    for name, keys in ADDED_KEYS.items():
        if isinstance(document.get(name), dict):
            document[name] = dict.fromkeys(keys) | document[name]
    if isinstance(document.get("verdict"), dict) and isinstance(document["verdict"].get("words"), list):
        document["verdict"] = document["verdict"] | {"words": [_with_data(word, document) for word in document["verdict"]["words"]]}
    for table, names in ADDED_COLUMNS.items():
        if isinstance(document.get(table), list):
            document[table] = [dict.fromkeys(names) | row if isinstance(row, dict) else row for row in document[table]]
    return document


def _with_data(word, document):
    """A word of the verdict with what it is about as data; of an older report as far as its word and subject are such data."""
    if not isinstance(word, dict) or "kind" in word:
        return word
    models = document.get("models")
    variants = [row.get("variant") for row in models if isinstance(row, dict)] if isinstance(models, list) else []
    subject, said = word.get("subject"), word.get("word")
    known = {"outcome": OLD_WORDS.get(said) if isinstance(said, str) else None, "variant": subject if subject in variants else None}
    return dict.fromkeys(WORD_DATA) | known | word


def write(document, folder):
    """Write report.json: keys sorted, NaN and infinities as null, checked; returns the path."""
    document = plain_json(with_added(document))
    check(document)
    text = json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    path = Path(folder) / "report.json"
    write_text(path, text + "\n")
    return path


def check(document):
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
    for name in (*OBJECTS, *TABLES, "neuron_table"):
        if name not in document:
            raise RunError(
                f'report.json has no "{name}". A report has: '
                f"{', '.join(('schema_version', *OBJECTS, *TABLES, 'neuron_table'))}. "
                "An empty table is an empty list."
            )
    for name, fields in OBJECTS.items():
        _check_row(document[name], fields, f'"{name}"', extra=name != "verdict")
        for field in fields:
            _check_list(name, field, document[name][field], f'"{name}"')
    if document["study"]["score"] is not None:
        _check_row(document["study"]["score"], SCORE, '"study", score')
    for position, word in enumerate(document["verdict"]["words"]):
        for evidence in word["evidence"]:
            _check_row(evidence, EVIDENCE, f'"verdict", words[{position}], evidence')
    for table, fields in TABLES.items():
        if not isinstance(document[table], list):
            raise RunError(f'report.json, "{table}": a list of rows was expected.')
        for position, row in enumerate(document[table]):
            where = f'"{table}", row {position}'
            _check_row(row, fields, where, declared=table)
            _check_values(table, row, where)
            for field in fields:
                _check_list(table, field, row[field], where)
    if not (document["neuron_table"] is None or isinstance(document["neuron_table"], str)):
        raise RunError('report.json, "neuron_table": a file name or null was expected.')


def _check_list(owner, field, rows, where):
    if (owner, field) in LISTS:
        for position, row in enumerate(rows):
            _check_row(row, LISTS[owner, field], f"{where}, {field}[{position}]")


def _check_row(row, fields, where, extra=False, declared=None):
    """declared   the table of the row, if it is one: the message says where columns of that table are declared"""
    if not isinstance(row, dict):
        raise RunError(f"report.json, {where}: an object was expected, found {_short(row)}.")
    for field, kind in fields.items():
        if field not in row:
            raise RunError(
                f'report.json, {where} has no "{field}". Expected keys: {", ".join(fields)}. '
                "A number that could not be measured is null, with its reason."
            )
        value = row[field]
        if value is None and kind.endswith("?"):
            continue
        allowed = KINDS[kind.rstrip("?")]
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            raise RunError(f'report.json, {where}, "{field}": {kind.rstrip("?")} was expected, found {_short(value)}.')
        if isinstance(value, float) and not math.isfinite(value):
            raise RunError(f'report.json, {where}, "{field}": {value} is not a number; use null.')
        if field in SHARES and not 0 <= value <= 1:
            raise RunError(f'report.json, {where}, "{field}": {_short(value)} is outside [0, 1]; rates are fractions, never per cent.')
    unknown = sorted(set(row) - set(fields))
    if unknown and not extra:
        raise RunError(
            f'report.json, {where} has an unknown key "{unknown[0]}".{nearest(unknown[0], fields)} A newer workbench wrote it, or the file '
            f"was edited; new keys are declared in {_declared_in(declared)}."
        )


def _declared_in(table):
    """The file of the package that declares the columns of a table, or, without a table, the parts that are none."""
    parts = (rate_fields, other_fields, choice_fields, set_fields, analysis_fields)
    return f"workbench/report/{next((part.__name__.rpartition('.')[2] for part in parts if table in part.TABLES), 'fields')}.py"


def _short(value):
    """A value of a report in a message, cut where it is long or deep."""
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother, short.maxlong = 2, 80, 80, 80
    return short.repr(value)


def _check_values(table, row, where):
    reason = row.get("reason")
    if reason == "":
        raise RunError(f"report.json, {where}: the reason is empty; use null or say why.")
    for field in VALUES.get(table, ()):
        if row[field] is None and reason is None:
            raise RunError(
                f'report.json, {where}: "{field}" is null without a reason. A number that cannot say how sure it is needs a sentence why.'
            )
    for low, high in _intervals(row):
        if row[low] is not None and row[high] is not None and row[low] > row[high]:
            raise RunError(f"report.json, {where}: {low} {row[low]} is above {high} {row[high]}.")
    successes, n = row.get("successes"), row.get("n")
    if successes is not None and n is not None and not 0 <= successes <= n:
        raise RunError(f"report.json, {where}: {successes} successes of {n}.")


def _intervals(row):
    return [(field, field[:-3] + "high") for field in row if field.endswith("low")]


def _no_constant(name):
    raise ValueError(f"{name} is no JSON number")
