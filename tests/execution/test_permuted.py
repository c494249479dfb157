"""Permuting the neurons of a model permutes what a study chooses, and changes nothing else: from the recording to the choice."""

import numpy as np
import pytest
import torch

import workbench
from tests import tiny
from workbench.execution import digests, execute
from workbench.storage import read_arrays, read_table, write_arrays

APART = 1e-4  # of their weights' size: two neurons this much alike are mostly one and the same in half precision
SETTINGS = ["attacks=[]", "record.sites=['ff']"]


def feed_forward(unet):
    """{path of a feed-forward layer: (its first linear layer, its last)}."""
    blocks = {name: block for name, block in unet.named_modules() if name.endswith(".ff")}
    return {f"{name}.net.2": (block.net[0].proj, block.net[2]) for name, block in blocks.items()}


def with_twins(unet):
    """Make every neuron of the second half of a layer nearly the same as one of the first half."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for proj, out in feed_forward(unet).values():
            width, half = out.in_features, out.in_features // 2
            for tensor in (proj.weight, proj.bias):
                first = tensor[:half]
                tensor[half:width] = first + APART * first.std() * torch.randn(first.shape, generator=generator)
                tensor[width + half :] = tensor[width : width + half]


def permuted(unet):
    """{layer path: order}: put the neurons of each layer into a random order; the function that the model computes is the same."""
    orders, generator = {}, torch.Generator().manual_seed(11)
    with torch.no_grad():
        for path, (proj, out) in feed_forward(unet).items():
            order = torch.randperm(out.in_features, generator=generator)
            both = torch.cat([order, order + out.in_features])
            proj.weight.copy_(proj.weight[both])
            proj.bias.copy_(proj.bias[both])
            out.weight.copy_(out.weight[:, order])
            orders[path] = order.numpy()
    return orders


def scored(study_file, folder, pipeline, changes=()):
    """The workspace of a study on a pipeline, after the stages generate, record and score of the base model."""
    pipeline.save_pretrained(folder / "model")
    study = workbench.load_study(study_file).with_values([*SETTINGS, *changes, f"model.base={folder / 'model'}"])
    plan, workspace = execute.prepare(study, folder / "run")
    wanted = [
        n for n in plan.nodes if n.stage in ("generate", "record") and n.variant == "base" and n.prompt_set in ("target", "reference")
    ]
    execute.run_nodes(workspace, [*wanted, plan.node("score")])
    return workspace


def chosen(*args):
    """The neuron table of such a study."""
    return read_table(scored(*args).result("score") / "neurons.parquet")


# an odd number of neurons, so that the choice ends between two twins
@pytest.mark.parametrize("rule", [["choose.score=contrast", "choose.share=0.16"], ["choose.score=auroc", "choose.share=0.16"]])
def test_permuting_the_neurons_of_a_model_permutes_the_chosen_set(study_file, tmp_path, rule):
    plain, other = tiny.pipeline(), tiny.pipeline()
    for pipeline in (plain, other):
        with_twins(pipeline.unet)
    orders = permuted(other.unet)
    first = chosen(study_file, tmp_path / "plain", plain, rule)
    second = chosen(study_file, tmp_path / "permuted", other, rule)
    assert first["in_concept"].sum() % 2 == 1
    for path, order in orders.items():
        mine, theirs = (table[table["layer"] == path].sort_values("index").reset_index(drop=True) for table in (first, second))
        for column in ("in_concept", "in_suppressed", "in_prune"):
            assert np.array_equal(mine[column].to_numpy()[order], theirs[column]), (path, column)


def test_recordings_of_older_runs_in_half_precision_are_still_read(study_file, tmp_path):
    workspace = scored(study_file, tmp_path, tiny.pipeline())
    before = workspace.mean_abs("base", "target", "reference")
    for path in workspace.store.folder.glob("nodes/record/*/reference.safetensors"):
        older = {name: value.half() if name.endswith("|mean_abs") else value for name, value in read_arrays(path).items()}
        write_arrays(path, older)
        digests.seal(path.parent)
    after = workspace.mean_abs("base", "target", "reference")
    assert before.dtype == after.dtype == np.float32 and not np.array_equal(after, before)
    assert np.allclose(after, before, rtol=1e-3, atol=1e-6)


def test_the_disk_that_is_announced_holds_the_recordings(study_file, tmp_path):
    workspace = scored(study_file, tmp_path, tiny.pipeline())
    node = workspace.plan.node("record:base:reference")
    files = [path for shard in node.shards for path in workspace.store.path("record", shard.key).glob("*.safetensors")]
    values = sum(array.nbytes for path in files for array in read_arrays(path).values())
    assert node.bytes == pytest.approx(values, rel=0.2)
