"""The schema of report.json, the one source every renderer reads."""

import json
import math
from pathlib import Path

from workbench.errors import RunError, nearest
from workbench.storage import write_text

SCHEMA_VERSION = 1

ATTACK = {"attack": "text?", "provenance": "text?", "against": "text?"}

# Kinds: text, flag, count, number, list. "?" = may be null. Measured numbers (VALUES below) may be
# null only with a reason.
TABLES = {
    "models": {
        "variant": "text",
        "role": "text",
        "method": "text?",
        "parent": "text?",
        "digest": "text?",
        "what": "text?",
        "parameters_changed": "count?",
        "share_changed": "number?",
        "seconds": "number?",
        "largest_changes": "list",
        "reason": "text?",
    },
    "rates": {
        "variant": "text",
        "prompt_set": "text",
        **ATTACK,
        "control": "flag",
        "definition": "text",
        "detector": "text?",
        "threshold": "number?",
        "n": "count?",
        "successes": "count?",
        "rate": "number?",
        "low": "number?",
        "high": "number?",
        "reason": "text?",
    },
    "rates_by_label": {
        "variant": "text",
        "prompt_set": "text",
        **ATTACK,
        "control": "flag",
        "label": "text",
        "n": "count?",
        "successes": "count?",
        "rate": "number?",
        "low": "number?",
        "high": "number?",
        "reason": "text?",
    },
    "retention": {
        "variant": "text",
        "kind": "text",
        "definition": "text",
        "n": "count?",
        "successes": "count?",
        "rate": "number?",
        "low": "number?",
        "high": "number?",
        "reason": "text?",
    },
    "activity": {
        "variant": "text",
        "prompt_set": "text",
        **ATTACK,
        "control": "flag",
        "neuron_set": "text",
        "site": "text",
        "regime": "text",
        "trajectory": "text",
        "n": "count?",
        "value": "number?",
        "low": "number?",
        "high": "number?",
        "reason": "text?",
    },
    "activity_by_call": {
        "variant": "text",
        "prompt_set": "text",
        "attack": "text?",
        "provenance": "text?",
        "neuron_set": "text",
        "trajectory": "text",
        "call": "count",
        "timestep": "number",
        "n": "count?",
        "value": "number?",
        "low": "number?",
        "high": "number?",
    },
    "effects": {
        "effect": "text",
        "variant": "text",
        **ATTACK,
        "neuron_set": "text",
        "trajectory": "text",
        "n": "count?",
        "value": "number?",
        "low": "number?",
        "high": "number?",
        "p_random": "number?",
        "n_random": "count?",
        "random_low": "number?",
        "random_high": "number?",
        "reason": "text?",
    },
    "neurons": {
        "variant": "text",
        **ATTACK,
        "neuron_set": "text",
        "trajectory": "text",
        "n": "count?",
        "excluded": "count?",
        **{
            f"{name}{end}": "number?"
            for name in ("share_deactivated", "share_reactivated", "median_d", "median_r") + ("median_delta",)
            for end in ("", "_low", "_high")
        },
        "reason": "text?",
    },
    "comparisons": {
        "variant_a": "text",
        "variant_b": "text",
        "prompt_set": "text",
        "attack": "text?",
        "n": "count?",
        "both": "count?",
        "only_a": "count?",
        "only_b": "count?",
        "neither": "count?",
        "difference": "number?",
        "low": "number?",
        "high": "number?",
        "relative_difference": "number?",
        "p_mcnemar": "number?",
        "power": "number?",
        "reason": "text?",
    },
    "waking": {
        "variant": "text",
        **ATTACK,
        "neuron_set": "text",
        "trajectory": "text",
        "n": "count?",
        "successes": "count?",
        "value": "number?",
        "low": "number?",
        "high": "number?",
        "reason": "text?",
    },
    "relocation": {
        "variant": "text",
        **ATTACK,
        "trajectory": "text",
        "n": "count?",
        "value": "number?",
        "low": "number?",
        "high": "number?",
        "iou": "number?",
        "iou_chance": "number?",
        "reason": "text?",
    },
    "scores": {
        "score": "text",
        "n_chosen": "count?",
        "iou_halves": "number?",
        "iou_chance": "number?",
        "note": "text?",
    },
    "images": {
        "variant": "text",
        "prompt_set": "text",
        **ATTACK,
        "control": "flag",
        "unit": "text",
        "prompt": "text",
        "seed": "count",
        "path": "text",
        "blurred": "flag",
        "success": "flag?",
        "score": "number?",
    },
    "timings": {"stage": "text", "seconds": "number?", "nodes": "count?"},
}

# The number a row exists for, with its interval: null needs a reason, a value needs an interval.
VALUES = {
    "rates": ("rate", "low", "high"),
    "rates_by_label": ("rate", "low", "high"),
    "retention": ("rate", "low", "high"),
    "activity": ("value", "low", "high"),
    "effects": ("value", "low", "high"),
    "waking": ("value", "low", "high"),
    "relocation": ("value", "low", "high"),
    "comparisons": ("difference", "low", "high"),
    "neurons": tuple(c for c in TABLES["neurons"] if c.startswith(("share_", "median_"))),
}

OBJECTS = {
    "study": {
        "name": "text",
        "title": "text",
        "question": "text?",
        "concept": "object",
        "n_units": "count",
        "n_units_half_a": "count?",
        "n_units_half_b": "count?",
        "seeds": "list",
        "steps": "count",
        "guidance": "number",
        "scheduler": "text",
        "window": "list",
        "sites": "list",
        "text": "text",
    },
    "verdict": {"headline": "text", "words": "list", "reasons": "list", "caveats": "list"},
    "reproduce": {
        "command": "text",
        "study_digest": "text?",
        "seeds": "list",
        "device": "text?",
        "threads": "count?",
        "dtype": "text?",
        "scheduler": "text?",
        "torch_deterministic": "flag?",
        "versions": "object",
        "git_commit": "text?",
        "git_dirty": "flag?",
        "prompts": "list",
        "models": "list",
        "wall_seconds": "number?",
        "peak_memory_mb": "number?",
        "started": "text?",
        "finished": "text?",
    },
}
LISTS = {
    ("models", "largest_changes"): {"module": "text", "relative_change": "number?"},
    ("verdict", "words"): {
        "subject": "text",
        "word": "text",
        "sentence": "text",
        "evidence": "list",
    },
    ("reproduce", "prompts"): {"set": "text", "n": "count", "digest": "text?"},
    ("reproduce", "models"): {"variant": "text", "digest": "text?"},
}
EVIDENCE = {"name": "text", "value": "number?", "low": "number?", "high": "number?", "n": "count?"}

KINDS = {
    "text": (str,),
    "flag": (bool,),
    "count": (int,),
    "number": (int, float),
    "list": (list,),
    "object": (dict,),
}
SHARES = {"rate", "iou", "iou_halves", "iou_chance", "share_changed", "p_random", "p_mcnemar", "power"}
SHARES |= {c for c in TABLES["neurons"] if c.startswith("share_")}


def columns(table):
    """Column names of a table, in the order of its CSV file."""
    if table not in TABLES:
        raise RunError(f'report.json has no table "{table}".{nearest(table, TABLES)}')
    return list(TABLES[table])


def load(report_folder):
    """Read and check report.json of a report folder."""
    path = Path(report_folder) / "report.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except FileNotFoundError:
        raise RunError(
            f"A report was asked of {report_folder}, but there is no report.json in it. "
            "Run the study's report stage first: workbench run STUDY."
        ) from None
    except ValueError as error:
        raise RunError(f"{path} is not valid JSON ({error}). Run the report stage again.") from None
    check(document)
    return document


def write(document, folder):
    """Write report.json: keys sorted, NaN and infinities as null, checked; returns the path."""
    document = plain(document)
    check(document)
    text = json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    path = Path(folder) / "report.json"
    write_text(path, text + "\n")
    return path


def plain(value):
    """The same document in JSON's own types: NumPy scalars and arrays unpacked, NaN -> None."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def check(document):
    """Raise RunError naming the table, row and column of the first thing that does not fit.

    Refused: another schema version, missing or unknown keys, a wrong type, a share outside [0, 1],
    an interval turned round, a number without its interval or a null without its reason.
    """
    if not isinstance(document, dict):
        raise RunError("report.json: an object was expected at the top level.")
    version = document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise RunError(
            f"report.json has schema_version {version!r}; this workbench reads {SCHEMA_VERSION}. "
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
    for position, word in enumerate(document["verdict"]["words"]):
        for evidence in word["evidence"]:
            _check_row(evidence, EVIDENCE, f'"verdict", words[{position}], evidence')
    for table, fields in TABLES.items():
        if not isinstance(document[table], list):
            raise RunError(f'report.json, "{table}": a list of rows was expected.')
        for position, row in enumerate(document[table]):
            where = f'"{table}", row {position}'
            _check_row(row, fields, where)
            _check_values(table, row, where)
            for field in fields:
                _check_list(table, field, row[field], where)
    if not (document["neuron_table"] is None or isinstance(document["neuron_table"], str)):
        raise RunError('report.json, "neuron_table": a file name or null was expected.')


def _check_list(owner, field, rows, where):
    if (owner, field) in LISTS:
        for position, row in enumerate(rows):
            _check_row(row, LISTS[owner, field], f"{where}, {field}[{position}]")


def _check_row(row, fields, where, extra=False):
    if not isinstance(row, dict):
        raise RunError(f"report.json, {where}: an object was expected, found {row!r}.")
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
            raise RunError(f'report.json, {where}, "{field}": {kind.rstrip("?")} was expected, found {value!r}.')
        if isinstance(value, float) and not math.isfinite(value):
            raise RunError(f'report.json, {where}, "{field}": {value} is not a number; use null.')
        if field in SHARES and not 0 <= value <= 1:
            raise RunError(f'report.json, {where}, "{field}": {value!r} is outside [0, 1]; rates are fractions, never per cent.')
    unknown = sorted(set(row) - set(fields))
    if unknown and not extra:
        raise RunError(
            f'report.json, {where} has an unknown key "{unknown[0]}".'
            f"{nearest(unknown[0], fields)} New columns are declared in report/document.py."
        )


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
