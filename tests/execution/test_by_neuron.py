"""Recordings laid out by neuron: what the card of a neuron reads, and how little that is."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from workbench.execution import by_neuron
from workbench.execution.condition import Condition
from workbench.execution.run_folder import Store
from workbench.storage import DamagedFile


def bytes_read():
    """Bytes that this process has read from files so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("rchar")).split()[1])


@pytest.fixture
def run(finished, tmp_path):
    """(store, keys of `measure`, [(condition, trajectory, shards of its recording)]) of a copy of the finished run."""
    store = Store(shutil.copytree(finished.folder, tmp_path / "run"))
    nodes = store.manifest()["nodes"]
    (measured,) = [node["shards"] for node in nodes if node["stage"] == "measure"]
    recorded = [(Condition(node["variant"], node["prompt_set"]), node["shards"]) for node in nodes if node["stage"] == "record"]
    return store, measured, [one for one in recorded if one[0].prompt_set != "near"]


def test_every_neuron_is_as_it_was_recorded(run):
    store, measured, recorded = run
    assert len(recorded) > 4
    for condition, shards in recorded:
        files = [safe_open(store.file("record", shard, "reference.safetensors"), "numpy") for shard in shards]
        for name in [name for name in files[0].keys() if name.endswith("|mean_abs")]:  # noqa: SIM118 - no dict
            values = np.concatenate([file.get_tensor(name) for file in files])
            for index in {0, values.shape[2] // 2, values.shape[2] - 1}:
                found, about = by_neuron.read(store, measured, condition, "reference", name.removesuffix("|mean_abs"), index)
                assert found == pytest.approx(values[:, :, index], rel=1e-3, abs=1e-7) and about["calls"] == [0, 2]
            assert by_neuron.read(store, measured, condition, "reference", name.removesuffix("|mean_abs"), values.shape[2]) is None
    assert by_neuron.read(store, measured, Condition("base", "target"), "reference", "no.such.layer", 0) is None
    assert by_neuron.read(store, measured, Condition("base", "near"), "reference", "no.such.layer", 0) is None


def test_a_damaged_block_is_refused_and_the_others_are_read(run):
    store, (key,), _ = run
    first = by_neuron.read_json(store.file("measure", key, by_neuron.INDEX))[0]
    layer = by_neuron.read_json(store.file("measure", key, "by_neuron/0.json"))["layers"][0][0]
    condition = Condition(first["variant"], first["prompt_set"])
    path = store.path("measure", key) / by_neuron.FOLDER / "0.bin"
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedFile, match=r"0\.bin is damaged"):
        by_neuron.read(store, [key], condition, first["trajectory"], layer, 0)
    assert by_neuron.read(store, [key], condition, first["trajectory"], layer, by_neuron.BLOCK) is not None


def test_one_neuron_of_many_is_a_few_kilobytes(tmp_path):
    values = np.random.default_rng(0).random((40, 10, 5000), dtype=np.float32)
    about = {"calls": list(range(10))} | by_neuron.laid_out([("a", values), ("b", 70_000 * values)], tmp_path / "0.bin")
    before = bytes_read()
    found = by_neuron._neuron(tmp_path / "0.bin", about, "b", 4321)
    assert bytes_read() - before <= by_neuron.BLOCK * 40 * 10 * 4 + 10_000 < (tmp_path / "0.bin").stat().st_size / 100
    assert about["dtype"] == "float32" and found == pytest.approx(70_000 * values[:, :, 4321])


def test_the_dry_run_says_what_it_takes_of_the_disk(run, study_file):
    import workbench
    from workbench.execution import execute

    store, (measured, *_), _ = run
    plan, _ = execute.prepare(workbench.load_study(study_file), store.folder)
    (node,) = plan.of_stage("measure")
    assert node.bytes == sum(path.stat().st_size for path in (store.result("measure", measured) / by_neuron.FOLDER).glob("*.bin"))
