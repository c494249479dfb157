"""Prompt sets: rows of (id, unit, prompt, seed, expect), with what made them.

A unit is what is resampled for intervals: a prompt, or several seeds or near-copies of one. Rows of different sets pair by
their unit and, where units have several rows, by their place in it; noise comes from the seed alone, so that a target, its
reference and its attacked prompt start from the same latents.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas

from workbench import textfile
from workbench.errors import PromptError
from workbench.storage import digest
from workbench.study.fields import control_character

if TYPE_CHECKING:
    import torch

LOWEST_SEED, HIGHEST_SEED, HIGHEST_SIGNED = -(2**63), 2**64 - 1, 2**63 - 1  # what torch takes; a negative one counts from 2^64 down
Kind = Literal["target", "reference", "retained", "other", "adversarial", "control"]
COLUMNS = ["id", "unit", "prompt", "seed", "expect"]


@dataclass(frozen=True)
class PromptSet:
    """A named set of prompts.

    table       data frame with COLUMNS; expect is the label a retained prompt should show, else None. Where units have several
                rows also `place`, from 0: rows of one unit and place pair across sets
    prefix      torch (prompt, k, channel) vectors put before the words, or where a prompt says <*>; or None
    against     the variant an attack was optimised against, or None
    provenance  static, or optimised (turned into `transferred` where the set meets another variant)
    """

    name: str
    kind: Kind
    table: pandas.DataFrame
    prefix: "torch.Tensor | None" = None
    attack: str | None = None
    against: str | None = None
    control: bool = False

    def __len__(self) -> int:
        return len(self.table)

    @property
    def prompts(self) -> list[str]:
        """The texts, list of str."""
        return self.table["prompt"].tolist()

    @property
    def seeds(self) -> list[int]:
        """The latent seeds, list of int."""
        return [int(seed) for seed in self.table["seed"]]

    @property
    def units(self) -> list[str]:
        """What is resampled and split into halves, list of str; see `following_prompts`."""
        return self.table["group" if "group" in self.table else "unit"].tolist()

    @property
    def pair_units(self) -> list[str]:
        """The units as the file says them, by which rows pair across sets, list of str."""
        return self.table["unit"].tolist()

    @property
    def keys(self) -> list[tuple[str, int]]:
        """(unit of the file, place in it) of each row; equal keys pair across sets."""
        places = self.table["place"] if "place" in self.table else [0] * len(self)
        return [(unit, int(place)) for unit, place in zip(self.pair_units, places, strict=True)]

    def provenance(self, variant: str) -> str | None:
        """static | optimised (made against this variant) | transferred (made against another); None without attack."""
        if self.attack is None:
            return None
        if self.against is None:
            return "static"
        return "optimised" if variant == self.against else "transferred"

    def rows(self, start: int, stop: int) -> "PromptSet":
        """The rows start..stop as a set."""
        return replace(
            self,
            table=self.table.iloc[start:stop],
            prefix=None if self.prefix is None else self.prefix[start:stop],
        )

    def picked(self, rows: Iterable[int]) -> "PromptSet":
        """The rows of these numbers as a set, in that order."""
        return replace(self, table=self.table.iloc[list(rows)], prefix=None if self.prefix is None else self.prefix[list(rows)])

    def joined(self, parts: "Sequence[PromptSet]") -> "PromptSet":
        """The rows of several sets of this kind, one after the other; vectors too when all have them."""
        prefix, vectors = None, [part.prefix for part in parts if part.prefix is not None]
        if len(vectors) == len(parts):
            import torch

            prefix = torch.cat(vectors)
        return replace(self, table=pandas.concat([part.table for part in parts], ignore_index=True), prefix=prefix)

    def to_plain(self) -> dict[str, Any]:
        """Rows and vectors as lists and tensors, which `torch.save` keeps."""
        return {"table": self.table.astype(object).where(self.table.notna(), None).to_dict("list"), "prefix": self.prefix}

    def from_plain(self, plain: dict[str, Any]) -> "PromptSet":
        """A set of this one's kind from what `to_plain` gave."""
        return replace(self, table=pandas.DataFrame(plain["table"]), prefix=plain["prefix"])

    def digest(self) -> str:
        """sha256 of rows and vectors."""
        vectors = None if self.prefix is None else self.prefix.double().tolist()
        table = self.table.drop(columns="group", errors="ignore")
        return digest([table.astype(object).where(table.notna(), None).values.tolist(), vectors])


def read_prompts(path: str | Path, name: str, kind: Kind, limit: int | None = None, guidance: float | None = None) -> PromptSet:
    """Read a prompt CSV.

    Columns   prompt (needed); unit (default: the row's number; rows may share one), seed (default 0; -2^63 to 2^64 - 1), id
              (default: unit, with #2, #3 ... from a unit's second row on), expect
    guidance  the scale that all rows are sampled with: a column `guidance` that says anything else is refused
    Raises    PromptError when the file has no prompt column or no prompts, a prompt is blank, a seed is no integer or out of reach, an id
              comes twice, or a cell holds a control character
    """
    table = read_csv(path)
    if "prompt" not in table:
        raise PromptError(
            f'{path} has no column "prompt"; found {", ".join(map(str, table.columns))}. Rename the column that holds the prompts.'
        )
    if table.empty:
        raise PromptError(f"{path} has no prompts: every row is empty. Nothing can be measured on it.")
    _check_said(path, table, ["prompt"])
    if guidance is not None:
        check_guidance(path, table, guidance)
    if "unit" not in table:
        table["unit"] = [str(i) for i in range(len(table))]
    _check_said(path, table, ["unit"])
    if "id" not in table:
        place = table.groupby("unit").cumcount()
        table["id"] = table["unit"].where(place == 0, table["unit"] + "#" + (place + 1).astype(str))
    if table["id"].isna().any():
        raise PromptError(f"{path}: row {int(table['id'].isna().to_numpy().argmax()) + 1} has a blank id. Write one, or remove the column.")
    if table["id"].duplicated().any():
        twice = table.loc[table["id"].duplicated(), "id"].iloc[0]
        raise PromptError(f'{path} has the id "{twice}" twice; ids must be unique.')
    table["seed"] = _seeds(path, table["seed"]) if "seed" in table else 0
    if "expect" not in table:
        table["expect"] = None
    if kind == "retained" and table["expect"].isna().any():
        raise PromptError(f'{path} holds retained concepts but lacks the column "expect" (the label each image should show) in some row.')
    table = table[COLUMNS].head(limit) if limit else table[COLUMNS]
    if table["unit"].duplicated().any():
        table = table.assign(place=table.groupby("unit").cumcount())
    return PromptSet(name, kind, table)


def following_prompts(rows: PromptSet) -> PromptSet:
    """The set with a column `group`: units that share a prompt are one, under the name of the first; as it was where none do.

    100 units of 15 prompts are 15 prompts: as units they would be taken for independent, and a prompt would be on both halves.
    What pairs and what is drawn stays.
    """
    first: dict[str, str] = {}
    group: dict[str, str] = {}

    def root(unit: str) -> str:
        while group[unit] != unit:
            unit = group[unit]
        return unit

    order = {unit: place for place, unit in enumerate(dict.fromkeys(rows.pair_units))}
    group.update({unit: unit for unit in order})
    for unit, prompt in zip(rows.pair_units, rows.prompts, strict=True):
        one, other = sorted((root(unit), root(first.setdefault(prompt, unit))), key=order.__getitem__)
        group[other] = one
    groups = [root(unit) for unit in rows.pair_units]
    return rows if groups == rows.pair_units else replace(rows, table=rows.table.assign(group=groups))


def read_pairs(path: str | Path) -> list[tuple[str, str]]:
    """Read prompt pairs for erasers: list of (prompt with the concept, anchor without it); an empty anchor is allowed.

    Raises   PromptError when a column is missing, there are no pairs, or a prompt is blank
    """
    table = read_csv(path)
    for column in ("prompt", "anchor"):
        if column not in table:
            raise PromptError(
                f'{path} has no column "{column}"; found {", ".join(map(str, table.columns))}. Pairs need the columns prompt and anchor.'
            )
    if table.empty:
        raise PromptError(f"{path} has no pairs. An eraser needs at least one.")
    _check_said(path, table, ["prompt"])
    return list(zip(table["prompt"], table["anchor"].fillna(""), strict=True))


def read_csv(path: str | Path) -> pandas.DataFrame:
    """A CSV file as a data frame; rows without any cell are left out.

    Only an empty cell is missing: a prompt may read "NA", "None" or "null". The columns prompt, unit, seed, expect, anchor and original
    hold text as it stands in the file.

    Raises   PromptError when there is no such file, it is no text in UTF-8 or no CSV, a column comes twice, a row has more cells than the
             header, or a cell holds a control character
    """
    header, rows = _rows(path, textfile.read(path, PromptError))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *rows])
    text.seek(0)
    kept = dict.fromkeys(("prompt", "unit", "seed", "expect", "anchor", "original", "guidance"), str)
    return pandas.read_csv(text, keep_default_na=False, na_values=[""], skip_blank_lines=False, index_col=False, dtype=kept)


def check_guidance(path: str | Path, table: pandas.DataFrame, guidance: float) -> None:
    """Refuse a column `guidance` that asks for another scale than the one that all rows are sampled with.

    Raises   PromptError that says what the column asks for and both ways out
    """
    if "guidance" not in table:
        return
    asked = list(dict.fromkeys(table["guidance"].dropna()))
    if all(_number(one) == guidance for one in asked):
        return
    said = asked[0] if len(asked) == 1 else f"{len(asked)} values, e.g. {' and '.join(asked[:2])}"
    cure = f"Set sampling.guidance = {asked[0]}, or remove the column" if len(asked) == 1 else "Remove the column"
    raise PromptError(
        f"{path} has a column `guidance` that asks for {said}; a study samples all rows with sampling.guidance, here {guidance:g}. {cure} "
        "(or rename it, to keep it for yourself)."
    )


def _rows(path: str | Path, text: str) -> tuple[list[str], list[list[str]]]:
    """(header, rows of cells as wide as the header) of CSV text."""
    read, found = csv.reader(io.StringIO(text, newline=""), strict=True), []
    try:
        for cells in read:
            if any(cell.strip() for cell in cells):
                found.append((read.line_num, cells))
    except csv.Error as error:
        raise PromptError(
            f"{path} is no CSV file: {error}, in line {read.line_num}. Look for a quotation mark that is not closed, or that is inside "
            f"a cell. Other lists of prompts are read by: workbench import-prompts {path}"
        ) from error
    if not found:
        raise PromptError(f"{path} is no CSV file: it is empty.")
    (_, header), *rows = found
    for name in header:
        if name and header.count(name) > 1:
            raise PromptError(f'{path} has the column "{name}" twice. Rename or remove one of them.')
    for line, cells in rows:
        if len(cells) > len(header):
            raise PromptError(
                f"{path}: line {line} has {len(cells)} cells, the header {len(header)}. Put prompts with commas into quotation marks."
            )
        for cell in cells:
            if code := control_character(cell):
                raise PromptError(f"{path}: line {line} holds the control character {code}, which no prompt needs. Remove it.")
    return header, [cells + [""] * (len(header) - len(cells)) for _, cells in rows]


def _check_said(path: str | Path, table: pandas.DataFrame, columns: Iterable[str]) -> None:
    for column in columns:
        blank = table[column].fillna("").str.strip() == ""
        if blank.any():
            raise PromptError(
                f"{path}: row {int(blank.to_numpy().argmax()) + 1} has a blank {column}. Write one, or remove the row ({int(blank.sum())} "
                f"of {len(table)} rows are like this)."
            )


def _seeds(path: str | Path, column: Iterable[Any]) -> "np.ndarray[Any, Any]":
    """Seeds as written, int64, or uint64 where one needs 64 bits; 36416.0 is 36416."""
    seeds = []
    for row, text in enumerate(column, start=1):
        if not isinstance(text, str):
            raise PromptError(f"{path}: row {row} has no seed, others have one. Give every row a seed, or none.")
        seeds.append(seed_of(text, f"{path}: row {row}"))
    if max(seeds) <= HIGHEST_SIGNED:
        return np.array(seeds, dtype=np.int64)
    if min(seeds) < 0:
        raise PromptError(f"{path} has seeds below 0 and above 2^63 - 1, which no one column of numbers holds. Choose seeds of one kind.")
    return np.array(seeds, dtype=np.uint64)


def seed_of(text: str, where: str) -> int:
    """The seed that a text says; 36416.0 is 36416.

    Raises   PromptError when it is no integer, or none that torch takes: below -2^63 or above 2^64 - 1
    """
    plain = re.sub(r"^([+-]?\d+)\.0+$", r"\1", text.strip())
    if not re.fullmatch(r"[+-]?[0-9]+", plain):
        raise PromptError(f'{where} has the seed "{text[:30]}", which is no integer. Correct the file.')
    seed = int(plain) if len(plain) < 40 else None
    if seed is None or not LOWEST_SEED <= seed <= HIGHEST_SEED:
        end = "below -2^63, the lowest" if plain.startswith("-") else f"above 2^64 - 1 = {HIGHEST_SEED}, the highest"
        raise PromptError(f"{where} has the seed {plain[:30]}, which is {end} that torch takes. Choose another one.")
    return seed


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def paired(sets: Sequence[PromptSet]) -> list[PromptSet]:
    """The sets, with places by which every row pairs with one of the first set.

    A unit has as many rows in every set. They pair by their seed where both sets have the same seeds for the unit, and in
    their order where they have no seed in common.

    Raises   PromptError when a set lacks a unit, has one more, has another number of rows for one, or only some of its seeds
    """
    return [sets[0], *(_paired_with(sets[0], other) for other in sets[1:])]


def pairing(rows: PromptSet, others: PromptSet) -> list[int]:
    """(row,) positions in the set `others` of what the rows of a set pair with."""
    position = {key: row for row, key in enumerate(others.keys)}
    return [position[key] for key in rows.keys]


def by_seed(wanted: Sequence[int], found: Sequence[int]) -> list[int] | None:
    """The place among the wanted seeds of each found one, equal seeds in their order; None unless they are the same seeds."""
    if Counter(wanted) != Counter(found):
        return None
    free = {seed: [place for place, one in enumerate(wanted) if one == seed] for seed in wanted}
    return [free[seed].pop(0) for seed in found]


def _paired_with(first: PromptSet, other: PromptSet) -> PromptSet:
    wanted, found = seeds_by_unit(first), seeds_by_unit(other)
    for missing, lacks, has in ((set(wanted) - set(found), other, first), (set(found) - set(wanted), first, other)):
        if missing:
            raise PromptError(
                f'The set "{lacks.name}" has no prompt for {len(missing)} units of "{has.name}", e.g. "{min(missing)}". '
                "Sets pair by the column `unit`: give all the same units."
            )
    for unit, seeds in wanted.items():
        if len(found[unit]) != len(seeds):
            raise PromptError(
                f'In the unit "{unit}" the set "{other.name}" has {len(found[unit])} prompts, "{first.name}" has {len(seeds)}. '
                "Give a unit as many rows in every set."
            )
    if "place" not in other.table:
        return other
    places = {unit: _places(seeds, found[unit], unit, first, other) for unit, seeds in wanted.items()}
    return replace(other, table=other.table.assign(place=[places[unit][place] for unit, place in other.keys]))


def seeds_by_unit(rows: PromptSet) -> dict[str, list[int]]:
    """{unit: seeds of its rows, by their place}."""
    seeds: dict[str, list[int]] = {}
    for (unit, _), seed in sorted(zip(rows.keys, rows.seeds, strict=True)):
        seeds.setdefault(unit, []).append(seed)
    return seeds


def _places(wanted: Sequence[int], found: Sequence[int], unit: str, first: PromptSet, other: PromptSet) -> list[int]:
    """The place in the first set of each of a unit's rows in the other one, from the seeds of both."""
    places = by_seed(wanted, found)
    if places is not None:
        return places
    if set(wanted) & set(found):
        raise PromptError(
            f'In the unit "{unit}" the sets "{first.name}" and "{other.name}" have the seeds {_listed(wanted)} and {_listed(found)}: '
            "some pair, others do not. Give both the same seeds, or none in common: then the rows pair in their order."
        )
    return list(range(len(found)))


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, seeds))
