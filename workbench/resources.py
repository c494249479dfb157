"""Finds pages/, analyses/, data/ and the example run in a checkout or inside the wheel."""

import os
from pathlib import Path

from workbench.errors import StudyError, nearest

BUNDLED_MODELS = {"emoji": "emoji/model"}  # name -> folder below data/
PACKAGE = Path(__file__).resolve().parent
EXAMPLE = "example"  # the name of the example run
EXAMPLE_FOLDER = "WORKBENCH_EXAMPLE"  # the environment variable that names another folder for it; empty for none


def folder(name: str) -> Path:
    """The folder `pages`, `analyses` or `data`: beside the package in a checkout, as `_name` inside a wheel."""
    inside = PACKAGE / f"_{name}"
    return inside if inside.exists() else PACKAGE.parent / name


def example_run() -> Path | None:
    """The folder of the example run, which is read only; None where there is none."""
    named = os.environ.get(EXAMPLE_FOLDER)
    found = folder("data") / "example-run" if named is None else Path(named)
    return found if named != "" and found.is_dir() else None


def is_example(path: str | Path) -> bool:
    """Whether a folder is that of the example run, by whatever path."""
    example = example_run()
    try:
        return example is not None and os.path.samefile(path, example)
    except OSError:
        return False


def find_model(name: str | Path, beside: str | Path) -> Path | None:
    """Where a base model is: the folder of a bundled one, a file or folder beside the study or as given; None for a hub id."""
    return folder("data") / BUNDLED_MODELS[str(name)] if str(name) in BUNDLED_MODELS else find(name, beside)


def study_files() -> dict[str, Path]:
    """{name: path} of the bundled studies."""
    return {path.stem: path for path in sorted(folder("analyses").glob("*.toml"))}


def find_study(name: str | Path) -> Path:
    """A path to a study file, from a path or the name of a bundled study.

    Raises   StudyError when neither exists
    """
    if os.path.isfile(name):
        return Path(name)
    bundled = study_files()
    if str(name) in bundled:
        return bundled[str(name)]
    if os.path.isdir(name):
        inside = nearest(Path(name).name, [one.name for one in Path(name).glob("*.toml")][:200])
        raise StudyError(f'"{name}" is a folder. Name the study file in it.{inside}')
    what = "not a regular file" if os.path.exists(name) else "neither a file nor a bundled study"
    raise StudyError(f'No study file "{name}": it is {what}.{nearest(name, bundled)}')


def places(name: str | Path, beside: str | Path, *others: str | Path) -> list[Path]:
    """Where a file or folder that a study names is looked for, in this order; absolute paths, each once.

    First in the study's folder, then in the `others`, then where the command was started. `~` is the home folder.
    """
    given = os.path.expanduser(name)
    return [Path(path) for path in dict.fromkeys(os.path.abspath(os.path.join(place, given)) for place in (beside, *others, "."))]


def find(name: str | Path, beside: str | Path, *others: str | Path) -> Path | None:
    """The first of the `places` that is there, or None."""
    return next((path for path in places(name, beside, *others) if os.path.exists(path)), None)


def looked(name: str | Path, beside: str | Path, *others: str | Path) -> str:
    """The `places` in words, for an error."""
    return f"Looked for {', '.join(map(str, places(name, beside, *others)))}."


def find_file(name: str | Path, beside: str | Path) -> Path:
    """A file or folder a study names: relative to the study's folder, else to the bundled data folder, else as given.

    Raises   StudyError that lists where it was looked for
    """
    found = find(name, beside, folder("data"))
    if found is None:
        raise StudyError(f'The file "{name}" was not found. {looked(name, beside, folder("data"))}')
    return found
