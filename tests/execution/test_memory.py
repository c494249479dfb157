"""When memory runs out, rows are computed in smaller batches: the same numbers but for rounding, and it is said."""

import numpy as np
import pytest
import torch

import workbench
from workbench.errors import RunError
from workbench.execution import cost, execute
from workbench.execution.books import Watcher
from workbench.models.load import Model
from workbench.storage import read_arrays


@pytest.fixture
def small_memory(monkeypatch):
    """small_memory(most): from now on the UNet takes so many rows at once and no more."""

    def call(most):
        whole = Model.run_unet

        def narrow(model, latents, timestep, states, weights=None):
            if len(latents) > most:
                raise torch.OutOfMemoryError(f"{len(latents)} rows do not fit")
            return whole(model, latents, timestep, states, weights)

        monkeypatch.setattr(Model, "run_unet", narrow)

    return call


def computed(study_file, folder, warned=None):
    plan, workspace = execute.prepare(workbench.load_study(study_file), folder)
    wanted = [plan.node(name) for name in ("generate:base:target", "generate:base:reference", "record:base:target")]
    execute.run_nodes(workspace, wanted, watcher=Watcher(warning=(warned if warned is not None else []).append))
    arrays = {}
    for node in wanted:
        for shard in node.shards:
            for path in sorted(workspace.store.result(node.stage, shard.key).glob("*.safetensors")):
                arrays |= {(node.id, shard.start, path.name, name): value.float().numpy() for name, value in read_arrays(path).items()}
    return arrays


def test_smaller_batches_give_the_same_numbers_but_for_rounding(study_file, tmp_path, small_memory):
    whole, warned = computed(study_file, tmp_path / "whole"), []
    small_memory(3)  # an image takes two rows: three prompts at once do not fit, one does
    narrow = computed(study_file, tmp_path / "narrow", warned)
    assert warned == ["Memory ran out with 3 rows at once; from now on 1 are computed at once."]
    assert whole.keys() == narrow.keys()
    for name, value in whole.items():
        np.testing.assert_allclose(narrow[name], value, rtol=2e-3, atol=1.01 if "images" in name else 2e-4, err_msg=str(name))


def test_when_one_row_does_not_fit_it_is_said(study_file, tmp_path, small_memory):
    small_memory(1)
    with pytest.raises(RunError, match="One row at a time does not fit into the memory of cpu"):
        computed(study_file, tmp_path / "run")


def test_the_estimate_measures_with_fewer_rows_where_the_batch_does_not_fit(study_file, tmp_path, small_memory):
    plan, workspace = execute.prepare(workbench.load_study(study_file), tmp_path / "run")
    small_memory(1)
    assert cost.estimate(plan, workspace).seconds > 0
    small_memory(0)
    with pytest.raises(RunError, match="One row at a time does not fit"):
        cost.estimate(plan, workspace)
