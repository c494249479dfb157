"""A study that is being written on the page New study: where it starts from, whether it is right, where it is saved. Needs no Streamlit.

origins    what a new study can start from;  opened   the text of one of them, its files named so that they are found from anywhere
checked    the study a text says, or the error that the command line gives
save       write the study file;  in_the_way   what would be replaced or continued
"""

import os
import re
import tomllib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from workbench import resources
from workbench.errors import RunError, StudyError
from workbench.execution.run_folder import Store
from workbench.storage import write_text
from workbench.study import as_toml
from workbench.study.fields import MOST_NAME
from workbench.study.study import NAME, Study, load_study, study_of_text
from workbench.ui import run_list

STUDIES = "studies"  # the folder of study files in the folder of runs
STUDY, RUN = "study:", "run:"  # how an origin begins, in the address too
FILE = "file"
PATHS = (".csv", ".toml", ".json", ".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".npz")


def origins() -> dict[str, str]:
    """{origin: words} of all that a new study can start from: bundled studies, runs, a file."""
    found = {f"{STUDY}{name}": f"study {name}" for name in resources.study_files()}
    found |= {f"{RUN}{name}": f"run {name}" for name in run_list.names()}
    return found | {FILE: "a study file of your own"}


def opened(origin: str) -> str:
    """The text of the study that an origin names.

    Raises   RunError or StudyError when it cannot be read
    """
    if origin.startswith(RUN):
        folder = run_list.folder_of_name(origin.removeprefix(RUN))
        if folder is None:
            raise RunError(f'There is no run "{origin.removeprefix(RUN)[:80]}" to start from. Choose another one.')
        return of_run(folder)
    return load_study(origin.removeprefix(STUDY), files=False).text


def of_run(folder: Path) -> str:
    """The study of a run, with what --set changed; as written, where it was written so and all its files are found from anywhere."""
    store = Store(folder)
    study, beside = store.study(), Path(store.study_folder())
    data: dict[str, Any] | None = None
    with suppress(OSError, ValueError, StudyError):
        text = (folder / "study.toml").read_text(encoding="utf-8")
        if study_of_text(text, folder / "study.toml", files=False).model_dump(mode="json") == study:
            data = tomllib.loads(text)
            if _placed(data, beside) == data:
                return text
    try:
        return as_toml.text(_placed(data or as_toml.concise(study), beside))
    except ValueError as error:
        raise RunError(f"{folder / 'study.json'} is no study of this version ({error}). Start from another one.") from None


def renamed(text: str) -> str:
    """The text with another name where a run or study file of its name is there already: mine, mine-2, mine-3 …"""
    with suppress(ValueError, RecursionError, StudyError, KeyError, TypeError):
        name = tomllib.loads(text)["name"]
        base, number, free = re.sub(r"-\d+$", "", name), 1, name
        while path_of(free).exists() or run_folder_of(free).exists():
            number += 1
            free = f"{base}-{number}"
        changed = re.sub(r"^name *=.*$", lambda _: f'name = "{free}"', text, count=1, flags=re.MULTILINE)
        if tomllib.loads(changed) == tomllib.loads(text) | {"name": free}:
            return changed
    return text


def _placed(data: Any, beside: Path, key: str = "") -> Any:
    """The data of a study with absolute paths for the files that are found beside it only."""
    if isinstance(data, dict):
        return {name: _placed(one, beside, name) for name, one in data.items()}
    if isinstance(data, list):
        return [_placed(one, beside, key) for one in data]
    if isinstance(data, str) and (key == "base" or "/" in data or data.endswith(PATHS)) and len(data) < 1000:
        found = resources.find(data, resources.folder("data"), beside)
        if found is not None and not found.is_relative_to(resources.folder("data")):
            return str(found)
    return data


def studies_folder() -> Path:
    """Where study files of the page are written."""
    return Path(os.path.abspath(run_list.runs_folder())) / STUDIES


def path_of(name: str) -> Path:
    """Where the study file of that name is written.

    Raises   StudyError for a name that no study can have; nothing of a name becomes a path that leads elsewhere
    """
    if not isinstance(name, str) or not re.fullmatch(NAME, name) or len(name) > MOST_NAME or name == STUDIES:
        raise StudyError(
            f'No study can be called "{str(name)[: MOST_NAME + 1]}" here: use small letters, digits and hyphens, at most {MOST_NAME}, '
            f'and not "{STUDIES}".'
        )
    return studies_folder() / f"{name}.toml"


def run_folder_of(name: str) -> Path:
    """The folder in which a study of that name runs."""
    return path_of(name).parents[1] / name


def checked(text: str) -> Study:
    """The study that a text says.

    Raises   StudyError as the command line does for the file, or for a name that no study file can have here
    """
    name = ""
    with suppress(ValueError, RecursionError, AttributeError):
        name = str(tomllib.loads(text).get("name", ""))
    place = studies_folder() / (f"{name}.toml" if re.fullmatch(NAME, name) else "new.toml")
    study = study_of_text(text, place)
    path_of(study.name)
    return study


def in_the_way(study: Study) -> list[str]:
    """Sentences about what is there under the name of a study and would be replaced or continued; none when nothing is."""
    path, folder, found = path_of(study.name), run_folder_of(study.name), []
    if path.exists() and _read(path) != study.text:
        found.append(f"The study file {path} exists and says something else. It is replaced.")
    store = Store(folder)
    if store.is_run() or store.is_starting():
        try:
            same = store.study() == study.model_dump(mode="json")
        except RunError:
            same = False
        if same:
            found.append(f'The run "{study.name}" exists, of this very study. It continues; nothing that is finished is computed again.')
        else:
            found.append(
                f'The run "{study.name}" exists, of a study that differs. It continues with the new study: results that both need are '
                "kept, its report is replaced. Choose another name to keep both."
            )
    return found


def save(study: Study, replace: bool = False) -> Path:
    """Write the study file; its path.

    replace   whether a file of that name that says something else is replaced
    Raises    StudyError when there is one and it is not, or when the file cannot be written
    """
    path = path_of(study.name)
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise StudyError(f"{path} is no ordinary file, so nothing is written there. Choose another name.")
        if path.exists() and _read(path) != study.text and not replace:
            raise StudyError(f"{path} exists and says something else. Choose another name, or agree to replace it.")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, study.text)
    except OSError as error:
        raise StudyError(f"{path} cannot be written: {error.strerror or error}.") from error
    return path


@contextmanager
def set_down(study: Study) -> Iterator[Path]:
    """The study as a file that is removed at the end of the block, in the folder where it will be saved."""
    path = path_of(study.name).with_name(f".{study.name}.{uuid.uuid4().hex[:8]}.toml")
    try:
        write_text(path, study.text)
    except OSError as error:
        raise StudyError(f"{path.parent} cannot be written: {error.strerror or error}.") from error
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
