"""Finds pages/, analyses/ and data/ in a checkout or inside the wheel."""

from pathlib import Path

from workbench.errors import StudyError, nearest

PACKAGE = Path(__file__).resolve().parent


def folder(name):
    """The folder `pages`, `analyses` or `data`: beside the package in a checkout, as `_name` inside a wheel."""
    inside = PACKAGE / f"_{name}"
    return inside if inside.exists() else PACKAGE.parent / name


def study_files():
    """{name: path} of the bundled studies."""
    return {path.stem: path for path in sorted(folder("analyses").glob("*.toml"))}


def find_study(name):
    """A path to a study file, from a path or the name of a bundled study.

    Raises   StudyError when neither exists
    """
    path = Path(name)
    if path.is_file():
        return path
    bundled = study_files()
    if str(name) in bundled:
        return bundled[str(name)]
    raise StudyError(f'No study file "{name}": it is neither a file nor a bundled study.{nearest(name, bundled)}')


def find_file(name, beside):
    """A file a study names: relative to the study's folder, else to the bundled data folder, else as given.

    Raises   StudyError that lists where it was looked for
    """
    tried = [Path(beside) / name, folder("data") / name, Path(name)]
    for path in tried:
        if path.exists():
            return path
    places = ", ".join(str(path) for path in tried)
    raise StudyError(f'The file "{name}" was not found. Looked for {places}.')
