"""Tables of prompts as the papers publish them: CSV with and without a header, text with a prompt a line, JSON.

read_table   file -> Found
"""

import csv
import io
import json
from itertools import dropwhile
from pathlib import Path
from typing import NamedTuple

from workbench.errors import PromptError, nearest
from workbench.study.imports.found import Found

# our name -> what the sources call it, the first that is there wins; FORMATS.md section 3
NAMES = {
    "prompt": ("adv_prompt", "prompt", "sensitive prompt", "text"),
    "anchor": ("anchor", "normal prompt", "prompt1"),
    "seed": ("evaluation_seed", "sd_seed", "seed"),
    "id": ("id", "case_number", "case_num", "image_id", "unnamed: 0", "index"),
    "guidance": ("evaluation_guidance", "sd_guidance_scale", "guidance"),
    "original": ("original", "target_prompt"),
    "unit": ("unit",),
    "expect": ("expect",),
    "success": ("success",),
    "success_before": ("success_before",),
    "image": ("image",),
}


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


def read_table(path, column=None, text=None):
    """Read a file of prompts.

    column    the source's column that holds the prompts, when its name is not one of NAMES
    text      the file's content when it was read before
    returns   Found of kind prompts or pairs
    Raises    PromptError when there is no prompt column, a row does not fit the header, or a JSON file holds something else
    """
    path = Path(path)
    text = path.read_text(encoding="utf-8-sig") if text is None else text
    if path.suffix.lower() in (".json", ".jsonl"):
        header, cells, headerless = *_json(path, text), False
    elif path.suffix.lower() == ".txt":
        header, cells, headerless = ["prompt"], [[line] for line in _lines(text)], True
    else:
        header, cells, headerless = _csv(path, text, column)
    columns = _columns(path, header, column)
    cells, n_joined = _fitted(path, cells, header, columns)
    taken = [(ours, header.index(theirs)) for ours, theirs in columns.items()]
    if column is not None and (sniffed := _columns(path, header, None, needed=False).get("prompt")):
        taken.append(("named", header.index(sniffed)))  # whichever column is chosen, the list's own prompts say what is one unit
    rows = [{ours: row[place].strip() for ours, place in taken} for row in cells]
    if headerless:
        return Found("list without a header, the first column", "prompts", rows, {"prompt": "first column"})
    ignored = [name for name in header if name and name not in columns.values()]
    kind = "pairs" if "anchor" in columns else "prompts"
    known = _known(header, columns)
    notes = [known.note] if known.note and column is None else []
    if n_joined:
        notes.append(f"rows whose prompt has commas outside quotation marks, told by the whole-numbered seed behind it: {n_joined}")
    return Found(known.name, kind, rows, columns, ignored, notes=notes)


def _known(header, columns):
    small = {_small(name) for name in header}
    for known in KNOWN:
        if known.needs <= small:
            return known
    return Known(f'table with the column "{columns["prompt"]}"', frozenset())


def _no_prompts(path, header, more=""):
    """The error for a table in which no column is known to hold prompts."""
    if PARTS.issubset(_small(name) for name in header):
        return PromptError(
            f"{path} has prompts in pieces, in the columns {', '.join(header)}, as Ring-A-Bell's concept vectors take them. "
            "Join the pieces of each row in one column called prompt, then import it."
        )
    return PromptError(
        f"{path} has no prompts: no column is called {', '.join(NAMES['prompt'])}; found {', '.join(header)}. "
        f"Name the one that holds them: --column NAME{more}"
    )


def _small(name):
    return name.strip().lower()


def _columns(path, header, chosen, needed=True):
    """{our name: the source's name} of a header; a chosen prompt column takes the place of the sniffed one.

    needed   whether there must be a prompt column
    """
    by_small = {}
    for name in header:
        by_small.setdefault(_small(name), name)
    columns = {}
    for ours, names in NAMES.items():
        found = [by_small[name] for name in names if name in by_small]
        if found:
            columns[ours] = found[0]
    if "id" not in columns and header and header[0] == "":
        columns["id"] = header[0]
    if chosen is not None:
        if chosen not in header:
            raise PromptError(f'{path} has no column "{chosen}".{nearest(chosen, filter(None, header))}')
        columns = {ours: theirs for ours, theirs in columns.items() if theirs != chosen} | {"prompt": chosen}
    if "prompt" not in columns and needed:
        raise _no_prompts(path, header)
    if columns.get("prompt", "") == by_small.get("adv_prompt") and "prompt" in by_small and "original" not in columns:
        columns["original"] = by_small["prompt"]
    return columns


def _csv(path, text, column):
    """(header, rows of cells, was there no header?) of a CSV file; commas, tabs or semicolons."""
    first = next((line for line in _lines(text) if line.strip()), "")
    for delimiter in (",", "\t", ";"):
        header = next(csv.reader([first], delimiter=delimiter), [])
        if _is_header(header, column):
            return [name.strip() for name in header], _cells(path, text, delimiter), False
    header = next(csv.reader([first]), [])
    if column is not None:
        raise PromptError(f'{path} has no column "{column}" in its first row. Leave out --column to have the file looked at.')
    if not header:
        raise PromptError(f"{path} has no prompts: the file is empty.")
    if not any(len(cell.split()) >= WORDS_OF_A_PROMPT or _is_number(cell) for cell in header):
        raise _no_prompts(path, header, "; for a list without a header, end its name in .txt (a prompt a line).")
    rows = [row for row in _reader(path, text, ",") if row]
    if len({len(row) for row in rows}) > 1:  # unquoted commas belong to the prompt
        return ["prompt"], [[",".join(row)] for row in rows], True
    return ["prompt"], [row[:1] for row in rows], True


def _lines(text):
    """The lines with their ends; only CR and LF end one, since prompts hold other separators."""
    return io.StringIO(text, newline="")


def _is_header(cells, column):
    small = {_small(cell) for cell in cells}
    return column in [cell.strip() for cell in cells] or any(name in small for name in NAMES["prompt"])


def _is_number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _reader(path, text, delimiter):
    try:
        yield from csv.reader(_lines(text), delimiter=delimiter, strict=True)
    except csv.Error as error:
        raise PromptError(f"{path} is no CSV file: {error}. Look for a quotation mark that is not closed.") from error


def _cells(path, text, delimiter):
    return [row for row in dropwhile(lambda row: not "".join(row).strip(), _reader(path, text, delimiter)) if row][1:]


def _fitted(path, cells, header, columns):
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


def _json(path, text):
    """(header, rows of cells) of a JSON list of objects, or of one object a line."""
    try:
        parts = [line for line in _lines(text) if line.strip()] if path.suffix.lower() == ".jsonl" else [text]
        records = [json.loads(part) for part in parts]
        records = records if path.suffix.lower() == ".jsonl" else records[0]
    except (json.JSONDecodeError, RecursionError) as error:
        raise PromptError(f"{path} is no JSON file: {error}.") from error
    if not isinstance(records, list) or not records or not all(isinstance(record, dict) for record in records):
        raise PromptError(f"{path} holds something else than prompts: a JSON list of objects with a key prompt is needed.")
    header = list(dict.fromkeys(key for record in records for key in record))
    return header, [[_text(record.get(key)) for key in header] for record in records]


def _text(value):
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)
