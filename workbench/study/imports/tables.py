"""Tables of prompts as the papers publish them: CSV with and without a header, text with a prompt a line, JSON.

read_table   file -> Found
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import dropwhile
from pathlib import Path
from typing import Any, Literal, NamedTuple

from workbench import textfile
from workbench.errors import PromptError, nearest
from workbench.study.imports.found import Found

# our name -> what the sources call it, the first that is there wins; docs/guides/import-prompts.md
NAMES = {
    "prompt": ("prompt", "sensitive prompt", "text"),
    "anchor": ("anchor", "normal prompt", "prompt1"),
    "seed": ("evaluation_seed", "sd_seed", "seed"),
    "id": ("id", "case_number", "case_num", "image_id", "unnamed: 0", "index"),
    "guidance": ("evaluation_guidance", "sd_guidance_scale", "guidance"),
    "original": ("original", "target_prompt", "original_prompt", "clean_prompt"),
    "unit": ("unit",),
    "expect": ("expect",),
    "success": ("success",),
    "success_before": ("success_before",),
    "image": ("image",),
}


# what an attack made of the prompts of its list: where there is such a column, it holds the prompts, and `prompt` what they were made from
ADVERSARIAL = (
    "adv_prompt",
    "adversarial_prompt",
    "adversarial prompt",
    "adv prompt",
    "attack_prompt",
    "attacked_prompt",
    "jailbreak_prompt",
)
SEEMS_ADVERSARIAL = re.compile(
    r"(adv|attack|jailbr|perturb|optimi[sz]ed|poison|rephras|paraphras)\w*[ _-]?(prompt|text)|prompt[ _-]?(adv|attack)"
)


class Undecided(PromptError):
    """Several columns may hold the prompts; `columns` are their names."""

    def __init__(self, message: str, columns: list[str]) -> None:
        super().__init__(message)
        self.columns = columns


BEFORE_P4D = "these are the prompts P4D starts from, not its attacks"
WITHOUT = (
    "the column base holds each prompt without the concept; for a reference set of the same units import the file once more with "
    "--column base"
)


class Known(NamedTuple):
    """A published format: its name, the columns (in small letters) that give it away, and what its user must know."""

    name: str
    needs: frozenset
    note: str | None = None


# the first whose columns are all there
KNOWN = [
    Known("MMA-Diffusion", frozenset({"adv_prompt", "target_prompt"})),
    Known("eval-unlearn attack list", frozenset({"adversarial_prompt", "target_prompt"})),
    Known("pair list (sensitive prompt, normal prompt)", frozenset({"sensitive prompt", "normal prompt"})),
    Known("pair list of Ring-A-Bell (prompt, prompt1)", frozenset({"prompt", "prompt1"})),
    Known("workbench pairs", frozenset({"prompt", "anchor"})),
    Known("workbench prompt set", frozenset({"prompt", "unit"})),
    Known("P4D", frozenset({"prompt", "nudity_toxicity"})),
    Known("I2P", frozenset({"prompt", "sd_seed", "lexica_url"})),
    Known("I2P columns as ESD, P4D, RECE and UnlearnDiffAtk keep them", frozenset({"prompt", "evaluation_seed", "categories"})),
    Known("P4D class list", frozenset({"prompt", "classes", "evaluation_guidance"}), BEFORE_P4D),
    Known("COCO captions as P4D keeps them", frozenset({"prompt", "source", "evaluation_guidance"}), BEFORE_P4D),
    Known("ConceptPrune, FIA or Roots style list", frozenset({"prompt", "evaluation_guidance", "base"}), WITHOUT),
    Known("ConceptPrune, FIA or Roots style list", frozenset({"prompt", "evaluation_guidance", "artists"})),
    Known("UnlearnDiffAtk", frozenset({"prompt", "case_number", "evaluation_seed", "evaluation_guidance"})),
    Known("COCO captions", frozenset({"prompt", "source", "evaluation_seed"})),
    Known("AdvUnlearn retain list", frozenset({"prompt", "source", "case_num"})),
    Known("ESD or UnlearnDiffAtk style list", frozenset({"prompt", "evaluation_seed", "artist"})),
    Known("ESD or SPM class list", frozenset({"prompt", "evaluation_seed", "class"})),
    Known("ESD or SPM class list", frozenset({"prompt", "evaluation_seed", "label_str"})),
    Known("ESD, SPM or Ring-A-Bell list", frozenset({"prompt", "case_number", "evaluation_seed"})),
]
PARTS = frozenset({"people", "clothes", "location"})  # Ring-A-Bell's Nudity_prompt.csv: prompts in pieces
WORDS_OF_A_PROMPT = 3  # a first row with a cell of so many words is no header


def read_table(path: str | Path, column: str | None = None, text: str | None = None) -> Found:
    """Read a file of prompts.

    column    the source's column that holds the prompts, when its name is not one of NAMES
    text      the file's content when it was read before
    returns   Found of kind prompts or pairs
    Raises    PromptError when there is no prompt column, a row does not fit the header, or a JSON file holds something else
    """
    path = Path(path)
    text = textfile.read(path, PromptError) if text is None else text
    n_raw = 0
    if path.suffix.lower() in (".json", ".jsonl"):
        header, cells, headerless = *_json(path, text), False
    elif path.suffix.lower() == ".txt":
        header, cells, headerless = ["prompt"], [[line] for line in _lines(text)], True
    else:
        header, cells, headerless, n_raw = _csv(path, text, column)
    columns = _columns(path, header, column)
    cells, n_joined = _fitted(path, cells, header, columns)
    taken = [(ours, header.index(theirs)) for ours, theirs in columns.items()]
    if column is not None and (sniffed := _sniffed(path, header, column)):
        taken.append(("named", header.index(sniffed)))  # whichever column is chosen, the list's own prompts say what is one unit
    rows = [{ours: _said(path, number, ours, row[place]) for ours, place in taken} for number, row in enumerate(cells, 1)]
    raw = [f"rows read as they stand, with their quotation marks: {n_raw}"] if n_raw else []
    if headerless:
        return Found("list without a header, the first column", "prompts", rows, {"prompt": "first column"}, notes=raw)
    ignored = [name for name in header if name and name not in columns.values()]
    kind: Literal["pairs", "prompts"] = "pairs" if "anchor" in columns else "prompts"
    known = _known(header, columns)
    notes = [*([known.note] if known.note and column is None else []), *raw]
    if n_joined:
        notes.append(f"rows whose prompt has commas outside quotation marks, told by the whole-numbered seed behind it: {n_joined}")
    return Found(known.name, kind, rows, columns, ignored, notes=notes)


def _sniffed(path: Path, header: list[str], column: str) -> str | None:
    """The list's own prompt column beside a chosen one; None when what was chosen is what the others were made from."""
    try:
        found = _columns(path, header, None, needed=False)
    except Undecided:
        return _columns(path, header, column).get("original")
    return None if column == found.get("original") else found.get("prompt")


def _said(path: Path, number: int, ours: str, value: Any) -> str:
    """A cell as text; from JSON it may be anything, and a prompt is text."""
    if isinstance(value, str):
        return value.strip()
    if value is None:
        return ""
    if ours in ("prompt", "anchor", "original", "unit", "expect") and not isinstance(value, int | float):
        raise PromptError(f"{path}: in row {number} the {ours} is a {type(value).__name__}, no text.")
    return json.dumps(value)


def _known(header: list[str], columns: dict[str, str]) -> Known:
    small = {_small(name) for name in header}
    attacked = _small(columns["prompt"])
    for known in KNOWN:
        if known.needs <= small and (attacked not in ADVERSARIAL or attacked in known.needs):
            return known
    if attacked in ADVERSARIAL:
        return Known(f'attack list with the column "{columns["prompt"]}"', frozenset())
    return Known(f'table with the column "{columns["prompt"]}"', frozenset())


def _no_prompts(path: Path, header: list[str], more: str = "") -> PromptError:
    """The error for a table in which no column is known to hold prompts."""
    if PARTS.issubset(_small(name) for name in header):
        return PromptError(
            f"{path} has prompts in pieces, in the columns {', '.join(header)}, as Ring-A-Bell's concept vectors take them. "
            "Join the pieces of each row in one column called prompt, then import it."
        )
    return PromptError(
        f"{path} has no prompts: no column is called {', '.join((*NAMES['prompt'], *ADVERSARIAL[:2]))}; found {', '.join(header)}. "
        f"Name the one that holds them: --column NAME{more}"
    )


def _small(name: str) -> str:
    return name.strip().lower()


def _columns(path: Path, header: list[str], chosen: str | None, needed: bool = True) -> dict[str, str]:
    """{our name: the source's name} of a header; a chosen prompt column takes the place of the sniffed one.

    needed   whether there must be a prompt column
    Raises   Undecided when several columns may hold the prompts and none is chosen
    """
    by_small: dict[str, str] = {}
    for name in header:
        by_small.setdefault(_small(name), name)
    columns = {}
    for ours, names in NAMES.items():
        found = [by_small[name] for name in names if name in by_small]
        if found:
            columns[ours] = found[0]
    if "id" not in columns and header and header[0] == "":
        columns["id"] = header[0]
    attacked = _attacked(path, by_small, chosen)
    if attacked is not None and attacked != chosen:
        if "prompt" in columns and "original" not in columns:
            columns["original"] = columns["prompt"]
        columns["prompt"] = attacked
        columns.pop("anchor", None)
    if chosen is not None:
        if chosen not in header:
            raise PromptError(f'{path} has no column "{chosen}".{nearest(chosen, filter(None, header))}')
        original = {"original": columns["prompt"]} if chosen == attacked and "prompt" in columns and "original" not in columns else {}
        columns = {ours: theirs for ours, theirs in (original | columns).items() if theirs != chosen} | {"prompt": chosen}
    if "prompt" not in columns and needed:
        raise _no_prompts(path, header)
    return columns


def _attacked(path: Path, by_small: dict[str, str], chosen: str | None) -> str | None:
    """The column that holds what an attack made, when the header has one: the name is known, or chosen.

    Raises   Undecided when there are several, or one whose name only seems to say so beside a column of prompts
    """
    known = [by_small[name] for name in ADVERSARIAL if name in by_small]
    seeming = [theirs for small, theirs in by_small.items() if SEEMS_ADVERSARIAL.search(small) and theirs not in known]
    if chosen is not None:
        return chosen if chosen in (*known, *seeming) else next(iter(known), None)
    if len(known) == 1:
        return known[0]
    plain = [by_small[name] for name in NAMES["prompt"] if name in by_small]
    candidates = known or ([*plain, *seeming] if seeming else [])
    if len(candidates) > 1:
        listed = ", ".join(f'"{name}"' for name in candidates)
        raise Undecided(
            f"{path} has several columns that may hold the prompts: {listed}. Say which with --column NAME: for an attack the prompts "
            "that it made, for targets those it started from.",
            candidates,
        )
    return next(iter(candidates), None)


def _csv(path: Path, text: str, column: str | None) -> tuple[list[str], list[list[str]], bool, int]:
    """(header, rows of cells, was there no header?, how many rows were read as they stand) of a CSV file; commas, tabs or semicolons."""
    first = next((line for line in _lines(text) if line.strip()), "")
    for delimiter in (",", "\t", ";"):
        header = _split(first, delimiter)
        if _is_header(header, column):
            rows, n_raw = _rows(path, text, delimiter, len(header))
            return [name.strip() for name in header], rows[1:], False, n_raw
    header = _split(first, ",")
    if column is not None:
        raise PromptError(f'{path} has no column "{column}" in its first row. Leave out --column to have the file looked at.')
    if not header:
        raise PromptError(f"{path} has no prompts: the file is empty.")
    if not any(len(cell.split()) >= WORDS_OF_A_PROMPT or _is_number(cell) for cell in header):
        raise _no_prompts(path, header, "; for a list without a header, end its name in .txt (a prompt a line).")
    try:
        rows, n_raw = [row for row in _strict(text, ",") if row], 0
    except csv.Error:
        rows, n_raw = _rows(path, text, ",", 1)
    if len({len(row) for row in rows}) > 1:  # unquoted commas belong to the prompt
        return ["prompt"], [[",".join(row)] for row in rows], True, n_raw
    return ["prompt"], [row[:1] for row in rows], True, n_raw


def _lines(text: str) -> io.StringIO:
    """The lines with their ends; only CR and LF end one, since prompts hold other separators."""
    return io.StringIO(text, newline="")


def _is_header(cells: Sequence[str], column: str | None) -> bool:
    small = {_small(cell) for cell in cells}
    return column in [cell.strip() for cell in cells] or any(name in small for name in (*NAMES["prompt"], *ADVERSARIAL))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _split(line: str, delimiter: str) -> list[str]:
    """The cells of a first line, however its quotation marks stand."""
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return [line.strip()]


def _strict(text: str, delimiter: str) -> Iterator[list[str]]:
    return csv.reader(_lines(text), delimiter=delimiter, strict=True)


def _rows(path: Path, text: str, delimiter: str, width: int) -> tuple[list[list[str]], int]:
    """(rows of cells with the header's first, how many were read as they stand).

    A quotation mark in the middle of a cell belongs to it, and so do all marks of a cell that begins with one and goes on behind the
    second. In a list of one column commas belong to the prompt as well.

    Raises   PromptError when a quotation mark is not closed, or a line can be read in several ways
    """
    try:
        rows = [row for row in dropwhile(_is_empty, _strict(text, delimiter)) if row]
        if width > 1 or all(len(row) == 1 for row in rows):
            return rows, 0
    except csv.Error as error:
        if "field larger" in str(error):
            raise PromptError(f"{path} is no CSV file: {error}. Look for a quotation mark that is not closed.") from error
    rows, n_raw = [], 0
    for number, line in enumerate(_lines(text), 1):
        line = line.rstrip("\r\n")
        if not line.strip():
            continue
        cells, raw = _as_it_stands(line, delimiter, width)
        if cells is None:
            raise PromptError(
                f"{path} is no CSV file: line {number} has a quotation mark that is not closed, or can be read in several ways."
            )
        rows.append(cells)
        n_raw += raw
    return rows, n_raw


def _is_empty(row: Sequence[str]) -> bool:
    return not "".join(row).strip()


def _as_it_stands(line: str, delimiter: str, width: int) -> tuple[list[str] | None, bool]:
    """(cells of a line, was it read as it stands?); (None, False) when that cannot be told."""
    try:
        cells = next(csv.reader([line], delimiter=delimiter, strict=True))
        if width > 1 or len(cells) == 1:
            return cells, False
    except csv.Error:
        pass
    if line.count('"') % 2:
        return None, False
    cells = [line.strip()] if width == 1 else _loose(line, delimiter)
    return (cells, True) if len(cells) == width else (None, False)


def _loose(line: str, delimiter: str) -> list[str]:
    """The cells of a line in which quotation marks close a cell only before a delimiter or the end."""
    quoted, cells, at = re.compile(rf'"((?:[^"]|"")*)"(?={delimiter}|$)'), [], 0
    while True:
        match = quoted.match(line, at)
        end = match.end() if match else line.find(delimiter, at)
        end = len(line) if end < 0 else end
        cells.append(match[1].replace('""', '"') if match else line[at:end])
        if end >= len(line):
            return cells
        at = end + 1


def _fitted(path: Path, cells: Iterable[list[Any]], header: list[str], columns: dict[str, str]) -> tuple[list[list[Any]], int]:
    """(rows as wide as the header, how many had a prompt with commas outside quotation marks).

    Such a row has too many cells. Where a seed stands behind the prompt and is a whole number once the surplus is joined to the
    prompt, only that reading is possible.

    Raises   PromptError for any other row with too many cells
    """
    width, place = len(header), header.index(columns["prompt"])
    seed, fitted, n_joined = header.index(columns["seed"]) if "seed" in columns else -1, [], 0
    for number, row in enumerate(cells, 1):
        if surplus := max(0, len(row) - width):
            end = place + surplus + 1
            row = [*row[:place], ",".join(row[place:end]), *row[end:]]
            if seed <= place or not row[seed].strip().isdigit():
                raise PromptError(
                    f"{path}: row {number} has {width + surplus} cells, the header {width}. Put prompts with commas into quotation marks."
                )
            n_joined += 1
        fitted.append(row + [""] * (width - len(row)))
    return fitted, n_joined


def _json(path: Path, text: str) -> tuple[list[str], list[list[Any]]]:
    """(header, rows of cells) of a JSON list of objects, or of one object a line."""

    def no_number(word: str) -> None:
        raise ValueError(f"{word} stands where a number should be, and JSON has none of that name")

    try:
        parts = [line for line in _lines(text) if line.strip()] if path.suffix.lower() == ".jsonl" else [text]
        records = [json.loads(part, parse_constant=no_number) for part in parts]
        records = records if path.suffix.lower() == ".jsonl" else records[0]
    except (ValueError, RecursionError) as error:
        raise PromptError(f"{path} is no JSON file: {error}.") from error
    if not isinstance(records, list) or not records or not all(isinstance(record, dict) for record in records):
        raise PromptError(f"{path} holds something else than prompts: a JSON list of objects with a key prompt is needed.")
    header = list(dict.fromkeys(key for record in records for key in record))
    return header, [[record.get(key) for key in header] for record in records]
