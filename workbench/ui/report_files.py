"""The report of a run as a file, with images blurred or clear: for the page Report and for `workbench report`. Needs neither torch nor
Streamlit.

made       the file of a format, the last few kept;  content   its content alone;  write   to a path;  command   the command line for it
dressed    report.json and pictures as they are to be shown
"""

import shlex
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from workbench.errors import RunError
from workbench.report import region_cards
from workbench.report.content import Document, Report, Row
from workbench.report.images import Source
from workbench.report.renderers import exports
from workbench.report.renderers.exports import Made
from workbench.report.renderers.options import Options
from workbench.report.renderers.render import write_manifest
from workbench.storage import atomic
from workbench.ui import picture_files, region_files, run_list
from workbench.ui.run_list import State

KEPT = 3  # files in memory
WITH_IMAGES = ("html", "zip")


def made(state: State, format: str, options: Options, reveal: bool = False) -> Made:
    """The file of a format.

    reveal   whether images that may show the concept are clear; else they are blurred in their pixels
    Raises   RunError for a damaged image, a wrong format, or a size that cannot be kept
    """
    return _made(str(state.folder), run_list.changed(state.folder), format, options, reveal)


@lru_cache(maxsize=KEPT)
def _made(folder: str, stamp: Any, format: str, options: Options, reveal: bool) -> Made:
    state = run_list.look(Path(folder))
    document, instead, n_blurred = state.report.document, None, 0
    if format in WITH_IMAGES and options.images != "none":
        document, instead, n_blurred = dressed(state, reveal)
    found = exports.made(format, document, state.report_folder, options, instead)
    if n_blurred:
        said = f"{n_blurred} {'image is' if n_blurred == 1 else 'images are'} blurred all the same: the run no longer has them clear."
        found = found._replace(left_out=(*found.left_out, said))
    return found


def dressed(state: State, reveal: bool) -> tuple[Document, Source, int]:
    """(report.json, path -> picture in place of the file or None, number of images that stay blurred though they were to be clear)."""
    document, still, pictures = state.report.document, 0, []
    drawn: dict[str, Row] = {}
    regions: dict[str, Image.Image] = {}
    for row in document["images"]:
        shown = row
        if row["blurred"] == reveal and picture_files.delicate(row):
            picture, note = picture_files.as_drawn(state, row, reveal)
            if picture is None or note:
                still += 1
            else:
                drawn[row["path"]] = row
                shown = row | {"blurred": not reveal}
        pictures.append(shown)
    for card in region_cards.cards(Report(document)):
        if card["row"]["blurred"] == reveal:
            for shot, (picture, words, _) in zip(card["shots"], region_files.pictures(state, card, reveal), strict=True):
                if words.endswith(f"({picture_files.ONLY_BLURRED})"):
                    still += 1
                else:
                    regions[shot["path"]] = picture
    changed = [row | {"blurred": not reveal} if row["overlay"] in regions else row for row in document["cluster_regions"]]

    def instead(path: str) -> Image.Image | None:
        return picture_files.as_drawn(state, drawn[path], reveal)[0] if path in drawn else regions.get(path)

    return document | {"images": pictures, "cluster_regions": changed}, instead, still


def content(folder: Path, format: str, options: Options, reveal: bool) -> bytes:
    """The content of a file, for a button that makes it when it is pressed."""
    return made(run_list.look(folder), format, options, reveal).content


def command(state: State, options: Options, reveal: bool, format: str = "html") -> str:
    """The command line that writes the same file."""
    words = ["workbench", "report", state.name if state.read_only else str(state.folder), "--format", format]
    words += ["--out", exports.FORMATS[format].file] if state.read_only else []
    words += ["--sections", ",".join(options.sections)] if options.sections else []
    words += ["--images", options.images] if options.images != Options().images else []
    words += ["--max-mb", f"{options.max_mb:g}"] if options.max_mb != Options().max_mb else []
    words += ["--reveal"] if reveal else []
    return shlex.join(words)


def write(folder: Path, format: str, options: Options, reveal: bool, out: Path | None = None) -> tuple[Path, tuple[str, ...]]:
    """(path, what was left out) of a file that is written: to `out`, or into the report folder, whose manifest is written again.

    Raises   RunError as `made`; for a run without a report that can be read; for a folder that cannot be written
    """
    state = run_list.look(folder)
    if state.document is None:
        raise RunError(state.sentence or f"{folder} has no report yet. Go on with the run to finish it: {state.command}")
    found = made(state, format, options, reveal)
    path = out or state.report_folder / found.name
    try:
        with atomic(path) as temporary:
            temporary.write_bytes(found.content)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}.") from None
    if out is None:
        write_manifest(state.report_folder)
    return path, found.left_out
