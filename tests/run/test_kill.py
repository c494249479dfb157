"""What breaks a run from outside: `kill -9` at random moments, a disk that takes no more, a folder that may not be written.

What was finished stays, and the resumed run ends as if nothing had happened.
"""

import multiprocessing
import os
import random
import shutil
import tempfile
import time
from pathlib import Path

import pytest

from tests.run import killed
from workbench import resources
from workbench.run.store import Store
from workbench.storage import file_digest, read_arrays, read_json, read_metadata, tensors_digest

KILLS = int(os.environ.get("WORKBENCH_KILLS", "20"))
TABLES = ("rates", "retention", "activity", "activity_by_call", "effects", "neurons", "comparisons", "waking", "relocation", "verdict")
TABLES += ("budget", "detectors", "sweep", "quality")


@pytest.fixture(scope="module")
def processes():
    """A context whose children are forked from a process that has imported everything and computed nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([killed.__name__])
    return context


def start(processes, study_file, folder, **options):
    child = processes.Process(target=killed.run, args=(str(study_file), str(folder)), kwargs=options)
    child.start()
    return child


def digest_of(path):
    """Of a safetensors file its arrays and metadata: the order of its header is random in every process."""
    if path.suffix == ".safetensors":
        return tensors_digest(read_arrays(path)), read_metadata(path)
    return file_digest(path)


def content(folder):
    """{path: digest} of every result but timings and the report's own folder, and the tables of report.json."""
    files = [p for p in sorted((folder / "nodes").rglob("*")) if p.is_file() and p.name != "seconds.parquet"]
    found = {str(p.relative_to(folder)): digest_of(p) for p in files}
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


def test_random_kills_change_nothing(processes, study_file, tmp_path):
    first = processes.Process(target=killed.ready)
    first.start()
    first.join()
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
        assert differing(content(folder), expected) == []
        assert not list(folder.rglob("*.tmp")), "a killed process left its half-written files"
        assert all(node["state"] == "done" for node in Store(folder).manifest()["nodes"])
        finished += 1
    assert kills == KILLS and finished >= 1


@pytest.mark.parametrize("largest_file", [200, 3_000, 20_000])
def test_a_disk_that_takes_no_more_is_told_in_a_sentence_and_the_run_goes_on_later(processes, study_file, tmp_path, largest_file):
    folder, said = tmp_path / "run", tmp_path / "error.txt"
    child = start(processes, study_file, folder, largest_file=largest_file, error_file=str(said))
    child.join()
    assert child.exitcode == 2
    assert "cannot be written" in said.read_text() and "\n" not in said.read_text().strip()
    kept = set((folder / "nodes").glob("*/[!.]*"))
    child = start(processes, study_file, folder)
    child.join()
    assert child.exitcode == 0 and kept <= set((folder / "nodes").glob("*/[!.]*"))


def test_a_folder_that_may_not_be_written_is_told_in_a_sentence(processes, study_file, tiny_folder):
    room = Path(tempfile.mkdtemp())
    try:
        shutil.copytree(study_file.parent, room / "study")
        shutil.copytree(resources.folder("data") / "emoji", room / "data" / "emoji", ignore=shutil.ignore_patterns("build", "model"))
        (room / "runs").mkdir(mode=0o555)
        (room / "said").mkdir(mode=0o777)
        for path in (room, room / "study", room / "said", *(room / "study").iterdir(), *(room / "data").rglob("*")):
            path.chmod(0o777)
        options = {
            "model": str(tiny_folder),
            "data": str(room / "data"),
            "user": 65534 if os.geteuid() == 0 else None,
            "error_file": str(room / "said" / "error.txt"),
        }
        child = start(processes, room / "study" / study_file.name, room / "runs" / "tiny", **options)
        child.join()
        assert child.exitcode == 2
        assert "cannot be written" in (room / "said" / "error.txt").read_text()
        assert not list((room / "runs").iterdir())
    finally:
        shutil.rmtree(room)
