"""Start your own study: a copy of a bundled one, with its prompt files beside it, to edit."""

import re
import tomllib
from contextlib import suppress
from pathlib import Path

from workbench import resources, textfile
from workbench.errors import StudyError
from workbench.storage import write_text
from workbench.study.fields import MOST_NAME
from workbench.study.study import NAME, load_study


def scaffold(name: str, like: str | Path = "emoji-ink-style", folder: str | Path = ".") -> list[Path]:
    """Write <name>.toml and the prompt files it names into a folder; list of the paths written, the study first.

    like     name or file of the study to start from; its text is kept, but for name and title. A bundled study of prompts that are
             not shipped comes without them
    Raises   StudyError for a name that no study can have, a prompt file outside the folder of the study, a place that cannot be written,
             or when a file of that name is there already: nothing is written then
    """
    if not re.fullmatch(NAME, name) or len(name) > MOST_NAME:
        raise StudyError(
            f'No study can be called "{name[: MOST_NAME + 1]}": use small letters, digits and hyphens, at most {MOST_NAME}, e.g. my-church.'
        )
    source, folder = load_study(like, files=str(like) not in resources.study_files()), Path(folder)
    named = [*source.prompts.files.values(), *(variant.pairs for variant in source.variants if variant.pairs)]
    files = [file for file in dict.fromkeys(named) if not Path(file).is_absolute() and _is_there(file, source.folder)]
    for file in files:
        if ".." in Path(file).parts:
            raise StudyError(f"{like} names {file}, which lies outside its folder, so it cannot be copied with it. Copy both by hand.")
    paths = [folder / f"{name}.toml", *(folder / file for file in files)]
    if there := [path for path in paths if path.exists()]:
        raise StudyError(f"{there[0]} exists already, and nothing is replaced. Choose another name, or another folder with --out.")
    text = _with(_with(source.text, "name", name), "title", f"{name}, started as a copy of {source.name}")
    text = re.sub(r"^# Run it with.*$", f"# Run it with `workbench run {name}.toml`.", text, count=1, flags=re.MULTILINE)
    if not _says(text, name):
        raise StudyError(f"{like} has no line that begins with `name =`, so it cannot be copied. Copy it by hand.")
    copies = [textfile.content(resources.find_file(file, source.folder), StudyError) for file in files]
    try:
        for copy, path in zip(copies, paths[1:], strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(copy)
        write_text(paths[0], text)
    except OSError as error:
        raise StudyError(f'"{folder}" cannot be written: {error.strerror or error}. Choose another folder with --out.') from error
    return paths


def _says(text: str, name: str) -> bool:
    try:
        return tomllib.loads(text)["name"] == name
    except (ValueError, KeyError):
        return False


def _is_there(file: str, folder: Path) -> bool:
    with suppress(StudyError):
        return resources.find_file(file, folder).is_file()
    return False


def _with(text: str, key: str, value: str) -> str:
    """The text with the first line `key = "..."` saying another value."""
    return re.sub(rf'^{key} = ".*"$', lambda _: f'{key} = "{value}"', text, count=1, flags=re.MULTILINE)
