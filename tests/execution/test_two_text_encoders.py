"""The stages of a study on a tiny SDXL pipeline: those of one text encoder, asked for by their results."""

import pytest
import torch

from tests import tiny_xl
from tests.tiny_study import STUDY
from workbench.execution import cost, execute
from workbench.models.load import source_digest
from workbench.models.variants import applied
from workbench.storage import read_arrays, read_table

GOAL = "record:pruned:embedding_pgd@erased"  # needs generate, erase, record, score, prune and the attack


def with_inputs(plan, name):
    """The nodes a node is made from, and itself, in the plan's order."""
    needed, left = set(), [name]
    while left:
        needed.add(left[-1])
        left += [other for other in plan.node(left.pop()).inputs if other not in needed]
    return [node for node in plan.nodes if node.id in needed]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Four units, erased, attacked with vectors, scored, pruned and recorded."""
    folder = tmp_path_factory.mktemp("xl")
    tiny_xl.xl_pipeline().save_pretrained(folder / "model")
    for name in ("target", "reference", "near"):
        things = ["owl", "cat", "house", "church"]
        lines = [f"u{i},{thing} in {'ink' if name == 'target' else 'noto'} style,{i},style:fluent" for i, thing in enumerate(things)]
        (folder / f"{name}.csv").write_text("unit,prompt,seed,expect\n" + "\n".join(lines) + "\n")
    study = STUDY.format(base=folder / "model").replace('["ff", "update"]', '["ff", "text_mlp"]').replace("batch = 3", "batch = 4")
    (folder / "xl.toml").write_text(study)
    plan, workspace = execute.prepare(folder / "xl.toml", folder / "run")
    execute.run_nodes(workspace, with_inputs(plan, GOAL))
    return workspace


def test_every_stage_runs_on_two_text_encoders(workspace):
    stages = {node.stage for node in with_inputs(workspace.plan, GOAL)}
    assert {"generate", "erase", "attack", "record", "score"} <= stages
    [shard] = workspace.plan.node(GOAL).shards
    kept = read_arrays(workspace.store.path("record", shard.key) / "target.safetensors")
    assert all(torch.isfinite(kept[f"{layer.path}|mean_abs"]).all() for layer in workspace.layers if layer.site.name == "ff")
    table = read_table(next((workspace.store.folder / "nodes" / "score").glob("*/neurons.parquet")))
    assert set(table["site"]) == {"ff", "text_mlp"} and table["in_prune"].any()
    assert cost.estimate(workspace.plan, workspace).passes > 0


def test_the_vectors_of_the_attack_stand_in_both_encoders(workspace):
    [path] = (workspace.store.folder / "nodes" / "attack").glob("*/adversarial.safetensors")
    assert read_arrays(path)["prefix"].shape == (4, 3, sum(tiny_xl.WIDTHS))


def test_variants_differ_in_the_unet_alone_and_are_told_apart_by_their_digest(workspace):
    base = workspace.model.digest()
    changed = workspace.variant("pruned")
    assert all(name.startswith("unet.") for name in {**changed.weights, **changed.masks})
    with applied(workspace.model, changed):
        assert workspace.model.digest() != base
    assert workspace.model.digest() == base


def test_another_number_format_takes_both_encoders_along(workspace):
    other = workspace.other_format
    assert {next(module.parameters()).dtype for module in other.modules.values()} == {torch.bfloat16}
    assert len(other.modules) == 4 and workspace.model.dtype == torch.float32


def test_the_source_of_a_single_file_is_the_file_and_the_folder_beside_it(tmp_path):
    (tmp_path / "m.safetensors").write_bytes(b"weights")
    found = [source_digest(str(tmp_path / "m.safetensors"))]
    (tmp_path / "m").mkdir()
    for content in ("{}", '{"changed": true}'):
        (tmp_path / "m" / "model_index.json").write_text(content)
        found.append(source_digest(str(tmp_path / "m.safetensors")))
    assert len(set(found)) == 3
