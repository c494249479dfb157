"""Engines and shares: whatever computes a study, the results are the same, to the bit; whatever is killed, nothing is lost."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch

import workbench
from tests import tiny
from tests.execution.test_same_bytes import without_times
from workbench.errors import ModelError, RunError
from workbench.execution import cost, jobs
from workbench.execution.books import Watcher
from workbench.execution.claims import Holder
from workbench.execution.run_folder import Store
from workbench.models.load import from_pipeline
from workbench.storage import file_digest

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def results(folder):
    """{path: digest} of every result but the times of searches."""
    files = [path for path in sorted((folder / "nodes").rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): file_digest(path) for path in files if path.name not in ("seconds.parquet", "digests.json")}


def report(folder):
    """report.json without times and places; of what a killed process has computed no time may be known."""
    said = without_times(json.loads((folder / "report" / "report.json").read_text()))
    for row in (*said["models"], *said["timings"]):
        row["seconds"] = None
    return said


def same(folder, finished):
    """Check results and report against those of one process, and that nothing is left behind."""
    assert results(folder) == results(finished.folder)
    assert report(folder) == report(finished.folder)
    assert not list(folder.rglob("*.tmp")) and not (folder / "set-aside").exists() and not (folder / ".claims").exists()
    nodes = Store(folder).manifest()["nodes"]
    assert all(node["state"] == "done" for node in nodes)


def command(study, folder, *words):
    """`workbench run` as a process of its own."""
    line = [sys.executable, "-P", "-m", "workbench.cli", "run", str(study), "--out", str(folder), *words]
    said = folder.with_name(f"{folder.name}-{time.monotonic_ns()}.txt").open("w")
    return subprocess.Popen(line, env=ENVIRONMENT, stdout=said, stderr=subprocess.STDOUT, start_new_session=True)


def workers_of(process):
    """The living worker processes of a run."""
    with contextlib.suppress(psutil.Error):
        found = [one for one in psutil.Process(process.pid).children() if "workbench.execution.engines.worker" in one.cmdline()]
        return [one for one in found if one.status() != psutil.STATUS_ZOMBIE]
    return []


def until(there, *processes, seconds=300):
    """Wait until something is there."""
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end and all(one.poll() is None for one in processes), "it did not come"
        time.sleep(0.02)


def n_results(folder):
    return len(list((folder / "nodes").glob("*/[!.]*")))


def begun(folder, stage):
    """Whether a result of a stage is being computed."""
    return any((folder / "nodes" / stage).glob(".*.tmp"))


def claimants(folder):
    """The processes whose claims are whole; a claim may go while it is looked at."""
    found = set()
    for path in (folder / ".claims").glob("[!.]*"):
        with contextlib.suppress(OSError, ValueError):
            if path.name.count(".") <= 1:
                found.add(json.loads(path.read_text())["pid"])
    return found


@pytest.fixture
def started(tmp_path):
    """Starts runs, and ends them when the test ends."""
    processes = []

    def start(study, *words, folder=None):
        processes.append(command(study, folder or tmp_path / "run", *words))
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_a_worker_that_is_killed_is_replaced_and_the_results_are_those_of_one_process(started, quick, quick_file, tmp_path):
    folder = tmp_path / "run"
    run = started(quick_file, "--engine", "processes", "--workers", "2")
    until(lambda: n_results(folder) >= 3 and len(workers_of(run)) == 2, run)
    until(lambda: any(begun(folder, stage) for stage in ("generate", "record", "erase", "attack")), run)
    for worker in workers_of(run):
        worker.kill()
    assert run.wait() == 0
    assert "A worker died while it computed" in (folder / "run.log").read_text()
    same(folder, quick)


def test_a_run_that_is_killed_takes_its_workers_with_it_and_goes_on_with_another_engine(started, quick, quick_file, tmp_path):
    folder = tmp_path / "run"
    run = started(quick_file, "--engine", "processes", "--workers", "2")
    until(lambda: n_results(folder) >= 4 and begun(folder, "generate"), run)
    workers = workers_of(run)
    assert len(workers) == 2
    run.kill()
    run.wait()
    assert not psutil.wait_procs(workers, timeout=20)[1], "a worker outlived its run"
    kept = results(folder)
    assert len(kept) >= 4
    again = workbench.run(workbench.load_study(quick_file), folder)
    assert kept.items() <= results(folder).items() and again.folder == folder
    same(folder, quick)


def test_ctrl_c_ends_a_run_and_its_workers(started, study_file, tmp_path):
    folder = tmp_path / "run"
    run = started(study_file, "--engine", "processes", "--workers", "2")
    until(lambda: n_results(folder) >= 2, run)
    workers = workers_of(run)
    run.send_signal(signal.SIGTERM)
    assert run.wait() == 143
    assert workers and not psutil.wait_procs(workers, timeout=20)[1]
    status, _ = Store(folder).status()
    assert status["state"] == "stopped" and not Store(folder).is_running() and not (folder / ".claims").exists()
    assert f"--out {folder} --engine processes --workers 2" in status["command"]


def test_shares_work_side_by_side_and_when_the_leader_dies_another_one_leads(started, quick, quick_file, tmp_path):
    folder = tmp_path / "run"
    runs = [started(quick_file, "--shard", f"{number}/3") for number in (1, 2)]  # the third one was never started
    until(lambda: (folder / ".claims" / "leader").exists(), *runs)
    until(lambda: n_results(folder) >= 4, *runs)
    with pytest.raises(RunError, match="Another process is running in"):
        workbench.run(workbench.load_study(quick_file), folder)
    assert Store(folder).is_running()
    holder = json.loads((folder / ".claims" / "leader").read_text())["pid"]
    leader, other = sorted(runs, key=lambda one: one.pid != holder)
    assert leader.pid == holder
    leader.kill()
    leader.wait()
    assert other.wait() == 0
    same(folder, quick)
    lines = (folder / "run.log").read_text().splitlines()
    assert sum("nodes to do" in line for line in lines) == 2 and not Store(folder).is_running()


def test_stopping_a_run_stops_all_its_shares_on_this_machine(started, study_file, tmp_path):
    folder = tmp_path / "run"
    runs = [started(study_file, "--shard", f"{number}/2") for number in (1, 2)]
    until(lambda: len(claimants(folder)) == 2, *runs)
    assert jobs.stop(folder)
    assert sorted(one.wait() for one in runs) in ([130, 130], [0, 130]) and not Store(folder).is_running()
    path = folder / ".claims" / "erase.0a"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(Holder("another-machine", 1, 1.0, True, "x").__dict__))
    with Store(folder)._kernel_lock(), pytest.raises(RunError, match="on another-machine share the work .* scancel"):
        jobs.stop(folder)


def test_a_share_does_not_join_a_run_that_has_its_folder_for_itself_or_another_study(started, study_file, tmp_path):
    folder, other = tmp_path / "run", study_file.with_name("other.toml")
    other.write_text(study_file.read_text().replace("steps = 3", "steps = 4", 1))
    store = Store(folder)
    with store.lock(), pytest.raises(RunError, match="Another process is running in"):
        workbench.run(workbench.load_study(study_file), folder, shard="1/2")
    first = started(study_file, "--shard", "1/2")
    until(lambda: (folder / "study.json").exists() and (folder / ".claims" / "leader").exists(), first)
    with pytest.raises(RunError, match="computes another study in"):
        workbench.run(workbench.load_study(other), folder, shard="2/2")


def test_a_model_that_is_loaded_already_is_computed_with_here(study_file, tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "WORTH_WORKERS", 0.0)  # any study is worth workers
    model = from_pipeline(tiny.pipeline(), "tiny")
    told = []
    watcher = Watcher(start=lambda todo: told.append(todo.engine), node=lambda *given: (_ for _ in ()).throw(RunError("enough")))
    with pytest.raises(RunError, match="enough"):
        workbench.run(workbench.load_study(study_file), tmp_path / "run", model=model, engine="auto", watcher=watcher)
    assert told == ["inline"]
    with pytest.raises(RunError, match="takes no `model`"):
        workbench.run(workbench.load_study(study_file), tmp_path / "other", model=model, engine="processes")


def test_a_task_that_fails_in_a_worker_stops_the_run_with_its_own_error(study_file, tmp_path):
    unet = tiny.pipeline().unet.state_dict()
    name = "conv_out.weight"
    torch.save({"unet": unet | {name: unet[name] * 1e38}}, tmp_path / "theirs.pt")
    text = study_file.read_text()
    theirs = f'[[variants]]\nname = "theirs"\nmethod = "from_checkpoint"\nparameters = {{ path = "{tmp_path / "theirs.pt"}" }}\n'
    study = study_file.with_name("theirs.toml")
    study.write_text(text[: text.index("[[variants]]")] + theirs + text[text.index("[record]") :])
    folder = tmp_path / "run"
    with pytest.raises(ModelError, match='The variant "theirs" makes images that hold NaN or infinity: 3 of 3'):
        workbench.run(workbench.load_study(study), folder, engine="processes", workers=2)
    status, _ = Store(folder).status()
    assert status["state"] == "stopped" and status["node"].startswith("generate:theirs:") and "NaN" in status["error"]
    states = {node["id"]: node["state"] for node in Store(folder).manifest()["nodes"]}
    assert states[status["node"]] == "failed" and states["generate:base:target"] == "done"
    assert not list(folder.rglob("*.tmp")) and not Store(folder).is_running()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"engine": "proceses"}, 'There is no engine "proceses".*processes'),
        ({"workers": 2}, "inline computes in one process"),
        ({"device": "cuda:0,cuda:1"}, "inline computes in one process"),
        ({"device": "cpu,cuda:0", "engine": "processes"}, "no list of devices"),
        ({"engine": "processes", "workers": 0}, "computes nothing"),
        ({"shard": "0/3"}, "is no share"),
        ({"shard": "auto"}, "found no scheduler"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_loaded(study_file, tmp_path, given, said, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("SLURM_", "RANK", "OMPI_", "PMI_"))]:
        monkeypatch.delenv(name)
    with pytest.raises(RunError, match=said):
        workbench.run(workbench.load_study(study_file), tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()
