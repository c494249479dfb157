"""`kill -9` at a hundred random moments: what was finished stays, and the resumed run ends as if nothing had happened."""

import multiprocessing
import random
import time

import pytest

from tests.run import killed
from workbench.run.store import Store
from workbench.storage import file_digest, read_json

KILLS = 100
TABLES = ("rates", "retention", "activity", "activity_by_call", "effects", "neurons", "comparisons", "waking", "relocation", "verdict")


@pytest.fixture(scope="module")
def processes():
    """A context whose children are forked from a process that has imported everything and computed nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([killed.__name__])
    return context


def start(processes, study_file, folder):
    child = processes.Process(target=killed.run, args=(str(study_file), str(folder)))
    child.start()
    return child


def content(folder):
    """{path: digest} of every result but the report's own folder, and the tables of report.json."""
    found = {str(p.relative_to(folder)): file_digest(p) for p in sorted((folder / "nodes").rglob("*")) if p.is_file()}
    report = read_json(folder / "report" / "report.json")
    return found, {name: report[name] for name in TABLES}


def test_a_hundred_kills_change_nothing(processes, study_file, tmp_path):
    began = time.monotonic()
    child = start(processes, study_file, tmp_path / "whole")
    child.join()
    whole = time.monotonic() - began
    assert child.exitcode == 0
    expected, rng, kills, finished = content(tmp_path / "whole"), random.Random(0), 0, 0
    while kills < KILLS:
        folder = tmp_path / f"run-{finished}"
        while True:
            kept = set((folder / "nodes").glob("*/[!.]*"))
            child = start(processes, study_file, folder)
            child.join(rng.uniform(0.02, 0.9) * whole if kills < KILLS else None)
            if child.is_alive():
                child.kill()
                child.join()
                kills += 1
                assert kept <= set((folder / "nodes").glob("*/[!.]*")), "a finished result was lost"
                continue
            assert child.exitcode == 0
            break
        assert content(folder) == expected
        assert not list(folder.rglob("*.tmp")), "a killed process left its half-written files"
        assert all(node["state"] == "done" for node in Store(folder).manifest()["nodes"])
        finished += 1
    assert kills == KILLS and finished > 1
