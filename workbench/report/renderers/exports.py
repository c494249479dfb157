"""A report as one file, made in memory: for a download, or for the command line.

made      the file of a format;  FORMATS   {format: its file, its type, what it is}
The archive has everything: HTML, Markdown, report.json, tables, neurons, images, model cards, references.
"""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from workbench.errors import RunError, nearest
from workbench.report import document as schema
from workbench.report import images
from workbench.report.content import Report
from workbench.report.methods_text import bibliography
from workbench.report.renderers.card import render_card
from workbench.report.renderers.csv_files import to_csv
from workbench.report.renderers.html import MEGABYTE, Page, render_page
from workbench.report.renderers.markdown import render_markdown
from workbench.report.renderers.options import Options
from workbench.report.renderers.render import neurons
from workbench.storage import plain_json


class Format(NamedTuple):
    """A format: the name of its file, its media type, what it is in words."""

    file: str
    mime: str
    what: str


FORMATS = {
    "html": Format("report.html", "text/html", "one file that opens offline and prints"),
    "md": Format("report.md", "text/markdown", "tables and text as Markdown"),
    "json": Format("report.json", "application/json", "every number; the other formats are made from it"),
    "csv": Format("tables.zip", "application/zip", "a CSV file for each table"),
    "card": Format("MODEL_CARD.md", "text/markdown", "the model card of a variant, for Hugging Face"),
    "bib": Format("references.bib", "application/x-bibtex", "the publications of the methods used, as BibTeX"),
    "zip": Format("report.zip", "application/zip", "everything in one archive"),
}
STORED = {".png", ".webp", ".jpg", ".jpeg", ".parquet", ".safetensors"}
LEVEL = 6
LEAST_HTML = 20  # megabytes that the HTML report may have before it is packed
EXTRA = 160  # bytes of an archive for each file beside its name and content
YEAR = (1980, 1, 1, 0, 0, 0)  # of every file of an archive, so that equal reports are equal bytes


class Made(NamedTuple):
    """A file of a report: its content, and what was left out or made smaller, a sentence each."""

    name: str
    mime: str
    content: bytes
    left_out: tuple[str, ...] = ()


def made(
    format: str, document: dict[str, Any], folder: str | Path, options: Options | None = None, instead: images.Source | None = None
) -> Made:
    """The file of a format.

    document   report.json as `document.load` gives it;   folder   the report folder its images and neurons lie in
    instead    path of an image -> the picture to show in place of its file, or None
    Sections hold for HTML and Markdown, the size for HTML and the archive, images for all three; JSON and CSV are always whole.
    The same document, files and options give the same bytes.
    Raises     RunError for an unknown format, or one that cannot be as small as was asked
    """
    folder, options = Path(folder), options or Options()
    if format not in FORMATS:
        raise RunError(f'No report format "{format}".{nearest(format, FORMATS)}')
    name, mime, _ = FORMATS[format]
    if format == "html":
        page = _page(document, folder, options, instead)
        return Made(name, mime, page.text.encode("utf-8"), page.left_out)
    if format == "zip":
        content, left_out = _archive(document, folder, options, instead)
        return Made(name, mime, content, left_out)
    if format == "csv":
        return Made(name, mime, _zipped(_tables(document)))
    text = {
        "md": lambda: render_markdown(document, options),
        "json": lambda: _json(document),
        "card": lambda: render_card(document, options.variant),
        "bib": lambda: bibliography(Report(document)),
    }[format]()
    return Made(name, mime, text.encode("utf-8"))


def _page(document: dict[str, Any], folder: Path, options: Options, instead: images.Source | None) -> Page:
    return render_page(document, folder, neurons(document, folder), options, instead)


def _json(document: dict[str, Any]) -> str:
    """As `document.write` writes it."""
    return schema.written(plain_json(document))


def _tables(document: dict[str, Any]) -> dict[str, bytes]:
    return {f"tables/{table}.csv": to_csv(document[table], table).encode("utf-8") for table in schema.to_write(document)}


def _archive(document: dict[str, Any], folder: Path, options: Options, instead: images.Source | None) -> tuple[bytes, tuple[str, ...]]:
    """(archive, what was left out): first what has the numbers, then the HTML report, then neurons and images while they fit."""
    report, budget = Report(document), options.max_mb * MEGABYTE
    files = {
        "report.json": _json(document).encode("utf-8"),
        "report.md": render_markdown(document, options).encode("utf-8"),
        "references.bib": bibliography(report).encode("utf-8"),
        "study.toml": report.study["text"].encode("utf-8"),
        **_tables(document),
    }
    for variant in report.subjects:
        name = "MODEL_CARD.md" if variant == (options.variant or report.subjects[0]) else f"model-cards/{_file_name(variant)}.md"
        files[name] = render_card(document, variant).encode("utf-8")
    used = sum(_size(name, content) for name, content in files.items())
    # the HTML report counts as it is in the archive, where it is much smaller
    page = _page(document, folder, replace(options, max_mb=max(4 * options.max_mb, LEAST_HTML)), instead)
    if options.images != "none" and used + _size("report.html", page.text.encode("utf-8")) > budget:
        bare = _page(document, folder, replace(options, images="none", max_mb=max(4 * options.max_mb, LEAST_HTML)), instead)
        page = Page(bare.text, ("The HTML report has no images, as they did not fit.",))
    files["report.html"] = page.text.encode("utf-8")
    used += _size("report.html", files["report.html"])
    least = used + _size("manifest.json", b"") + 200 * len(files)
    if least > budget:
        raise RunError(
            f"An archive of at most {options.max_mb:g} MB was asked for; without images and neurons it has {least / MEGABYTE:.1f} MB. "
            "Allow more with max_mb, or download the report as JSON, Markdown or CSV."
        )
    left_out, skipped, used = list(page.left_out), {"images": 0, "neurons": 0}, least
    for kind, name, content in _further(document, folder, options, instead):
        size = _size(name, content) + 200  # its line in the manifest
        if used + size > budget:
            skipped[kind] += 1
            continue
        files[name], used = content, used + size
    n = skipped["images"]
    left_out += [f"{n} image {'file was' if n == 1 else 'files were'} left out of the archive to keep it small."] if n else []
    n = skipped["neurons"]
    left_out += (
        [f"{n} {'table' if n == 1 else 'tables'} of single neurons did not fit and {'was' if n == 1 else 'were'} left out."] if n else []
    )
    about = {name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()}
    manifest = {"schema_version": 1, "files": about, "left_out": left_out}
    files["manifest.json"] = (json.dumps(manifest, sort_keys=True, indent=1) + "\n").encode("utf-8")
    return _zipped(files), tuple(left_out)


def _further(document: dict[str, Any], folder: Path, options: Options, instead: images.Source | None) -> Iterator[tuple[str, str, bytes]]:
    """(kind, name, content) of neurons and images, the more important first."""
    for name in (document["neuron_table"], "neurons_by_call.parquet"):
        path = (folder / name).resolve() if name else None
        if path and path.is_relative_to(folder.resolve()) and path.is_file():
            yield "neurons", name, path.read_bytes()
    if options.images == "none":
        return
    largest = images.LARGEST_SIDE if options.images == "thumb" else None
    paths = [row["path"] for row in document["images"]] if "images" in options.chosen else []
    if "clusters" in options.chosen:
        paths += [row[kind] for row in document["cluster_regions"] for kind in ("drawn", "read_on", "overlay") if row[kind]]
    for name in dict.fromkeys(paths):
        yield "images", name, images.png(folder, name, largest, instead)


def _file_name(variant: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in variant)


def _stored(name: str) -> bool:
    return Path(name).suffix.lower() in STORED


def _size(name: str, content: bytes) -> int:
    """Bytes that a file takes in an archive."""
    return (len(content) if _stored(name) else len(zlib.compress(content, LEVEL))) + 2 * len(name.encode("utf-8")) + EXTRA


def _zipped(files: dict[str, bytes]) -> bytes:
    """An archive of files, in the order of their names."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in sorted(files):
            about = zipfile.ZipInfo(name, YEAR)
            about.external_attr = 0o644 << 16
            about.create_system = 3
            kind = zipfile.ZIP_STORED if _stored(name) else zipfile.ZIP_DEFLATED
            archive.writestr(about, files[name], kind, None if kind == zipfile.ZIP_STORED else LEVEL)
    return out.getvalue()
