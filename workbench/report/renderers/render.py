"""Write the files of a report folder from its report.json."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from workbench.errors import RunError, nearest
from workbench.report import document as schema
from workbench.report.renderers.csv_files import to_csv
from workbench.storage import atomic, plain_json

FORMATS = ("html", "md", "csv")


def render(folder: str | Path, formats: Iterable[str] = FORMATS, max_mb: float = 10) -> list[Path]:
    """Render report.json of a folder; returns the paths written.

    html   report.html        md   report.md        csv   tables/*.csv
    manifest.json, with the sha256 of every file of the folder, is always written last.
    Each file is written under a temporary name and moved into place.
    """
    folder = Path(folder)
    for name in formats:
        if name not in FORMATS:
            raise RunError(f'A report was asked for as "{name}".{nearest(name, FORMATS)}')
    document = schema.load(folder)
    written = []
    if "html" in formats:
        from workbench.report.renderers.html import render_html

        page = render_html(document, folder, neurons(document, folder), max_mb)
        written.append(_replace(folder / "report.html", page))
    if "md" in formats:
        from workbench.report.renderers.markdown import render_markdown

        written.append(_replace(folder / "report.md", render_markdown(document)))
    if "csv" in formats:
        for table in schema.to_write(document):
            path = folder / "tables" / f"{table}.csv"
            written.append(_replace(path, to_csv(document[table], table)))
    written.append(write_manifest(folder))
    return written


def write_manifest(folder: Path) -> Path:
    """Write manifest.json, with the sha256 of every file of a report folder."""
    return _replace(folder / "manifest.json", _manifest(folder))


def neurons(document: dict[str, Any], folder: str | Path) -> list[dict[str, Any]]:
    """The rows of the neuron table as dicts of Python values, NaN as None; [] without a table."""
    if document["neuron_table"] is None:
        return []
    folder = Path(folder).resolve()
    path = (folder / document["neuron_table"]).resolve()
    if not path.is_relative_to(folder) or not path.is_file():
        raise RunError(
            f'report.json names the neuron table "{document["neuron_table"]}", which is not in '
            f"{folder}. Run the report stage again, or set neuron_table to null."
        )
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise RunError(f"{path} is no readable Parquet file ({error}).") from None
    if rows and (absent := {"layer", "index"} - set(rows[0])):
        raise RunError(f"{path} has no column {', '.join(sorted(absent))}; every neuron needs both.")
    return [plain_json(row) for row in rows]


def _manifest(folder: Path) -> str:
    files = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".") and path != folder / "manifest.json"
    }
    entries = {
        name: {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for name, path in files.items()
    }
    return json.dumps({"schema_version": 1, "files": entries}, sort_keys=True, indent=1) + "\n"


def _replace(path: Path, text: str) -> Path:
    with atomic(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))
    return path
