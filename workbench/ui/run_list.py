"""Which runs there are, and what state each is in. Reads run folders only; needs no Streamlit.

names       of all runs there are to show, the example run last;  folder_of_name   the folder of one of them
list_runs   names under a folder, newest first; odd_names   those that are no text
look        one folder -> State: finished, running, stopped or damaged, with a sentence
label       a run's name, marked when it is not finished;  stamp   what changes when a run or the list of runs does
python_of   the Python that does the same as a command line
"""

import json
import os
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from workbench import resources
from workbench.errors import RunError
from workbench.execution import jobs, start
from workbench.execution.run_folder import LAYOUT, START, Store
from workbench.report import document as schema
from workbench.report import wording
from workbench.report.content import Report
from workbench.storage import DamagedFile
from workbench.terminal import visible

VARIABLE = "WORKBENCH_RUNS"
SIGNS = ("manifest.json", "study.json", "status.json", "report", START)
WATCHED = ("manifest.json", "study.json", "status.json", START, "report/report.json", "report/neurons.parquet")


@dataclass(frozen=True)
class State:
    """A run as a page sees it.

    kind       finished, running, stopped or damaged
    sentence   what a reader must know about it; empty when finished
    document   report.json, or None; a running run has one as soon as there are pictures
    read_only  whether nothing may be written into its folder, which is that of the example run
    """

    folder: Path
    kind: str
    sentence: str = ""
    document: dict | None = None
    nodes: list = field(default_factory=list)
    status: dict | None = None
    read_only: bool = False

    @property
    def name(self) -> str:
        """The name of the run, as it stands in the address."""
        return Store(self.folder).name

    @property
    def report(self) -> Report:
        """The numbers of a run that has some, for sections and cards."""
        return Report(self.document or {})

    @property
    def sensitive(self) -> bool:
        """Whether images of its concept are blurred until asked for: so unless its study says that they are harmless."""
        concept = self.document["study"]["concept"] if self.document else _study(self.folder).get("concept")
        return not (isinstance(concept, dict) and concept.get("sensitive") is False)

    @property
    def command(self) -> str:
        """The command line that made the run."""
        return Store(self.folder).command()

    def has(self, node: dict[str, Any]) -> bool:
        """Whether all results of a node of its manifest are in the folder."""
        return all(Store(self.folder).has(node["stage"], shard) for shard in node["shards"])

    @property
    def report_folder(self) -> Path:
        """Where the report is."""
        return self.folder / "report"


def runs_folder() -> Path:
    """The folder that holds the runs: what `workbench app --runs` was given, else ./runs."""
    return Path(os.environ.get(VARIABLE) or "runs")


def list_runs(folder: str | Path) -> list[str]:
    """Names of what looks like a run in a folder, newest first; a damaged run is among them."""
    found = {name: changed for name, changed in _found(folder).items() if _is_text(name)}
    return sorted(found, key=lambda name: (-found[name], name))


def odd_names(folder: str | Path) -> list[str]:
    """Names of runs that are no text, so that no address can name them; their bytes written out."""
    return sorted(visible(name) for name in _found(folder) if not _is_text(name))


def _found(folder: str | Path) -> dict[str, float]:
    """{name: when it last changed} of what looks like a run."""
    folder, found = Path(folder), {}
    for path in folder.iterdir() if folder.is_dir() else ():
        with suppress(OSError):  # removed meanwhile, or not to be read
            signs = [path / sign for sign in SIGNS if (path / sign).exists()] if path.is_dir() else []
            if signs:
                found[path.name] = max(sign.stat().st_mtime for sign in signs)
    return found


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def names() -> list[str]:
    """Names of all runs there are to show, newest first; the example run last, where no run of the user is called so."""
    own = list_runs(runs_folder())
    return [*own, resources.EXAMPLE] if resources.EXAMPLE not in own and resources.example_run() else own


def folder_of_name(name: str | None) -> Path | None:
    """The folder of a run by the name that stands in the address; None where there is no such run.

    Every page finds runs by this, so that `example` is the example run unless a run of the user is called so.
    """
    if name in list_runs(runs_folder()):
        return runs_folder() / str(name)
    return resources.example_run() if name == resources.EXAMPLE else None


def stamp(name: str | None) -> Any:
    """What changes when the run of that name or the list of runs does; cheap enough to be asked every two seconds."""
    folder = folder_of_name(name)
    return frozenset(names()), None if folder is None else changed(folder)


def changed(run: Path) -> tuple[tuple[str, int, int], ...]:
    """When the files a page shows of a run were last written, and how large they are."""
    found = []
    for name in WATCHED:
        with suppress(OSError):
            about = (run / name).stat()
            found.append((name, about.st_mtime_ns, about.st_size))
    return tuple(found)


def label(folder: str | Path) -> str:
    """The name of a run, with its state where that is not finished; the example run says that it is one."""
    kind, store = kind_of(folder), Store(folder)
    return visible(f"{store.name}, read only" if store.read_only else store.name) + ("" if kind == "finished" else f" ({kind})")


def kind_of(folder: str | Path) -> str:
    """The kind of a run's state, as `look` gives it; remembered until its folder changes."""
    store = Store(folder)
    return _kind(store.folder, changed(store.folder), store.is_running(), store.is_starting())


@lru_cache(maxsize=512)
def _kind(folder: Path, stamp: Any, running: bool, starting: bool) -> str:
    return look(folder).kind


def look(folder: str | Path) -> State:
    """The state of a run folder; what is damaged is told in its sentence, never raised."""
    folder = Path(folder)
    try:
        state = _look(folder)
    except RunError as error:
        state = State(folder, "damaged", str(error))
    except OSError as error:
        state = State(folder, "damaged", f"{folder} cannot be read: {error}.")
    return replace(state, read_only=Store(folder).read_only)


def _look(folder: Path) -> State:
    store = Store(folder)
    status, again = _status(store), store.command()
    if jobs.is_starting(store):
        return State(folder, "running", "The run is starting: it plans and loads its model.")
    if not (folder / "manifest.json").exists():
        if why := start.failure(folder):
            return State(folder, "stopped", f"The run did not start: {why.rstrip('.')}. Start it again with: {again}")
        raise RunError(f"{folder} has no manifest.json, so it is no readable run. Run it again: {again}")
    manifest = _object(folder / "manifest.json", ("layout", "nodes"), f"Run the study again, finished results are kept: {again}")
    if manifest["layout"] != LAYOUT:
        raise RunError(
            f"{folder} was written by another version of the workbench (layout {manifest['layout']}, this one reads {LAYOUT}). "
            "Open it with that version, or run the study again into another folder."
        )
    nodes = manifest["nodes"]
    if not isinstance(nodes, list) or not all(map(_is_node, nodes)):
        cure = f"Run the study again, finished results are kept: {again}"
        raise RunError(f"{folder / 'manifest.json'} is damaged: its nodes are not those of a run. {cure}")
    document, kind = _document(store.report_folder, again), jobs.state(store, nodes)
    if kind == "running":
        return State(folder, kind, "The run is in progress; numbers appear when they are measured.", document, nodes, status)
    if kind == "stopped":
        return State(folder, kind, _stopped(status, again), document, nodes, status)
    if document is None:
        raise RunError(f"The report of {folder} is missing (no report/report.json). Write it again: {again}")
    return State(folder, kind, "", document, nodes, status)


def _document(report: Path, again: str) -> dict[str, Any] | None:
    """report.json, checked; None when there is none."""
    if not (report / "report.json").exists():
        return None
    try:
        about = (report / "report.json").stat()
        return _loaded(report, about.st_mtime_ns, about.st_size, about.st_ino)
    except RecursionError:
        raise RunError(f"{report / 'report.json'} is damaged: it is nested too deeply. Write it again: {again}") from None
    except RunError as error:
        raise error if str(report) in str(error) else RunError(f"{report}: {error}") from None


@lru_cache(maxsize=8)
def _loaded(report: Path, *written: int) -> dict[str, Any]:
    """report.json as long as the file stays the same; nobody may change what is in it."""
    return schema.load(report)


def _study(folder: Path) -> dict[str, Any]:
    """study.json; empty where it is missing or damaged."""
    with suppress(OSError, ValueError, RecursionError):
        study = json.loads((folder / "study.json").read_text(encoding="utf-8"))
        return study if isinstance(study, dict) else {}
    return {}


def _status(store: Store) -> dict[str, Any] | None:
    """status.json; None when there is none. A page names a damaged one, where the command line passes it over."""
    path = store.folder / "status.json"
    cure = "Remove this file: it only says what a run is doing and holds no result."
    if not path.exists():
        return None
    try:
        status = store.read_status()
        if any(status.get(key) is None for key in ("state", "pid", "pid_started")):
            raise DamagedFile(path, "an object with state, pid and pid_started was expected")
    except DamagedFile as error:
        raise RunError(f"{path} is damaged ({error.why}). {cure}") from None
    return status


def _is_node(node: object) -> bool:
    """Whether a node of the manifest is what a page takes it for; no name of it may lead out of the run folder."""
    if not isinstance(node, dict) or not all(isinstance(node.get(name), str) for name in ("id", "stage", "state")):
        return False
    if not all(node.get(name) is None or isinstance(node[name], str) for name in ("variant", "prompt_set")):
        return False
    shards = node.get("shards")
    return isinstance(shards, list) and all(
        isinstance(name, str) and re.fullmatch(r"\w[\w.@~-]*", name) for name in [node["stage"], *shards]
    )


def _stopped(status: dict[str, Any] | None, again: str) -> str:
    where = f" in {status['node']}" if status and status.get("node") else ""
    why = f": {status['error']}" if status and status.get("error") else ""
    return f"This run is not finished; it stopped{where}{why}. Finished results are kept. Continue with: {again}"


def _object(path: Path, keys: Sequence[str], cure: str) -> dict[str, Any]:
    """A JSON file that must be an object with these keys; RunError that names the file, and what to do."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} is damaged ({error}). {cure}") from None
    if not isinstance(value, dict) or any(key not in value for key in keys):
        raise RunError(f"{path} is damaged: an object with {', '.join(keys)} was expected. {cure}")
    return value


def progress(state: State) -> tuple[float, str]:
    """(share done in [0, 1], words) of a running or stopped run."""
    status = state.status or {}
    done, of = status.get("done") or 0, status.get("of") or 0
    share = min(max(done / of, 0.0), 1.0) if of else 0.0
    words = [f"{100 * share:.0f} %", (status.get("node") or "planning").replace(":", " ")]
    if state.kind == "running" and status.get("left_seconds") is not None:
        words.append(f"about {wording.seconds(status['left_seconds'])} left")
    return share, ", ".join(words)


def python_of(command: str) -> str:
    """Python that does what a `workbench run` or `workbench demo` command line does; a comment when it is no command line."""
    try:
        words = shlex.split(command)[1:]
    except ValueError:
        return "# The command of this run cannot be read."
    verb, rest = (words[0], words[1:]) if words else ("demo", [])
    study, out, changes = "emoji-ink-style", None, []
    while rest:
        word, rest = rest[0], rest[1:]
        if word in ("--set", "--limit", "--out", "--device") and rest:
            value, rest = rest[0], rest[1:]
            changes += [value] if word == "--set" else [f"prompts.limit={value}"] if word == "--limit" else []
            out = value if word == "--out" else out
        elif verb == "run" and not word.startswith("-"):
            study = word
    lines = ["import workbench", "", f"study = workbench.load_study({json.dumps(study)})"]
    lines += [f"study = study.with_values({json.dumps(changes)})"] if changes else []
    where = f", {json.dumps(out)}" if out else ""
    lines += [f"run = workbench.run(study{where})  # computes only what is missing"]
    return "\n".join([*lines, "run.activity, run.neurons, run.images"])
