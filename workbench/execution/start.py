"""Start a run as a process of its own, which no closed window, ended terminal or restarted server takes with it.

start     a command of the workbench that runs a study -> Started; what keeps the run from beginning is raised at once
resume    start a run again, from its folder
failure   why the process that was started for a run ended before the run began
cost      what --dry-run says of a study, from a process of its own
"""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import resources
from workbench.errors import RunError
from workbench.execution import jobs
from workbench.execution.run_folder import START, START_LOG, Store
from workbench.storage import write_json

COMMAND = [sys.executable, "-P", "-m", "workbench.cli"]
PATIENCE = 120.0  # seconds for planning and loading the model, after which a start is no longer waited for
SAYS_WHY = "workbench: "  # with which the command line begins the message of an expected error
MOST_LINES = 12


@dataclass(frozen=True)
class Started:
    """A run that was started.

    began    whether it has begun to work; else it is still planning, and a later error is in `log`
    log      what the process prints
    """

    folder: Path
    pid: int
    began: bool
    log: Path


def start(words: Sequence[str], folder: str | Path, *, cwd: str | Path | None = None, patience: float = PATIENCE) -> Started:
    """Start `workbench WORDS` as a process of its own and wait until the run has begun.

    The process is the leader of a new session with its standard input closed; what it prints goes to start.log in the run folder.

    words      a command that runs a study, such as ["run", "mine.toml", "--out", "runs/mine"]
    folder     the run folder that the command leads to
    cwd        where the command is started; default: here
    patience   seconds to wait; the process continues when they are over
    Raises     RunError when another process runs or starts there, the folder is no run folder or cannot be written, or the command ends
               before the run begins: with its own message
    """
    import psutil

    store = Store(os.path.abspath(folder))
    _refuse(store)
    is_new = not store.folder.exists()
    log = store.folder / START_LOG
    try:
        store.folder.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as printed:
            before = printed.tell()
            process = subprocess.Popen(
                [*COMMAND, *words],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=cwd,
                env=_environment(),
            )
        with suppress(psutil.Error):
            started = psutil.Process(process.pid).create_time()
            command = shlex.join(["workbench", *words])
            write_json(store.folder / START, {"pid": process.pid, "pid_started": started, "command": command})
    except OSError as error:
        raise RunError(f"The run folder {store.folder} cannot be written: {error}.") from error
    until = time.monotonic() + patience
    while time.monotonic() < until:
        ended = process.poll() is not None  # asked first: what a process that has ended wrote is there by now
        if store.status()[0].get("pid") == process.pid:
            return Started(store.folder, process.pid, True, log)
        if ended:
            if process.returncode == 0:
                return Started(store.folder, process.pid, True, log)
            why = _said(log, before)
            _remove(store, is_new)
            raise RunError(why or f"The run did not start: its process ended with exit code {process.returncode}.")
        time.sleep(0.1)
    return Started(store.folder, process.pid, False, log)


def resume(folder: str | Path, *, cwd: str | Path | None = None, patience: float = PATIENCE) -> Started:
    """Start a run again by the command that made it; finished results are kept.

    Raises   RunError as `start`, or when the folder does not say which command made it, or its study file is gone
    """
    return start(resuming(folder), folder, cwd=cwd, patience=patience)


def resuming(folder: str | Path) -> list[str]:
    """The words after `workbench` that go on with a run from any working directory.

    Raises   RunError when the folder does not say which command made it, or its study file is gone
    """
    store = Store(os.path.abspath(folder))
    command = store.command()
    try:
        program, verb, *rest = shlex.split(command)
    except ValueError:
        program, verb, rest = "", "", []
    if program != "workbench" or verb not in ("run", "demo"):
        raise RunError(f"{store.folder} does not say which command made it. Continue it in a terminal: {command}")
    words, study = [verb], None
    while rest:
        word, rest = rest[0], rest[1:]
        if not word.startswith("-") and study is None and verb == "run":
            study = _study_file(store, word)
            words.append(study)
        elif word == "--out":
            rest = rest[1:]
        elif word == "--take-from" and rest and not os.path.isabs(rest[0]):
            rest = rest[1:]  # of a working directory that is not known; what was taken is in the folder
        elif word != "--detach":
            words.append(word)
            if word in ("--set", "--limit", "--device", "--take-from", "--engine", "--workers") and rest:
                words.append(rest[0])
                rest = rest[1:]
    return [*words, "--out", str(store.folder)]


def cost(
    study: str | Path, folder: str | Path, how: Sequence[str] = (), *, cwd: str | Path | None = None, patience: float = 10 * PATIENCE
) -> dict[str, Any]:
    """What `workbench run STUDY --out FOLDER --dry-run --json` prints: {nodes, kept, seconds, bytes, memory_mb, free_bytes, rows, ...}.

    how   words for engine, workers and devices, such as ["--engine", "inline"]

    The model is loaded and measured in a process of its own, so that this one needs no torch.
    Raises   RunError with the message of the command
    """
    words = ["run", str(study), "--out", str(folder), "--dry-run", "--json", *how]
    try:
        done = subprocess.run(
            [*COMMAND, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=cwd, env=_environment(), timeout=patience
        )
    except subprocess.TimeoutExpired:
        raise RunError(f"The cost was not found within {patience:.0f} s. Ask in a terminal: {shlex.join(['workbench', *words])}") from None
    try:
        if done.returncode == 0:
            return json.loads(done.stdout)
    except ValueError:
        pass
    raise RunError(_message((done.stderr or done.stdout).splitlines()) or f"The command ended with exit code {done.returncode}.")


def failure(folder: str | Path) -> str | None:
    """Why the process that was started for a run has ended, from what it printed; None where none was started or it is still there."""
    store = Store(folder)
    if not store.started() or store.is_starting() or store.is_running():
        return None
    return _said(store.folder / START_LOG, 0) or "its process has ended without a message"


def printed(folder: str | Path, lines: int = MOST_LINES) -> list[str]:
    """The last lines that the process of a run printed; none where it was not started as one."""
    return _lines(Path(folder) / START_LOG, 0)[-lines:]


def _refuse(store: Store) -> None:
    """Refuse a folder in which a run is at work, or that is no run folder."""
    store.refuse_read_only()
    if store.is_running() or jobs.is_starting(store):
        raise RunError(
            f"A run is in progress in {store.folder} already. What it is doing: workbench status {shlex.quote(str(store.folder))}"
        )
    store.look()


def _study_file(store: Store, word: str) -> str:
    """The study of a command: a bundled name as it is, a file by its absolute path."""
    here = [Path(word)] if os.path.isabs(word) else [Path(store.study_folder()) / Path(word).name, Path(word)]
    found = next((path for path in here if path.is_file()), None)
    if found is not None:
        return os.path.abspath(found)
    if word in resources.study_files():
        return word
    raise RunError(
        f'The study file "{word}" of {store.folder} is gone, so the run cannot be continued from here. Put it back, or run its study again '
        "with changes."
    )


def _environment() -> dict[str, str]:
    """The environment of the process: this package is the one it imports, and relative entries of PYTHONPATH still mean the same."""
    folders = [os.path.abspath(folder) for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    if resources.PACKAGE.parent.name not in ("site-packages", "dist-packages"):
        folders.insert(0, str(resources.PACKAGE.parent))
    return os.environ | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(folders))}


def _remove(store: Store, is_new: bool) -> None:
    """Remove what a start that failed has left; the folder too where it was made for it."""
    with suppress(OSError):
        (store.folder / START).unlink(missing_ok=True)
        if is_new:
            (store.folder / START_LOG).unlink(missing_ok=True)
            store.folder.rmdir()  # refuses a folder that holds anything else


def _said(log: Path, begin: int) -> str:
    """The message of an expected error in what a process printed from a byte on; without one, its last lines."""
    return _message(_lines(log, begin))


def _message(lines: Sequence[str]) -> str:
    """The message of an expected error among lines of a terminal; without one, the last lines."""
    told = [line.removeprefix(SAYS_WHY) for line in lines if line.startswith(SAYS_WHY)]
    return told[-1] if told else "\n".join(lines[-MOST_LINES:])


def _lines(log: Path, begin: int) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(begin)
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()]
