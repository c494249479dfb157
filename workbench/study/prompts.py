"""Prompt sets: rows of (id, unit, prompt, seed, expect), with what made them.

A unit is what is resampled for intervals: a prompt, or several seeds or near-copies of one. Rows of different sets pair by
their unit and, where units have several rows, by their place in it; noise comes from the seed alone, so that a target, its
reference and its attacked prompt start from the same latents.
"""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas

from workbench.errors import PromptError
from workbench.storage import digest

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
    kind: Literal["target", "reference", "retained", "adversarial", "control"]
    table: pandas.DataFrame
    prefix: object = None
    attack: str | None = None
    against: str | None = None
    control: bool = False

    def __len__(self):
        return len(self.table)

    @property
    def prompts(self):
        """The texts, list of str."""
        return self.table["prompt"].tolist()

    @property
    def seeds(self):
        """The latent seeds, list of int."""
        return [int(seed) for seed in self.table["seed"]]

    @property
    def units(self):
        """What is resampled and split into halves, list of str; see `following_prompts`."""
        return self.table["group" if "group" in self.table else "unit"].tolist()

    @property
    def pair_units(self):
        """The units as the file says them, by which rows pair across sets, list of str."""
        return self.table["unit"].tolist()

    @property
    def keys(self):
        """(unit of the file, place in it) of each row; equal keys pair across sets."""
        places = self.table["place"] if "place" in self.table else [0] * len(self)
        return [(unit, int(place)) for unit, place in zip(self.pair_units, places, strict=True)]

    def provenance(self, variant):
        """static | optimised (made against this variant) | transferred (made against another); None without attack."""
        if self.attack is None:
            return None
        if self.against is None:
            return "static"
        return "optimised" if variant == self.against else "transferred"

    def rows(self, start, stop):
        """The rows start..stop as a set."""
        return replace(
            self,
            table=self.table.iloc[start:stop],
            prefix=None if self.prefix is None else self.prefix[start:stop],
        )

    def picked(self, rows):
        """The rows of these numbers as a set, in that order."""
        return replace(self, table=self.table.iloc[list(rows)], prefix=None if self.prefix is None else self.prefix[list(rows)])

    def joined(self, parts):
        """The rows of several sets of this kind, one after the other; vectors too when all have them."""
        prefix = None
        if all(part.prefix is not None for part in parts):
            import torch

            prefix = torch.cat([part.prefix for part in parts])
        return replace(self, table=pandas.concat([part.table for part in parts], ignore_index=True), prefix=prefix)

    def to_plain(self):
        """Rows and vectors as lists and tensors, which `torch.save` keeps."""
        return {"table": self.table.astype(object).where(self.table.notna(), None).to_dict("list"), "prefix": self.prefix}

    def from_plain(self, plain):
        """A set of this one's kind from what `to_plain` gave."""
        return replace(self, table=pandas.DataFrame(plain["table"]), prefix=plain["prefix"])

    def digest(self):
        """sha256 of rows and vectors."""
        vectors = None if self.prefix is None else self.prefix.double().tolist()
        table = self.table.drop(columns="group", errors="ignore")
        return digest([table.astype(object).where(table.notna(), None).values.tolist(), vectors])


def read_prompts(path, name, kind, limit=None):
    """Read a prompt CSV.

    Columns   prompt (needed); unit (default: the row's number; rows may share one), seed (default 0), id (default: unit, with
              #2, #3 ... from a unit's second row on), expect
    Raises    PromptError when the file has no prompt column or no prompts, a seed is no integer, an id comes twice
    """
    table = read_csv(path)
    if "prompt" not in table:
        raise PromptError(
            f'{path} has no column "prompt"; found {", ".join(map(str, table.columns))}. Rename the column that holds the prompts.'
        )
    table = table[table["prompt"].notna()].reset_index(drop=True)
    if table.empty:
        raise PromptError(f"{path} has no prompts: every row is empty. Nothing can be measured on it.")
    if "unit" not in table:
        table["unit"] = [str(i) for i in range(len(table))]
    table["unit"] = table["unit"].astype(str)
    if "id" not in table:
        place = table.groupby("unit").cumcount()
        table["id"] = table["unit"].where(place == 0, table["unit"] + "#" + (place + 1).astype(str))
    if table["id"].duplicated().any():
        twice = table.loc[table["id"].duplicated(), "id"].iloc[0]
        raise PromptError(f'{path} has the id "{twice}" twice; ids must be unique.')
    if "seed" not in table:
        table["seed"] = 0
    try:
        table["seed"] = table["seed"].astype(int)
    except (ValueError, TypeError) as error:
        raise PromptError(f"{path} has a seed that is no integer: {error}.") from error
    if "expect" not in table:
        table["expect"] = None
    table["prompt"] = table["prompt"].astype(str)
    if kind == "retained" and table["expect"].isna().any():
        raise PromptError(f'{path} holds retained concepts but lacks the column "expect" (the label each image should show) in some row.')
    table = table[COLUMNS].head(limit) if limit else table[COLUMNS]
    if table["unit"].duplicated().any():
        table = table.assign(place=table.groupby("unit").cumcount())
    return PromptSet(name, kind, table)


def following_prompts(rows):
    """The set with a column `group`: units that share a prompt are one, under the name of the first; as it was where none do.

    100 units of 15 prompts are 15 prompts: as units they would be taken for independent, and a prompt would be on both halves.
    What pairs and what is drawn stays.
    """
    first, group = {}, {}

    def root(unit):
        while group[unit] != unit:
            unit = group[unit]
        return unit

    order = {unit: place for place, unit in enumerate(dict.fromkeys(rows.pair_units))}
    group.update({unit: unit for unit in order})
    for unit, prompt in zip(rows.pair_units, rows.prompts, strict=True):
        one, other = sorted((root(unit), root(first.setdefault(prompt, unit))), key=order.get)
        group[other] = one
    groups = [root(unit) for unit in rows.pair_units]
    return rows if groups == rows.pair_units else replace(rows, table=rows.table.assign(group=groups))


def read_pairs(path):
    """Read prompt pairs for erasers: list of (prompt with the concept, anchor without it); an empty anchor is allowed."""
    table = read_csv(path)
    for column in ("prompt", "anchor"):
        if column not in table:
            raise PromptError(
                f'{path} has no column "{column}"; found {", ".join(map(str, table.columns))}. Pairs need the columns prompt and anchor.'
            )
    if table.empty:
        raise PromptError(f"{path} has no pairs. An eraser needs at least one.")
    return list(zip(table["prompt"].astype(str), table["anchor"].fillna("").astype(str), strict=True))


def read_csv(path):
    """A CSV file as a data frame. Only an empty cell is missing: a prompt may read "NA", "None" or "null".

    Raises   PromptError when there is no such file, or it is no CSV
    """
    if not Path(path).is_file():
        raise PromptError(f'The prompt file "{path}" does not exist.')
    try:
        return pandas.read_csv(path, keep_default_na=False, na_values=[""])
    except (pandas.errors.ParserError, pandas.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise PromptError(f"{path} is no CSV file: {error}.") from error


def paired(sets):
    """The sets, with places by which every row pairs with one of the first set.

    A unit has as many rows in every set. They pair by their seed where both sets have the same seeds for the unit, and in
    their order where they have no seed in common.

    Raises   PromptError when a set lacks a unit, has one more, has another number of rows for one, or only some of its seeds
    """
    return [sets[0], *(_paired_with(sets[0], other) for other in sets[1:])]


def pairing(rows, others):
    """(row,) positions in the set `others` of what the rows of a set pair with."""
    position = {key: row for row, key in enumerate(others.keys)}
    return [position[key] for key in rows.keys]


def by_seed(wanted, found):
    """The place among the wanted seeds of each found one, equal seeds in their order; None unless they are the same seeds."""
    if Counter(wanted) != Counter(found):
        return None
    free = {seed: [place for place, one in enumerate(wanted) if one == seed] for seed in wanted}
    return [free[seed].pop(0) for seed in found]


def _paired_with(first, other):
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


def seeds_by_unit(rows):
    """{unit: seeds of its rows, by their place}."""
    seeds = {}
    for (unit, _), seed in sorted(zip(rows.keys, rows.seeds, strict=True)):
        seeds.setdefault(unit, []).append(seed)
    return seeds


def _places(wanted, found, unit, first, other):
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


def _listed(seeds):
    return ", ".join(map(str, seeds))
