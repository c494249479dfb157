"""Claims of several processes on one folder, and the share that a scheduler gives a process."""

import json
import os
import threading
import time

import pytest

from workbench.errors import RunError
from workbench.execution.claims import LEADER, Claims, Holder
from workbench.execution.schedule import Task
from workbench.execution.share import Share, share

ARRAY = {"SLURM_ARRAY_TASK_MIN": "0"}


def elsewhere(folder, name, age=0.0, host="another-machine", pid=1):
    """The claim of a process on another machine that was last touched `age` seconds ago."""
    path = folder / ".claims" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(Holder(host, pid, 1.0, True, f"nonce-{host}").__dict__))
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_one_process_has_a_claim_and_the_next_gets_it_when_it_is_given_back(tmp_path):
    with Claims(tmp_path) as first, Claims(tmp_path) as second:
        assert first.take("generate.0a") and first.take("generate.0a") and not second.take("generate.0a")
        assert second.take("generate.0b") and second.holder("generate.0a").pid == os.getpid()
        assert [name for name, _ in first.others()] == ["generate.0b"]
        first.release("generate.0a")
        assert second.take("generate.0a") and not first.take("generate.0a")
    assert not (tmp_path / ".claims").exists()


def test_a_claim_of_another_machine_counts_as_long_as_it_is_touched(tmp_path):
    with Claims(tmp_path, expiry=60) as own:
        path = elsewhere(tmp_path, LEADER, age=30)
        assert not own.take(LEADER) and str(own.holder(LEADER)) == "process 1 on another-machine"
        os.utime(path, (time.time() - 90,) * 2)
        assert own.holder(LEADER) is None and list(own.others()) == []
        assert own.take(LEADER) and json.loads(path.read_text())["pid"] == os.getpid()


def test_a_claim_of_a_process_of_this_machine_that_has_ended_counts_for_nothing(tmp_path):
    with Claims(tmp_path) as own:
        elsewhere(tmp_path, "erase.0a", host=own.me.host, pid=os.getpid())  # this process id, but started at another time
        assert own.take("erase.0a")


def test_a_claim_that_is_half_written_counts_while_it_is_young(tmp_path):
    with Claims(tmp_path, expiry=60) as own:
        path = elsewhere(tmp_path, "erase.0a")
        path.write_text('{"host": "a')
        assert not own.take("erase.0a")
        os.utime(path, (time.time() - 90,) * 2)
        assert own.take("erase.0a")


def test_claims_are_touched_while_the_process_works(tmp_path):
    with Claims(tmp_path, beat=0.02) as own:
        own.take(LEADER)
        path = tmp_path / ".claims" / LEADER
        os.utime(path, (1.0, 1.0))
        until = time.monotonic() + 20
        while path.stat().st_mtime < 2.0:
            assert time.monotonic() < until, "nobody touched it"
            time.sleep(0.01)


def test_of_many_that_want_an_abandoned_claim_one_gets_it(tmp_path):
    for turn in range(60):
        elsewhere(tmp_path, f"attack.{turn}", age=900)
        own, got = [Claims(tmp_path) for _ in range(8)], []
        start = threading.Barrier(len(own))

        def want(one, turn=turn, got=got, start=start):
            start.wait()
            if one.take(f"attack.{turn}"):
                got.append(one)

        threads = [threading.Thread(target=want, args=(one,)) for one in own]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) <= 1 and (got or own[0].take(f"attack.{turn}"))
        for one in own:
            one.close()


def test_what_others_computed_is_told_once(tmp_path):
    with Claims(tmp_path) as first, Claims(tmp_path) as second:
        first.note("generate.0a", 3.5)
        assert list(second.others()) == [] and list(second.notes()) == [("generate.0a", 3.5)] and list(second.notes()) == []


def test_every_task_belongs_to_one_share():
    tasks = [Task("n", place, "generate", f"{place * 7919:024x}") for place in range(200)]
    of = [[task for task in tasks if Share(number, 8).has(task)] for number in range(1, 9)]
    assert sorted((task for one in of for task in one), key=lambda task: task.place) == tasks
    assert min(map(len, of)) > 5


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, Share(4, 8, 1)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"}, Share(1, 4, 0)),
        ({"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "8", "SLURM_ARRAY_TASK_MIN": "1"}, Share(5, 8)),
        (
            {"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_STEP": "2"},
            Share(3, 3),
        ),
        (
            {
                "SLURM_ARRAY_TASK_ID": "1",
                "SLURM_ARRAY_TASK_COUNT": "2",
                "SLURM_ARRAY_TASK_MIN": "0",
                "SLURM_PROCID": "3",
                "SLURM_NTASKS": "4",
                "SLURM_LOCALID": "3",
            },
            Share(8, 8, 3),
        ),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}, Share(2, 2, 1)),
        ({"PMI_RANK": "0", "PMI_SIZE": "2"}, Share(1, 2)),
        ({"JOB_COMPLETION_INDEX": "2", "JOB_COMPLETIONS": "5"}, Share(3, 5)),
        ({"JOB_COMPLETION_INDEX": "2"}, Share(3, 3)),
    ],
)
def test_the_environment_of_a_scheduler_says_the_share(environment, said):
    assert share("auto", environment) == said


def test_a_share_written_out_needs_no_scheduler():
    assert share("3/8", {}) == Share(3, 8) and str(Share(3, 8)) == "3/8"


@pytest.mark.parametrize("text", ["", "0/8", "9/8", "3", "3/", "-1/4", "a/b", "all"])
def test_a_text_that_is_no_share_is_refused(text):
    with pytest.raises(RunError, match="no share"):
        share(text, {})


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "found no scheduler"),
        ({"RANK": "8", "WORLD_SIZE": "8"}, "process 8 .from 0. of 8"),
        ({"RANK": "x", "WORLD_SIZE": "8"}, 'RANK is "x"'),
    ],
)
def test_an_environment_that_makes_no_sense_is_refused(environment, said):
    with pytest.raises(RunError, match=said):
        share("auto", environment)


def test_processes_of_one_machine_take_its_gpus_in_turn():
    assert Share(2, 4, 1).device(("cuda:0", "cuda:1")) == ("cuda:1",)
    assert Share(4, 4, 3).device(("cuda:0", "cuda:1")) == ("cuda:1",)
    assert Share(4, 4, 3).device(("cpu",)) == ("cpu",) and Share(1, 2).device(("cuda:0", "cuda:1")) == ("cuda:0", "cuda:1")
