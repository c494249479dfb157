"""A study as the text of a study file, in the order in which the tables are explained.

text      of the data that `tomllib` reads, or that a study dumps
concise   the data of a study without what is left out by default
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from workbench.study.study import Study

TABLES_WITHIN = ("other", "images")  # tables of a table that get a heading of their own


def concise(study: Mapping[str, Any]) -> dict[str, Any]:
    """The data of a study, as study.json holds it, without the values that are defaults."""
    checked = Study(**study)
    return {"schema_version": checked.schema_version} | checked.model_dump(mode="json", exclude_defaults=True, exclude_none=True)


def text(data: Mapping[str, Any]) -> str:
    """The text of a study file; what is None or an empty table is left out. `tomllib` reads the same data from it."""
    known = list(Study.model_fields)
    ordered = {key: data[key] for key in sorted(data, key=lambda key: known.index(key) if key in known else len(known))}
    blocks = ["\n".join(_lines({key: value for key, value in ordered.items() if not _is_table(value)}))]
    for key, value in ordered.items():
        if isinstance(value, Mapping):
            blocks += _blocks(key, value)
        elif _is_table(value):
            blocks += ["\n".join([f"[[{_key(key)}]]", *_lines(one)]) for one in value]
    return "\n\n".join(block for block in blocks if block) + "\n"


def value(given: Any) -> str:
    """A value as TOML writes it, on one line."""
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, Mapping):
        inner = ", ".join(f"{_key(key)} = {value(one)}" for key, one in given.items() if one is not None)
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(given, list | tuple):
        return f"[{', '.join(value(one) for one in given)}]"
    if isinstance(given, str):
        return json.dumps(given, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(given)


def _is_table(given: Any) -> bool:
    return isinstance(given, Mapping) or (isinstance(given, list) and bool(given) and all(isinstance(one, Mapping) for one in given))


def _blocks(path: str, table: Mapping[str, Any]) -> Iterator[str]:
    within = {key: one for key, one in table.items() if key in TABLES_WITHIN and isinstance(one, Mapping)}
    lines = _lines({key: one for key, one in table.items() if key not in within})
    yield "\n".join([f"[{path}]", *lines])
    for key, one in within.items():
        yield from _blocks(f"{path}.{_key(key)}", one)


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {value(one)}" for key, one in table.items() if one is not None and not (isinstance(one, Mapping) and not one)]


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else value(key)
