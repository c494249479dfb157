"""A run folder as Python, the command line and pages open it.

Run         tables of the report, neurons, the report in a format
open_run    by folder or name, `example` too;  find_run   the folder alone;  folder_of   that of a study
list_runs   names of the run folders there are
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import resources
from workbench.errors import RunError, nearest
from workbench.execution.run_folder import Store
from workbench.report import document
from workbench.storage import DamagedFile, read_table

if TYPE_CHECKING:
    import pandas

    from workbench.study.study import Study


DEFAULT_FOLDER = "runs"


class Run:
    """A run folder. Tables of the report as data frames: `neurons`, `images`, `activity`, and `table(name)` for the others."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.store = Store(folder)
        self.store.refuse_other_layout()
        if not self.store.is_run() and self.store.starter() is None:
            self.store.manifest()

    @property
    def study(self) -> "Study":
        """The study of the run, with relative files looked for where its file was.

        Raises   RunError when study.json is missing, damaged or no study
        """
        from pydantic import ValidationError

        from workbench.study.study import Study

        try:
            return Study(**self.store.study()).inside(self.store.study_folder())
        except ValidationError as error:
            why, again = error.errors()[0]["msg"], self.store.command()
            raise RunError(f"{self.folder / 'study.json'} is no study ({why}). Run the study again to write a new one: {again}") from None

    @property
    def document(self) -> dict[str, Any]:
        """report.json as a dict, read as `report.document.load` does: checked, and an older one brought up to date.

        Raises   RunError when there is none yet, or it is damaged or of another version
        """
        if not (self.store.report_folder / "report.json").exists():
            raise RunError(f"{self.folder} has no report yet. Go on with the run to finish it: {self.store.command()}")
        return document.load(self.store.report_folder)

    def table(self, name: str) -> "pandas.DataFrame":
        """A table of report.json as a data frame."""
        import pandas

        return pandas.DataFrame(self.document[name])

    @property
    def neurons(self) -> "pandas.DataFrame":
        """One row per neuron: layer, index, scores, sets, D, R, delta."""
        path = self.store.report_folder / "neurons.parquet"
        if not path.exists():
            raise RunError(f"{self.folder} has no neuron table yet. Go on with the run to finish it: {self.store.command()}")
        try:
            return read_table(path)
        except DamagedFile as error:
            raise RunError(f"{path} is damaged ({error.why}). Run the study again to write a new one: {self.store.command()}") from None

    @property
    def images(self) -> "pandas.DataFrame":
        """One row per picture of the report."""
        return self.table("images")

    @property
    def activity(self) -> "pandas.DataFrame":
        """Concept activity of every condition."""
        return self.table("activity")

    def report(self, format: str = "html") -> Path:
        """Path of the report in a format (html, md, json, csv), rendered again from report.json; of the example run, as it is there.

        Raises   RunError for another format, or one that the example run has not
        """
        from workbench.report.renderers import render

        folder = self.store.report_folder
        if format == "json":
            document.load(folder)
            return folder / "report.json"
        if format not in ("html", "md", "csv"):
            raise RunError(f'No report format "{format}". Possible: html, md, json, csv.')
        path = {"html": folder / "report.html", "md": folder / "report.md", "csv": folder / "tables"}[format]
        if not self.store.read_only:
            render.render(folder, (format,))
        elif not path.exists():
            self.store.refuse_read_only()
        return path


def folder_of(study: "Study", out: str | Path | None = None) -> Path:
    """The run folder of a study."""
    return Path(out) if out else Path(DEFAULT_FOLDER) / study.name


def _is_run(folder: Path) -> bool:
    return Store(folder).is_run() or Store(folder).is_starting()


def find_run(name: str | Path) -> Path | None:
    """The folder of a run, given as a folder or as a name under runs/; None when there is none.

    `example` is the example run where no run is called so.
    """
    places = [Path(name), Path(DEFAULT_FOLDER) / str(name)]
    if str(name) == resources.EXAMPLE and (example := resources.example_run()):
        places.append(example)
    return next((folder for folder in places if _is_run(folder)), None)


def open_run(name: str | Path) -> Run:
    """A run by folder, or by its name under runs/.

    Raises   RunError that lists the runs there are, or that says the run is of another layout
    """
    folder = find_run(name)
    if folder is not None:
        return Run(folder)
    raise RunError(f'No run "{name}".{nearest(name, list_runs())}')


def list_runs(folder: str | Path = DEFAULT_FOLDER) -> list[str]:
    """Names of the run folders under a folder; a damaged run is among them."""
    return sorted(path.name for path in Path(folder).glob("*") if _is_run(path))
