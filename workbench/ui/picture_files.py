"""Pictures of a run: which there are, blurred or clear, two of them mixed. Needs neither torch nor Streamlit.

rows      rows like those of report.json's table `images`; of a running run also what is finished since its first report
picture   row -> picture, blurred unless it is to be revealed;  as_drawn   the same in its own size
clear     the picture of a prompt in a condition, from the run's own results;  of_report   one of the report folder
"""

import struct
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops, ImageStat
from safetensors import SafetensorError, safe_open

from workbench.errors import RunError
from workbench.execution.run_folder import Store
from workbench.report import images, wording
from workbench.report.content import Row
from workbench.storage import DamagedFile, read_table
from workbench.study.prompt_set_name import PromptSetName
from workbench.ui.run_list import State
from workbench.ui.text import short

SMALLEST, LARGE = 128, 512
ONLY_BLURRED = "only available blurred"
MOST_PIXELS = 4096 * 4096
AGAIN = "Run the study again; results are kept, the report is written again."
# what Pillow raises for files that are cut short, of another kind, or built to use up memory
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, MemoryError, Image.DecompressionBombError)


def rows(state: State) -> list[Row]:
    """Rows of the matrix, from report.json and, for conditions it has not, from the results."""
    listed = list(state.document["images"]) if state.document else []
    there = {(row["variant"], row["prompt_set"]) for row in listed}
    prompts = known(state)
    for node in state.nodes if state.kind != "finished" else ():
        if node["stage"] == "detect" and (node["variant"], node["prompt_set"]) not in there:
            listed += _of_node(state, node, prompts, images.SHOWN_UNITS)
    return images.with_adaptive(listed, state.document["rates"] if state.document else ())


def known(state: State) -> dict[str, Row]:
    """{prompt: its first row without attack} of the report's pictures."""
    listed = list(state.document["images"]) if state.document else []
    return {_key(row): row for row in reversed(listed) if row["attack"] is None}


def of_condition(state: State, variant: str, prompt_set: str, prompts: dict[str, Row]) -> list[Row]:
    """Rows of every picture of a condition, from the run's results; [] where they are not all there.

    prompts   what `known` gives
    """
    node = next((node for node in state.nodes if node["id"] == f"detect:{variant}:{prompt_set}"), None)
    return _of_node(state, node, prompts) if node else []


def _of_node(state: State, node: dict[str, Any], prompts: dict[str, Row], most: int | None = None) -> list[Row]:
    try:
        return _unreported(state, node, prompts, most)
    except KeyError as error:
        raise RunError(f"The result of {node['id']} in {state.folder} has no column {error}. Run the study again.") from None


def _key(row: Row) -> str:
    """What names a prompt in all its sets: its id, or its unit in results that keep no ids."""
    return row.get("id") or row["unit"]


def _unreported(state: State, node: dict[str, Any], known: dict[str, Row], most: int | None = None) -> list[Row]:
    """Rows of a condition the report does not have yet; the seed is the one of the plain prompt, None when unknown."""
    found = detections(state, node)
    if found is None:
        return []
    return [_row(node, row, known) for row in found.head(len(found) if most is None else most).to_dict("records")]


def _row(node: dict[str, Any], row: Row, known: dict[str, Row]) -> Row:
    """A row of the table `images` from what the detectors found in one picture of a node."""
    name, variant = node["prompt_set"], node["variant"]
    parts = PromptSetName.read(name)
    attack, against = None if parts.made in ("target", "reference", "near", "far") else parts.made, parts.against
    made = None if not attack or not against else "optimised" if against == variant else "transferred"
    return {
        "variant": variant,
        "prompt_set": name,
        "attack": attack,
        "provenance": made,
        "against": against,
        "control": parts.control,
        "unit": row["unit"],
        "id": row.get("id"),
        "prompt": known[_key(row)]["prompt"] if _key(row) in known and name == "target" else row["unit"],
        "seed": known[_key(row)]["seed"] if _key(row) in known else None,
        "path": None,
        "blurred": bool(row["judge"] or row["steer"]),
        "success": bool(row.get("judge_expected", row["judge"])),
        "score": float(row["judge_score"]),
    }


def by_prompt(state: State, variant: str, prompt_set: str) -> dict[str, Row]:
    """{id or unit of a prompt: row} of every picture of a condition, from report.json where it has it, else from the results."""
    listed = list(state.document["images"]) if state.document else []
    mine = {_key(row): row for row in listed if (row["variant"], row["prompt_set"]) == (variant, prompt_set)}
    node = next((one for one in state.nodes if one["id"] == f"detect:{variant}:{prompt_set}"), None)
    found = detections(state, node) if node else None
    if found is None:
        return mine
    known = {_key(row): row for row in reversed(listed) if row["attack"] is None}
    try:
        return {_key(row): _row(node, row, known) for row in found.to_dict("records")} | mine  # type: ignore[arg-type]  # there is a node
    except KeyError as error:
        raise RunError(f"The result of detect:{variant}:{prompt_set} in {state.folder} has no {error}. Run the study again.") from None


def matrix(state: State, listed: list[Row]) -> list[dict[str, Any]]:
    """Blocks of the image matrix (see workbench.report.images.matrix) over the rows given."""
    models = state.document["models"] if state.document else []
    return images.matrix(listed, [row["variant"] for row in models])


def delicate(row: Row) -> bool:
    """Whether a picture is blurred: the concept was asked for or found in it, or the report blurred it."""
    asked = row["attack"] is not None or row["control"] or row["prompt_set"] == "target"
    return bool(row["blurred"] or asked or (row["success"] and row["prompt_set"] == "reference"))


def picture(state: State, row: Row, reveal: bool = False) -> tuple[Image.Image | None, str]:
    """(picture, note): the note says why a picture is missing or not as clear as asked."""
    shown, note = as_drawn(state, row, reveal)
    return None if shown is None else _enlarged(shown), note


def as_drawn(state: State, row: Row, reveal: bool = False) -> tuple[Image.Image | None, str]:
    """The same in its own size."""
    own = clear(state, row["variant"], row["prompt_set"], row["unit"], row.get("id")) if reveal or row["path"] is None else None
    if own is not None:
        return own if reveal or not delicate(row) else images.blurred(own), ""
    if row["path"] is None:
        return None, "missing"
    shown = of_report(state.report_folder, row["path"])
    if not row["blurred"] and delicate(row) and not reveal:
        shown = images.blurred(shown)
    return shown, ONLY_BLURRED if reveal and row["blurred"] else ""


def clear(state: State, variant: str, prompt_set: str, unit: str, prompt_id: str | None = None) -> Image.Image | None:
    """The picture of a prompt in a condition, from the run's own results; None when they are not all there.

    prompt_id   which of the unit's prompts; default the first
    Raises   RunError for a damaged file
    """
    nodes = {node["id"]: node for node in state.nodes}
    detected, generated = (nodes.get(f"{stage}:{variant}:{prompt_set}") for stage in ("detect", "generate"))
    if not detected or not generated or not (state.has(detected) and state.has(generated)):
        return None
    store = Store(state.folder)
    with store.naming_unreadable():
        places = _places(state.folder, tuple(detected["shards"]), tuple(generated["shards"]))
        place = places.get(("id", prompt_id), places.get(("unit", unit)))
        if place is None:
            return None
        shard, row, of = place
        return Image.fromarray(_pixels(store.file("generate", shard, "images.safetensors"), row, of).transpose(1, 2, 0))


@lru_cache(maxsize=256)
def _places(folder: Path, detected: tuple[str, ...], generated: tuple[str, ...]) -> dict[tuple[str, str | None], tuple[str, int, int]]:
    """{("unit" or "id", name): (shard of generate, row in it, rows of it)}, of a unit the first; a finished shard never changes."""
    places: dict[tuple[str, str | None], tuple[str, int, int]] = {}
    for found, shard in zip(detected, generated, strict=True):
        table = read_table(Store(folder).file("detect", found, "detections.parquet"))
        for kind in {"unit", "id"} & set(table):
            for row, name in enumerate(table[kind]):
                places.setdefault((kind, name), (shard, row, len(table)))
    return places


def detections(state: State, node: dict[str, Any]) -> Any:
    """Findings of the detectors, one row per prompt; None while shards are missing."""
    import pandas

    if not state.has(node):
        return None
    store = Store(state.folder)
    with store.naming_unreadable():
        paths = [store.file("detect", shard, "detections.parquet") for shard in node["shards"]]
        parts = [_findings(path, path.stat().st_mtime_ns) for path in paths]
    return pandas.concat(parts, ignore_index=True)


@lru_cache(maxsize=512)
def _findings(path: Path, changed: int) -> Any:
    """The findings of one shard, read once; nobody changes them."""
    return read_table(path)


def _pixels(path: Path, row: int, of: int) -> Any:
    """(3, height, width) uint8: one of the `of` pictures of a file; the others are not read."""
    try:
        with safe_open(path, "numpy") as file:
            pictures = file.get_slice("images")
            if (n := pictures.get_shape()[0]) != of:
                raise RunError(f"{path} holds {n} pictures for {of} prompts. Remove the folder {path.parent} and run the study again.")
            return pictures[row]
    except (SafetensorError, OSError) as error:
        raise DamagedFile(path, error) from error


def of_report(folder: str | Path, path: str) -> Image.Image:
    """A picture of the report folder, RGB; RunError for a path outside it or a file that is no picture."""
    folder = Path(folder).resolve()
    try:
        file = (folder / path).resolve()
    except (ValueError, OSError):  # a null character; a loop of links
        raise RunError(f'report.json names the image "{short(path)}", which is no path. {AGAIN}') from None
    if not file.is_relative_to(folder):
        raise RunError(f'report.json names the image "{short(path)}", which lies outside {folder}. {AGAIN}')
    try:
        with Image.open(file, formats=tuple(images.MEDIA)) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                raise RunError(f'The image "{short(path)}" of the report has {opened.width} x {opened.height} pixels. {AGAIN}')
            return opened.convert("RGB")
    except DAMAGED as error:
        why = error.strerror if isinstance(error, OSError) else str(error)  # an OSError's own words repeat the path
        why = f" ({why})" if why else ""
        raise RunError(f'The image "{short(path)}" of the report cannot be read{why}. {AGAIN}') from None


def _enlarged(image: Image.Image) -> Image.Image:
    """Small pictures in whole multiples, so that a browser need not smear them."""
    times = -(-SMALLEST // max(image.size))
    return image if times <= 1 else image.resize((image.width * times, image.height * times), Image.Resampling.LANCZOS)


def large(image: Image.Image) -> Image.Image:
    """A picture enlarged in whole multiples to at least LARGE pixels."""
    times = -(-LARGE // max(image.size))
    return image if times <= 1 else image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)


def mixed(a: Image.Image, b: Image.Image, share: float) -> Image.Image:
    """Picture a at share 0, picture b at share 1; b is brought to the size of a."""
    return Image.blend(a.convert("RGB"), b.convert("RGB").resize(a.size), share)


def difference(a: Image.Image, b: Image.Image) -> tuple[Image.Image, float]:
    """(picture, mean): where two pictures differ, black where they do not; the mean absolute difference as a share of the largest possible.

    The picture is stretched so that its largest difference is white.
    """
    apart = ImageChops.difference(a.convert("RGB"), b.convert("RGB").resize(a.size)).convert("L")
    mean, most = ImageStat.Stat(apart).mean[0] / 255, apart.getextrema()[1]
    return apart.point(lambda value: value * 255 // most if most else 0), mean


ORDERS = ("as in the study", "judge's score, highest first", "judge's score, lowest first")
FOUND = ("all prompts", "with an image in which the concept was found", "with none")


def arranged(rows: list[Row], found: str, order: str) -> list[Row]:
    """Rows of a block, by what the judge found in the conditions that are shown, in one of ORDERS.

    rows   {cells: lists of rows of the table images};  a row without any score is last
    """

    def shown(row: Row) -> list[Row]:
        return [image for cell in row["cells"] for image in cell]

    if found != FOUND[0]:
        rows = [row for row in rows if any(image["success"] for image in shown(row)) == (found == FOUND[1])]
    if order == ORDERS[0]:
        return rows
    sign = -1 if order == ORDERS[1] else 1
    scores = {id(row): [image["score"] for image in shown(row) if image["score"] is not None] for row in rows}
    best = max if order == ORDERS[1] else min
    return sorted(rows, key=lambda row: (not scores[id(row)], sign * best(scores[id(row)], default=0.0)))


def column(row: Row) -> str:
    """What a picture shows, in words: 'esd, attack unlearndiffatk, optimised on it'."""
    return ", ".join(filter(None, (row["variant"], wording.condition(row), wording.provenance(row))))


def caption(row: Row) -> str:
    """The detector's finding in words."""
    words = images.BLOCKS["near" if row["prompt_set"] in images.RETAINED else "concept"][1:]
    score = "" if row["score"] is None else f" ({row['score']:.2f})"
    return "not judged" if row["success"] is None else words[0 if row["success"] else 1] + score


def alt(row: Row) -> str:
    """What a reader without the picture needs."""
    return f"{column(row)}; prompt: {prompt_and_seed(row)}; {caption(row)}"


def prompt_and_seed(row: Row) -> str:
    """'a red heart, seed 3'; of a run that goes on the seed may not be known yet."""
    return (row["prompt"] or row["unit"]) + ("" if row["seed"] is None else f", seed {row['seed']}")
