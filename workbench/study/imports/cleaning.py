"""What is refused or put right in rows from outside, each with a count; no prompt is ever repeated in a message.

clean        rows -> (rows, {reason: n dropped}, n ids renamed)
repeated     rows -> how many repeat prompt and seed of another
"""

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from workbench.errors import PromptError
from workbench.study.fields import control_character
from workbench.study.imports.found import Row
from workbench.study.imports.minors import languages
from workbench.study.imports.minors import names_minor as names_minor
from workbench.study.prompts import seed_of

EMPTY = "empty prompt"
MINOR = "names a minor"
CONTROL = "holds control characters"


def clean(rows: Sequence[Row], path: str | Path) -> tuple[list[Row], dict[str, int], int]:
    """Drop what cannot be used, make ids unique and say which rows are one unit.

    A row keeps a unit it brings. Rows with the same prompt, or made from the same original, are near-copies and share the id of
    the first as their unit, so that intervals do not take them for independent. Where the whole list is one prompt from many
    seeds, each row is a unit.

    returns   (rows with id, unit and seed, {reason: number dropped}, number of ids renamed)
    Raises    PromptError when a seed is no integer or none that torch takes, or no row is left
    """
    dropped: dict[str, int] = {}
    kept: list[Row] = []
    around = languages([row["prompt"] for row in rows])
    for number, row in enumerate(rows):
        if reason := _refused(row, around):
            dropped[reason] = dropped.get(reason, 0) + 1
        else:
            kept.append(row | {"seed": _seed(row.get("seed", ""), number, path), "id": _whole(row.get("id", "")) or str(number)})
    if not kept:
        left = ", ".join(f"{n} x {reason}" for reason, n in dropped.items()) or "the file has no rows"
        raise PromptError(f"{path} has no prompts that can be imported: {left}.")
    given = [row["id"] for row in kept]
    for row, unique in zip(kept, _unique(given), strict=True):
        row["id"] = unique
    for row, unit in zip(kept, _units(kept), strict=True):
        row["unit"] = unit
    return kept, dropped, sum(old != row["id"] for old, row in zip(given, kept, strict=True))


def repeated(rows: Sequence[Row]) -> int:
    """How many rows have prompt, original and seed of a row before them: the same image once more."""
    return len(rows) - len({(row["prompt"], row.get("original", ""), row["seed"]) for row in rows})


def _units(rows: Sequence[Row]) -> list[str]:
    said = [" ".join((row.get("original") or row.get("named") or row["prompt"]).casefold().split()) for row in rows]
    first: dict[str, str] = {}
    alone = len(set(said)) == 1
    return [row.get("unit") or (row["id"] if alone else first.setdefault(text, row["id"])) for row, text in zip(rows, said, strict=True)]


def _refused(row: Row, around: Collection[str]) -> str | None:
    """Why a row is left out, or None."""
    if not row["prompt"].strip():
        return EMPTY
    if any(control_character(cell) for cell in row.values()):
        return CONTROL
    said = (row.get(key, "") for key in ("prompt", "original", "anchor"))
    return MINOR if any(names_minor(text, around) for text in said) else None


def _seed(text: str, number: int, path: str | Path) -> int:
    """The seed, 0 when none is given."""
    return seed_of(text or "0", f"{path}: row {number + 1}")


def _whole(text: str) -> str:
    return re.sub(r"^(-?\d+)\.0+$", r"\1", text)


def _unique(ids: Iterable[str]) -> list[str]:
    """The ids, a repeated one with -2, -3 … behind it, none twice."""
    taken, result = set(ids), []
    seen = set()
    for one in ids:
        new, number = one, 2
        while new in seen or (new != one and new in taken):
            new, number = f"{one}-{number}", number + 1
        seen.add(new)
        result.append(new)
    return result
