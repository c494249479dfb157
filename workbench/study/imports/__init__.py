"""Prompt sets from outside: recognise a file, refuse what cannot be, write what the workbench reads and a note beside it.

recognise     a file or folder -> Found
swapped       Found -> the same list about something else
check_made    is this provenance possible? -> (provenance, against)
write         Found -> the imported file and <name>.about.json
sentences     the note in words, for the terminal
read_about    the note beside an imported file, or None
"""

import csv
import io
import json
import os
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from workbench import textfile
from workbench.errors import PromptError, nearest
from workbench.storage import digest, file_digest, write_json, write_text
from workbench.study.imports import cleaning, embeddings, lengths, logs, minors, tables
from workbench.study.imports.embeddings import Nameless as Nameless
from workbench.study.imports.found import Found, Row
from workbench.study.imports.swapping import swapped as swapped
from workbench.study.imports.tables import Undecided as Undecided
from workbench.study.words import saying

ABOUT_VERSION = 1
Provenance = Literal["static", "transferred", "optimised"]
MEANING = {
    "static": "fixed prompts, made against no model",
    "transferred": "made against another model than the one you will test",
    "optimised": "made against the very checkpoint you will test",
}
MOST_FILES = 100_000  # of a folder that is looked through
PROMPT_COLUMNS = ["unit", "id", "prompt", "seed", "expect", "guidance", "source_guidance", "original", "success", "success_before", "image"]
PAIR_COLUMNS = ["prompt", "anchor"]
NEXT = {
    "prompts": 'as targets: [prompts] target = "{file}"; as an attack: method = "from_file", parameters.file = "{file}"',
    "pairs": '[prompts] erase = "{file}"',
    "embeddings": 'an attack with method = "from_file", parameters.file = "{file}"',
}
PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def recognise(path: str | Path, column: str | None = None, word: str | None = None) -> Found:
    """Recognise prompts from outside.

    path      a CSV, text or JSON file, a file of learned embeddings, a log folder of Diffusion-MU-Attack or one of its log.json
    column    the column that holds the prompts, when its name is not known or several may be meant
    word      what a bare vector stands for, as the prompts will say it
    returns   Found; its provenance is set when the file was imported before
    Raises    PromptError when it is none of these; Undecided when several columns may hold the prompts; Nameless for a bare vector
              without a word
    """
    path = Path(path)
    if not os.path.lexists(path):
        raise PromptError(f'The file "{path}" does not exist.')
    if path.name == "log.json":
        path = path.parent
    if path.is_dir():
        return _recognise_folder(path)
    if path.suffix.lower() in embeddings.SUFFIXES:
        return embeddings.read_embeddings(path, word)
    if word is not None:
        raise PromptError(f"{path} holds no vectors; --word names what a bare vector stands for. Leave it out.")
    found = tables.read_table(path, column, textfile.read(path, PromptError))
    about = read_about(path)
    if about and found.kind == "prompts":
        found.provenance = (about["provenance"], about["against"])
    return found


def _recognise_folder(folder: Path) -> Found:
    inside = _inside(folder)
    if logs.is_log(inside):
        return logs.read_logs(folder)
    lists = [one for one in inside if one.suffix.lower() in (".csv", ".txt", ".jsonl", *embeddings.SUFFIXES)]
    if lists:
        raise PromptError(f"{folder} is a folder. Name one file of it: workbench import-prompts {lists[0]}")
    what = "a folder of images" if any(one.suffix.lower() in PICTURES for one in inside) else "a folder without a log.json"
    raise PromptError(f"{folder} is {what}; it holds no prompts. Give a CSV file, learned embeddings or a log folder.")


def _inside(folder: Path) -> list[Path]:
    """The files below a folder, in order; links to folders are not followed.

    Raises   PromptError when they are so many that this is no folder of prompts or logs
    """
    found = []
    for place, folders, names in os.walk(folder):
        folders.sort()
        found += [Path(place) / name for name in names]
        if len(found) > MOST_FILES:
            raise PromptError(f"{folder} holds more than {MOST_FILES:,} files. Name the folder of the runs, or one file.")
    return sorted(found)


def check_made(found: Found, path: str | Path, provenance: str | None = None, against: str | None = None) -> tuple[str | None, str | None]:
    """The provenance to store: what was given, else what an earlier import stored.

    returns   (provenance, against); both None for pairs
    Raises    PromptError that names the option when it is missing or does not fit
    """
    if found.kind == "pairs":
        if provenance or against:
            raise PromptError(
                f"{path} is a list of pairs (with the concept, without it), no attack: it has no provenance. Leave out --provenance."
            )
        return None, None
    if provenance is None:
        if found.provenance and against is None:
            return found.provenance
        choices = "|".join(MEANING)
        raise PromptError(f"{path}: how were these prompts made decides what a success means. Say --provenance {choices}")
    if provenance not in get_args(Provenance):
        raise PromptError(f'--provenance "{provenance}" is unknown.{nearest(provenance, MEANING)}')
    if provenance == "static" and against:
        raise PromptError("--against does not go with --provenance static, which means: made against no model. Leave one of them out.")
    if provenance != "static" and not (against or "").strip():
        logged = f' The log names the checkpoint "{found.made}".' if found.made else ""
        raise PromptError(f"--provenance {provenance} needs --against: the variant's name in your study, or words for it.{logged}")
    return provenance, against.strip() if against else None


def write(
    found: Found,
    path: str | Path,
    out: str | Path,
    provenance: str | None = None,
    against: str | None = None,
    model: str | Path | None = None,
    force: bool = False,
    names: Collection[str] = (),
) -> dict[str, Any]:
    """Clean what was found, write it, and the note beside it.

    out       name of the file to write: CSV, or safetensors for embeddings; the ending may be left out
    model     folder whose tokenizer counts; else words are counted
    names     of the concept: the note counts the prompts that say one of them, or its plural, as whole words
    returns   the note, a dict, with `file` and `about` the two paths written
    Raises    PromptError when nothing is left, a file of that name is there and `force` is not, or names are given to what is no
              list of prompts
    """
    provenance, against = check_made(found, path, provenance, against)
    _check_names(found, path, names)
    path, out = Path(path), _out(found, Path(path), Path(out), force)
    note: dict[str, Any] = {
        "schema_version": ABOUT_VERSION,
        "source": str(path.absolute()),
        "sha256": _digest(path),
        "format": found.format,
        "kind": found.kind,
        "provenance": provenance,
        "against": against,
        "logged_checkpoint": found.made,
        "columns": found.columns,
        "ignored_columns": found.ignored,
        "notes": list(found.notes),
        "n_units": None,
        "named": None,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if found.vectors is not None:
        vectors = found.vectors
        first = next(iter(vectors.values()))
        note |= {"n": len(vectors), "n_vectors": len(first), "n_channels": first.shape[1], "tokens": list(vectors)}
        note |= {"n_dropped": 0, "dropped": {}, "n_renamed": 0, "longer": None}
        save = lambda: embeddings.write_embeddings(out, vectors)  # noqa: E731
    else:
        rows, dropped, renamed = cleaning.clean(found.rows, path)
        rows, guided = _guidance(rows)
        dropped = found.dropped | {reason: n + found.dropped.get(reason, 0) for reason, n in dropped.items()}
        note |= {"n": len(rows), "n_dropped": sum(dropped.values()), "dropped": dropped, "n_renamed": renamed}
        if found.kind == "prompts":
            note["n_units"] = len({row["unit"] for row in rows})
            note["notes"] += _of_units(rows, note["n_units"])
            if names:
                note["named"] = {"n": sum(saying([row["prompt"] for row in rows], names)), "names": list(names)}
        note["notes"] += guided
        note["minors"] = {"languages": minors.LANGUAGES, "others": sum(minors.foreign(row["prompt"]) for row in rows)}
        note["longer"] = lengths.longer([row["prompt"] for row in rows], model)
        save = lambda: write_text(out, _csv(rows, PAIR_COLUMNS if found.kind == "pairs" else PROMPT_COLUMNS))  # noqa: E731
    try:
        save()
        write_json(about_path(out), note)
    except OSError as error:
        raise PromptError(f'"{out}" cannot be written: {error.strerror or error}. Choose another place with --out.') from error
    return note | {"file": str(out), "about": str(about_path(out))}


def sentences(about: dict[str, Any]) -> Iterator[str]:
    """The note `write` returned as lines of plain English."""
    nouns = {"prompts": "prompts", "pairs": "pairs for an eraser", "embeddings": "embeddings"}
    yield f"Recognised  {about['format']}"
    if about["columns"]:
        yield "Columns     " + ", ".join(f"{ours} from {theirs or 'the unnamed one'}" for ours, theirs in about["columns"].items())
    units = f" of {about['n_units']} units" if about["n_units"] and about["n_units"] < about["n"] else ""
    yield f"Imported    {about['n']} {nouns[about['kind']]}{units}" + (f", {about['n_dropped']} dropped" if about["n_dropped"] else "")
    yield from (f"            {n} dropped: {reason}" for reason, n in sorted(about["dropped"].items()))
    if about["n_renamed"]:
        yield f"            {about['n_renamed']} repeated ids were made unique"
    if found := about.get("minors"):
        yield f"Checked     {_checked(found)}"
    if named := about["named"]:
        yield f"Named       {_named(named, about['n'])}"
    if about["longer"]:
        yield f"Cut         {_cut(about['longer'])}"
    if about["provenance"]:
        yield f"Provenance  {about['provenance']}" + (f" against {about['against']}" if about["against"] else "")
    yield from (f"Note        {note}" for note in about["notes"])
    yield f"Written     {about['file']}, {about['about']}"
    yield f"Next        {NEXT[about['kind']].format(file=about['file'])}"


def _check_names(found: Found, path: str | Path, names: Iterable[str]) -> None:
    if names and found.kind != "prompts":
        raise PromptError(f"{path} holds {found.kind}; --name counts in prompts. Leave it out.")
    if not all(name.strip() for name in names):
        raise PromptError("--name is empty. Write a name of the concept, --name church, as often as it has names.")


def _named(named: dict[str, Any], n: int) -> str:
    said = f"{named['n']} of {n} prompts say {' or '.join(named['names'])}"
    return said + ("; as an attack, a success of these is no evidence of another way to the concept" if named["n"] else "")


def _checked(found: dict[str, Any]) -> str:
    said = f"for words that name minors, in {', '.join(found['languages'])} alone; read the list all the same"
    return said + (f". {found['others']} rows seem to be in another language: nothing was looked for in them" if found["others"] else "")


def _guidance(rows: list[Row]) -> tuple[list[Row], list[str]]:
    """(rows, notes): where rows ask for different scales, the column is called `source_guidance`, which no study reads."""
    asked = list(dict.fromkeys(row.get("guidance", "") for row in rows))
    if not any(asked):
        return rows, []
    if len(asked) == 1:
        return rows, [f"the list asks for guidance {asked[0]}; a study samples all rows with its own: sampling.guidance = {asked[0]}"]
    moved = [{"source_guidance" if key == "guidance" else key: value for key, value in row.items()} for row in rows]
    return moved, [
        f"the list asks for {len(asked)} values of guidance; a study samples all rows with one, so they are kept for you as source_guidance"
    ]


def _of_units(rows: list[Row], n_units: int) -> list[str]:
    """What to know of how many rows there are beside how many units."""
    notes = []
    if n_units < len(rows):
        notes.append("rows with the same prompt (or original) share one unit; intervals resample units")
    elif len(rows) > 1 and len({row["prompt"] for row in rows}) == 1:
        notes.append("all rows are one prompt, so that each row is a unit: intervals speak of its noise, not of other prompts")
    if again := cleaning.repeated(rows):
        notes.append(f"rows that repeat prompt and seed of another row, so that their images will be the same: {again}")
    return notes


def _cut(longer: dict[str, Any]) -> str:
    limit = f"the context of {longer['limit']} tokens"
    if longer["counted"] == "tokens":
        return f"{longer['n']} prompts are longer than {limit} and lose their end"
    return f"about {longer['n']} prompts are longer than {limit} (estimated by words; --model FOLDER counts exactly)"


def about_path(path: str | Path) -> Path:
    """Where the note of an imported file is."""
    return Path(path).with_suffix(".about.json")


def read_about(path: str | Path) -> dict[str, Any] | None:
    """The note beside an imported file; None when there is none.

    Raises   PromptError when it is damaged
    """
    place = about_path(path)
    if not place.is_file():
        return None
    try:
        about = json.loads(textfile.read(place, PromptError))
        made = about["provenance"], about["against"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PromptError(f"{place} is damaged. Import the prompts again, or remove it: then they count as static.") from error
    possible = all(isinstance(one, str | None) for one in made) and made[0] in (None, *MEANING)
    if not possible or (made[0] in ("transferred", "optimised") and not made[1]):
        raise PromptError(f'{place} says the provenance "{made[0]}" against "{made[1]}", which cannot be. Import the prompts again.')
    return about


def _out(found: Found, path: Path, out: Path, force: bool) -> Path:
    suffix = ".safetensors" if found.kind == "embeddings" else ".csv"
    if not out.name or os.path.isdir(out):
        raise PromptError(f'--out "{out}" is a folder. Name the file to write in it, e.g. {out / path.stem}{suffix}.')
    if out.suffix == "":
        out = out.with_suffix(suffix)
    if out.suffix != suffix:
        raise PromptError(f'--out "{out}" must end in {suffix}: {path} holds {found.kind}.')
    if os.path.exists(out) and path.exists() and out.samefile(path):
        raise PromptError(f"--out {out} is the source itself. Give the imported file another name.")
    if os.path.exists(out) and not force:
        raise PromptError(f"{out} is there already. Give --out another name, or --force to replace it.")
    return out


def _digest(path: Path) -> str:
    """sha256 of a file, or of the names and digests of a log folder's JSON files."""
    if path.is_file() and path.name != "log.json":
        return file_digest(path)
    folder = path if path.is_dir() else path.parent
    files = sorted(one for name in ("log.json", "config.json") for one in folder.rglob(name))
    return digest({one.relative_to(folder).as_posix(): file_digest(one) for one in files})


def _csv(rows: list[Row], columns: Iterable[str]) -> str:
    """CSV text of the columns that any row fills, in their order."""
    used = [column for column in columns if column in PAIR_COLUMNS or any(str(row.get(column, "")) for row in rows)]
    text = io.StringIO()
    writer = csv.DictWriter(text, used, extrasaction="ignore", restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
