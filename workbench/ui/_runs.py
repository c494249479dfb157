"""Which runs there are, and what state each is in. Reads run folders only; needs no Streamlit.

list_runs   names under a folder, newest first
look        one folder -> State: finished, running, stopped or damaged, with a sentence
python_of   the Python that does the same as a command line
"""

import json
import os
import re
import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path

from workbench.errors import RunError
from workbench.report import document as schema
from workbench.report import summary
from workbench.run.store import LAYOUT, Store

VARIABLE = "WORKBENCH_RUNS"
START_SECONDS = 120
SIGNS = ("manifest.json", "study.json", "status.json", "report")


@dataclass(frozen=True)
class State:
    """A run as a page sees it.

    kind       finished, running, stopped or damaged
    sentence   what a reader must know about it; empty when finished
    document   report.json, or None; a running run has one as soon as there are pictures
    """

    folder: Path
    kind: str
    sentence: str = ""
    document: dict | None = None
    nodes: list = field(default_factory=list)
    status: dict | None = None

    @property
    def report_folder(self):
        """Where the report is."""
        return self.folder / "report"


def runs_folder():
    """The folder that holds the runs: what `workbench app --runs` was given, else ./runs."""
    return Path(os.environ.get(VARIABLE) or "runs")


def list_runs(folder):
    """Names of what looks like a run in a folder, newest first; a damaged run is among them."""
    folder = Path(folder)
    found = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        signs = [path / sign for sign in SIGNS if (path / sign).exists()] if path.is_dir() else []
        if signs:
            found[path.name] = max(sign.stat().st_mtime for sign in signs)
    return sorted(found, key=lambda name: (-found[name], name))


def look(folder):
    """The state of a run folder; what is damaged is told in its sentence, never raised."""
    folder = Path(folder)
    try:
        return _look(folder)
    except RunError as error:
        return State(folder, "damaged", str(error))


def _look(folder):
    store = Store(folder)
    status = _object(folder / "status.json", "state", "pid", "pid_started") if (folder / "status.json").exists() else None
    running = status is not None and store.is_running()
    again = command_of(folder)
    if not running and _starting(folder):
        return State(folder, "running", "The run is starting: it plans and loads its model.")
    if not (folder / "manifest.json").exists():
        raise RunError(f"{folder} has no manifest.json, so nothing can be said about this run. Run it again: {again}")
    manifest = _object(folder / "manifest.json", "layout", "nodes")
    if manifest["layout"] != LAYOUT:
        raise RunError(
            f"{folder} was written by another version of the workbench (layout {manifest['layout']}, this one reads {LAYOUT}). "
            "Open it with that version, or run the study again into another folder."
        )
    nodes = manifest["nodes"]
    done = bool(nodes) and all(node.get("state") == "done" for node in nodes)
    there = (store.report_folder / "report.json").exists()
    document = schema.load(store.report_folder) if there else None
    if running:
        return State(folder, "running", "The run is going on; numbers follow when it has measured.", document, nodes, status)
    if not done:
        return State(folder, "stopped", _stopped(status, again), document, nodes, status)
    if document is None:
        raise RunError(f"The report of {folder} is missing (no report/report.json). Write it again: {again}")
    return State(folder, "finished", "", document, nodes, status)


def _starting(folder):
    """Whether a run was begun a moment ago: its study is fresh and newer than its status, which comes with the first result."""
    study, status = folder / "study.json", folder / "status.json"
    begun = study.stat().st_mtime if study.exists() else 0.0
    return time.time() - begun < START_SECONDS and not (status.exists() and status.stat().st_mtime >= begun)


def _stopped(status, again):
    where = f" in {status['node']}" if status and status.get("node") else ""
    why = f": {status['error']}" if status and status.get("error") else ""
    return f"This run is not finished; it stopped{where}{why}. What was done is kept. Go on with: {again}"


def _object(path, *keys):
    """A JSON file that must be an object with these keys; RunError that names the file and what to do."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error}). Remove it and run the study again; finished results are kept.") from None
    if not isinstance(value, dict) or any(key not in value for key in keys):
        raise RunError(f"{path} is damaged: an object with {', '.join(keys)} was expected. Remove it and run the study again.")
    return value


def command_of(folder):
    """The command line that made the run, from its log; in words when the log does not say."""
    log = Path(folder) / "run.log"
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    found = re.findall(r"^\S+ (workbench .+): \d+ nodes to do", text, re.MULTILINE)
    return found[-1] if found else "workbench run STUDY, with the study of this run"


def progress(state):
    """(share done in [0, 1], words) of a running or stopped run."""
    status = state.status or {}
    done, of = status.get("done") or 0, status.get("of") or 0
    share = min(max(done / of, 0.0), 1.0) if of else 0.0
    words = [f"{100 * share:.0f} %", (status.get("node") or "planning").replace(":", " ")]
    if state.kind == "running" and status.get("left_seconds") is not None:
        words.append(f"about {summary.seconds(status['left_seconds'])} left")
    return share, ", ".join(words)


def python_of(command):
    """Python that does what a `workbench run` or `workbench demo` command line does."""
    words = shlex.split(command)[1:]
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
