"""What breaks a run from outside: `kill -9` at random moments, a disk that takes no more, a folder that may not be written.

What was finished stays, and the resumed run ends as if nothing had happened. SIGTERM and a closed terminal end a run as Ctrl-C does.
"""

import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import types
from pathlib import Path

import pytest

from tests.execution import killed
from workbench import resources
from workbench.execution.digests import SEAL
from workbench.execution.run_folder import Store
from workbench.execution.signals import Terminated, heard, heeding
from workbench.execution.verify import verify
from workbench.storage import file_digest, read_json

KILLS = int(os.environ.get("WORKBENCH_KILLS", "4"))
TABLES = ("rates", "retention", "activity", "activity_by_call", "effects", "neurons", "comparisons", "waking", "relocation", "verdict")
TABLES += ("budget", "detectors", "sweep", "quality")


@pytest.fixture(scope="module")
def processes():
    """A context whose children are forked from a process that has imported everything and computed nothing.

    A child runs the main module of its parent again. AppTest leaves a page there, which is none of the child's business.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([killed.__name__])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
        yield context


def start(processes, study_file, folder, **options):
    child = processes.Process(target=killed.run, args=(str(study_file), str(folder)), kwargs=options)
    child.start()
    return child


def content(folder):
    """{path: digest} of every result but timings and the report's own folder, and the tables of report.json."""
    files = [p for p in sorted((folder / "nodes").rglob("*")) if p.is_file() and p.name not in ("seconds.parquet", SEAL)]
    found = {str(p.relative_to(folder)): file_digest(p) for p in files}
    report = read_json(folder / "report" / "report.json")
    return found, {name: report[name] for name in TABLES}


def differing(found, expected):
    """Names of results and tables that are not the same."""
    return [
        name
        for one, other in zip(found, expected, strict=True)
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
    ]


def test_random_kills_change_nothing(processes, quick_file, tmp_path):
    first = processes.Process(target=killed.ready)
    first.start()
    first.join()
    began = time.monotonic()
    child = start(processes, quick_file, tmp_path / "whole")
    child.join()
    whole = time.monotonic() - began
    assert child.exitcode == 0
    expected, rng, kills, finished = content(tmp_path / "whole"), random.Random(0), 0, 0
    while kills < KILLS:
        folder = tmp_path / f"run-{finished}"
        while True:
            kept = set((folder / "nodes").glob("*/[!.]*"))
            child = start(processes, quick_file, folder)
            child.join(rng.uniform(0.02, 0.9) * whole if kills < KILLS else None)
            if child.is_alive():
                child.kill()
                child.join()
                kills += 1
                assert kept <= set((folder / "nodes").glob("*/[!.]*")), "a finished result was lost"
                continue
            assert child.exitcode == 0
            break
        assert differing(content(folder), expected) == []
        assert not list(folder.rglob("*.tmp")), "a killed process left its half-written files"
        assert verify(folder)["whole"] and not (folder / "set-aside").exists()
        assert all(node["state"] == "done" for node in Store(folder).manifest()["nodes"])
        finished += 1
    assert kills == KILLS and finished >= 1


def commanded(processes, said, *words):
    child = processes.Process(target=killed.command, args=([str(word) for word in words], str(said)))
    child.start()
    return child


def until(child, there):
    """Wait until something is there, as long as the child lives."""
    while child.is_alive() and not there():
        time.sleep(0.02)
    assert child.is_alive(), "the run ended before it was stopped"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_run_as_ctrl_c_does_and_it_goes_on_later(processes, study_file, finished, tmp_path, number, code):
    folder, said = shutil.copytree(finished.folder, tmp_path / "run"), tmp_path / "said.txt"
    for stage in ("record", "measure"):
        shutil.rmtree(folder / "nodes" / stage)
    kept = set((folder / "nodes").glob("*/[!.]*"))
    child = commanded(processes, said, "run", study_file, "--out", folder)
    until(child, lambda: len(list((folder / "nodes" / "record").glob("[!.]*"))) >= 3)
    os.kill(child.pid, number)
    child.join()
    text = said.read_text()
    assert child.exitcode == code, text
    assert f"Stopped: ended by {number.name}. Finished results are kept" in text and "Traceback" not in text
    status, _ = Store(folder).status()
    assert status["state"] == "stopped" and status["node"] and status["error"] == f"ended by {number.name}"
    assert status["command"] == Store(folder).command() == f"workbench run {study_file} --out {folder}"
    states = [node["state"] for node in Store(folder).manifest()["nodes"]]
    assert "failed" not in states and {"done", "waiting"} <= set(states)
    assert not list(folder.rglob("*.tmp")) and verify(folder)["whole"]
    assert kept < set((folder / "nodes").glob("*/[!.]*"))
    if number == signal.SIGTERM:
        kept = set((folder / "nodes").glob("*/[!.]*"))
        child = commanded(processes, said, "run", study_file, "--out", folder)
        child.join()
        assert child.exitcode == 0 and kept < set((folder / "nodes").glob("*/[!.]*"))
        report = read_json(folder / "report" / "report.json")
        assert {name: report[name] for name in TABLES} == {
            name: read_json(finished.folder / "report" / "report.json")[name] for name in TABLES
        }


def test_the_demo_is_ended_by_a_signal_too_even_while_it_plans(processes, tmp_path):
    folder, said = tmp_path / "run", tmp_path / "said.txt"
    child = commanded(processes, said, "demo", "--out", folder)
    until(child, (folder / "status.json").exists)
    child.terminate()
    child.join()
    assert child.exitcode == 143 and "Stopped: ended by SIGTERM" in said.read_text(), said.read_text()
    status, _ = Store(folder).status()
    assert status["state"] == "stopped" and status["command"] == f"workbench demo --out {folder}"
    assert Store(folder).manifest()["nodes"]


def test_a_signal_that_somebody_else_handles_or_ignores_is_left_to_him():
    told = []
    before = [signal.signal(signal.SIGTERM, lambda *_: told.append(1)), signal.signal(signal.SIGHUP, signal.SIG_IGN)]
    try:
        with heeding():
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
        assert told == [1] and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGHUP, before[1])
    with pytest.raises(Terminated, match="SIGTERM") as caught, heeding():
        os.kill(os.getpid(), signal.SIGTERM)
    assert caught.value.exit_code == 143 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_an_error_that_a_library_makes_of_a_signal_is_the_signal(number, raised):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # under nohup it is ignored
    try:
        with pytest.raises(raised) as caught, heeding(), heard():
            try:
                os.kill(os.getpid(), number)
            except KeyboardInterrupt:
                raise ValueError("could not determine the shape") from None
        assert type(caught.value) is raised and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with pytest.raises(ValueError, match="no signal"), heeding(), heard():
            raise ValueError("no signal came")
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("largest_file", [200, 3_000, 20_000])
def test_a_disk_that_takes_no_more_is_told_in_a_sentence_and_the_run_goes_on_later(processes, quick_file, tmp_path, largest_file):
    folder, said = tmp_path / "run", tmp_path / "error.txt"
    child = start(processes, quick_file, folder, largest_file=largest_file, error_file=str(said))
    child.join()
    assert child.exitcode == 2
    assert "cannot be written" in said.read_text() and "\n" not in said.read_text().strip()
    kept = set((folder / "nodes").glob("*/[!.]*"))
    child = start(processes, quick_file, folder)
    child.join()
    assert child.exitcode == 0 and kept <= set((folder / "nodes").glob("*/[!.]*"))


def test_a_folder_that_may_not_be_written_is_told_in_a_sentence(processes, study_file, tiny_folder):
    workspace = Path(tempfile.mkdtemp())
    try:
        shutil.copytree(study_file.parent, workspace / "study")
        shutil.copytree(resources.folder("data") / "emoji", workspace / "data" / "emoji", ignore=shutil.ignore_patterns("build", "model"))
        (workspace / "runs").mkdir(mode=0o555)
        (workspace / "said").mkdir(mode=0o777)
        for path in (
            workspace,
            workspace / "study",
            workspace / "said",
            *(workspace / "study").iterdir(),
            *(workspace / "data").rglob("*"),
        ):
            path.chmod(0o777)
        options = {
            "model": str(tiny_folder),
            "data": str(workspace / "data"),
            "user": 65534 if os.geteuid() == 0 else None,
            "error_file": str(workspace / "said" / "error.txt"),
        }
        child = start(processes, workspace / "study" / study_file.name, workspace / "runs" / "tiny", **options)
        child.join()
        assert child.exitcode == 2
        assert "cannot be written" in (workspace / "said" / "error.txt").read_text()
        assert not list((workspace / "runs").iterdir())
    finally:
        shutil.rmtree(workspace)
