"""Prompt sets: rows of (id, unit, prompt, seed, expect), with what made them.

A unit is what is resampled for intervals. Rows of different sets pair by their unit; noise comes from the seed alone, so
that a unit's target, reference and attacked prompts start from the same latents.
"""

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

    table       data frame with COLUMNS; expect is the label a retained prompt should show, else None
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
        """The units, list of str."""
        return self.table["unit"].tolist()

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
        return digest([self.table.astype(object).where(self.table.notna(), None).values.tolist(), vectors])


def read_prompts(path, name, kind, limit=None):
    """Read a prompt CSV.

    Columns   prompt (needed); unit (default: the row's number), seed (default 0), id (default: unit), expect
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
        table["id"] = table["unit"]
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
    return PromptSet(name, kind, table[COLUMNS].head(limit) if limit else table[COLUMNS])


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


def check_paired(sets):
    """PromptError unless every set covers the units of the first, each once per set, in any order."""
    first = sets[0]
    if len(set(first.units)) < len(first):
        raise PromptError(f'The set "{first.name}" names a unit twice; give each prompt and seed its own unit.')
    for other in sets[1:]:
        missing = sorted(set(first.units) - set(other.units))
        if missing:
            raise PromptError(f'The set "{other.name}" has no prompt for {len(missing)} units of "{first.name}", e.g. "{missing[0]}".')
        if len(other) > len(first):
            raise PromptError(
                f'The set "{other.name}" has {len(other)} prompts for the {len(first)} units of "{first.name}". '
                "Give every unit one prompt in each set, and remove the others."
            )
