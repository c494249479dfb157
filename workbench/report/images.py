"""The image matrix: which image stands where, blurring, and pixels as a data: URI."""

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageFilter, UnidentifiedImageError

from workbench.errors import RunError
from workbench.report import wording
from workbench.report.content import Row, arranged

Source = Callable[[str], Image.Image | None]
MEDIA = {"PNG": "image/png", "WEBP": "image/webp", "JPEG": "image/jpeg"}
LARGEST_SIDE = 256
LARGEST_FILE = 64 * 1024
BLOCKS = {
    "concept": ("Prompts with the concept", "concept found", "not found"),
    "reference": ("The same prompts without the concept", "concept found", "not found"),
    "near": ("Related concepts, which must stay", "as asked", "not as asked"),
    "far": ("Unrelated concepts, which must stay", "as asked", "not as asked"),
    "retained": ("Retained concepts, which must stay", "as asked", "not as asked"),
}
RETAINED = (*wording.RETAINED, "retained")
SHOWN_UNITS = 8
COARSE = 9  # pixels that a hidden picture has left on each side


def matrix(images: list[Row], variants: Sequence[str]) -> list[dict[str, Any]]:
    """Blocks of the matrix: rows are (unit, seed), columns are conditions.

    Attacked prompts stand in the block of the prompts with the concept, in the row of their unit; so does an image of another
    seed (the control "other seeds"), which says its seed in the cell.
    Returns blocks of {title, yes, no, alarm, columns: [{name, words}], rows: [{unit, seed, prompt, cells}]};
    a cell is a list of rows of the table images.
    """
    groups: dict[str, list[Row]] = {}
    for row in arranged(images, variants):
        concept = row["attack"] is not None or row["control"] or row["prompt_set"] == "target"
        groups.setdefault("concept" if concept else row["prompt_set"], []).append(row)
    order = list(BLOCKS)
    blocks = []
    for name in sorted(groups, key=lambda n: (order.index(n) if n in order else len(order), n)):
        title, yes, no = BLOCKS.get(name, (f"Prompt set {name}", "concept found", "not found"))
        look = {"title": title, "yes": yes, "no": no, "alarm": name not in RETAINED}
        blocks.append({**look, **_block(groups[name])})
    return blocks


def with_adaptive(images: list[Row], rates: Iterable[Row]) -> list[Row]:
    """The images with the column `adaptive` where the rate of their condition has it, so that their words say it too."""
    known = {_condition(row): row["adaptive"] for row in rates if row.get("adaptive") is not None}
    return [row | {"adaptive": known[_condition(row)]} if _condition(row) in known else row for row in images]


def _condition(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("variant", "attack", "against", "control"))


def _block(images: list[Row]) -> dict[str, Any]:
    columns = list(dict.fromkeys(_column(image) for image in images))
    lines: dict[tuple[str, int], dict[tuple[str, str], list[Row]]] = {}
    asked: dict[str, list[int]] = {}
    for image in images:
        if image["attack"] is None:
            asked.setdefault(image["unit"], []).append(image["seed"])
    for image in images:
        seeds = asked.get(image["unit"], [image["seed"]])
        seed = image["seed"] if image["seed"] in seeds else seeds[0]
        lines.setdefault((image["unit"], seed), {}).setdefault(_column(image), []).append(image)
    rows = []
    for (unit, seed), cells in lines.items():
        plain = [i for cell in cells.values() for i in cell if i["attack"] is None]
        rows.append(
            {
                "unit": unit,
                "seed": seed,
                "prompt": plain[0]["prompt"] if plain else None,
                "cells": [cells.get(column, []) for column in columns],
            }
        )
    return {"columns": [{"name": name, "words": words} for name, words in columns], "rows": rows}


def _column(image: Row) -> tuple[str, str]:
    made = wording.provenance(image)
    return image["variant"], wording.condition(image) + (f", {made}" if made else "")


def blurred(picture: Image.Image, size: int = COARSE) -> Image.Image:
    """A picture in which shapes cannot be recognised: shrunk to size x size pixels, enlarged, smoothed."""
    small = picture.resize((size, size), Image.Resampling.BOX)
    return small.resize(picture.size, Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(picture.width / 32))


def data_uri(folder: str | Path, path: str, largest: int | None = LARGEST_SIDE, instead: Source | None = None) -> str:
    """An image of the report folder as a data: URI; larger ones are scaled down to WebP.

    largest   pixels on its longer side; None = as it is
    instead   path -> the picture to show in place of the file, or None
    Refused: a path that leaves the folder, a missing file, anything but PNG, WebP and JPEG.
    """
    picture = instead(path) if instead else None
    try:
        raw = _png(picture) if picture else file_of(folder, path).read_bytes()
        with Image.open(io.BytesIO(raw), formats=tuple(MEDIA)) as image:
            media = MEDIA[image.format or ""]
            if largest and (max(image.size) > largest or len(raw) > LARGEST_FILE):
                raw, media = _smaller(image, largest), "image/webp"
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise RunError(f'"{path}" cannot be put into the report ({error}); PNG, WebP and JPEG are possible.') from None
    return f"data:{media};base64,{base64.b64encode(raw).decode('ascii')}"


def png(folder: str | Path, path: str, largest: int | None = None, instead: Source | None = None) -> bytes:
    """An image of the report folder as PNG, for a file beside the report; the same bytes where nothing is changed."""
    picture = instead(path) if instead else None
    if picture is None:
        try:
            raw = file_of(folder, path).read_bytes()
            with Image.open(io.BytesIO(raw), formats=tuple(MEDIA)) as image:
                if largest is None or max(image.size) <= largest:
                    return raw
                picture = image.convert("RGBA" if "A" in image.getbands() else "RGB")
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
            raise RunError(f'"{path}" cannot be put into the report ({error}); PNG, WebP and JPEG are possible.') from None
    if largest is not None:
        picture.thumbnail((largest, largest))
    return _png(picture)


def file_of(folder: str | Path, path: str) -> Path:
    """The file of an image that report.json names. Refused: a path that leaves the folder, a missing file."""
    folder = Path(folder).resolve()
    file = (folder / path).resolve()
    if not file.is_relative_to(folder):
        raise RunError(f'report.json names the image "{path}", which lies outside {folder}.')
    if not file.is_file():
        raise RunError(
            f'report.json names the image "{path}", but it is not in {folder}. '
            "Run the report stage again, or remove the row from report.json."
        )
    return file


def _png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def _smaller(image: Image.Image, largest: int) -> bytes:
    copy = image.convert("RGBA" if "A" in image.getbands() else "RGB")
    copy.thumbnail((largest, largest))
    out = io.BytesIO()
    copy.save(out, "WEBP", quality=82, method=4)
    return out.getvalue()
