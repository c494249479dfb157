"""An ablation of the lab as a job, for models too large to be computed while the page waits. Needs neither torch nor Streamlit.

Its folder is `<runs>/.workbench/<run>/ablations/<key>`: the result of `workbench ablate`, job.json and job.log. The key is that of what
was asked for, so the same request finds its result.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from workbench.errors import RunError
from workbench.storage import read_json, write_json
from workbench.ui import lab_state, lists
from workbench.ui.lab_state import Asked
from workbench.ui.run_list import State

COMMAND = [sys.executable, "-P", "-m", "workbench.cli"]
LINES = 12


@dataclass(frozen=True)
class Job:
    """One request.

    kind     new, running, done or failed
    folder   where its result is, or will be
    """

    folder: Path
    kind: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """[{variant, seed, score, concept, target, activity, reason}], values before and after; of a job that is done."""
        return read_json(self.folder / "result" / "numbers.json")["rows"]

    def picture(self, variant: str, seed: int, when: str) -> Path:
        """The picture of a variant, `before` or `after`."""
        return self.folder / "result" / f"{variant}-{seed}-{when}.png"

    @property
    def said(self) -> str:
        """The last lines that it printed."""
        with suppress(OSError):
            return "\n".join((self.folder / "job.log").read_text(encoding="utf-8", errors="replace").splitlines()[-LINES:])
        return ""


def find(state: State, asked: Asked, device: str) -> Job:
    """The job of a request, as far as it is."""
    said = json.dumps([str(state.folder), lab_state.as_plain(asked), device], sort_keys=True)
    folder = lists.folder(state).parent / "ablations" / hashlib.sha256(said.encode()).hexdigest()[:24]
    if (folder / "result" / "numbers.json").exists():
        return Job(folder, "done")
    if not (folder / "job.json").exists():
        return Job(folder, "new")
    return Job(folder, "running" if _process(folder) else "failed")


def start(state: State, asked: Asked, device: str) -> Job:
    """Start a request that is new or has failed; one that runs goes on.

    Raises   RunError when the folder cannot be written
    """
    job = find(state, asked, device)
    if job.kind in ("done", "running"):
        return job
    words = ["ablate", str(state.folder.absolute()), *lab_state.words(asked), "--device", device, "--out", str(job.folder / "result")]
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
        if (job.folder / "result").exists():  # pictures of a killed job
            (job.folder / "result").rename(job.folder / f"stopped-{os.getpid()}-{len(list(job.folder.iterdir()))}")
        with (job.folder / "job.log").open("wb") as log:
            given = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT, "start_new_session": True}
            process = subprocess.Popen([*COMMAND, *words], **given)  # type: ignore[call-overload]  # options by name
        began = psutil.Process(process.pid).create_time()
        write_json(job.folder / "job.json", {"pid": process.pid, "pid_started": began, "words": words})
    except (OSError, psutil.Error) as error:
        raise RunError(f"The ablation could not be started in {job.folder}: {error}.") from error
    return Job(job.folder, "running")


def stop(job: Job) -> None:
    """End a running job."""
    if process := _process(job.folder):
        with suppress(psutil.Error):
            process.send_signal(signal.SIGTERM)


def _process(folder: Path) -> psutil.Process | None:
    """The process of a job, if it is still the same one and no zombie."""
    with suppress(psutil.Error, OSError, KeyError, ValueError):
        said = read_json(folder / "job.json")
        process = psutil.Process(said["pid"])
        if process.create_time() == said["pid_started"] and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None
