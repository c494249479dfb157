"""Variants without weights go through a whole run: images, recordings, an attack that sees the rule, a mask over them, the report."""

import numpy as np
import pytest
import torch

import workbench
from tests.tiny_study import made_again, written
from workbench.errors import StudyError
from workbench.execution import execute
from workbench.execution.export import export
from workbench.lab import NeuronAblation
from workbench.models.changes import guidance
from workbench.storage import read_arrays

LED = """
[[variants]]
name = "led-away"
method = "sld"
parameters = { concept = "ink style", warmup = 0 }
[[variants]]
name = "negative"
method = "negative_prompt"
parent = "erased"
parameters = { prompt = "ink style" }
[[variants]]
name = "led-pruned"
method = "prune_neurons"
parent = "led-away"
role = "pruned"
"""


@pytest.fixture(scope="module")
def study_of_rules(tmp_path_factory, tiny_folder):
    """The tiny study with variants that are rules of guidance."""
    path = written(tmp_path_factory.mktemp("rules"), tiny_folder)
    text = path.read_text().replace(
        '[[attacks]]\nmethod = "embedding_pgd"\nagainst = ["erased"]',
        f"{LED}[[attacks]]\nmethod = " + '"embedding_pgd"\nagainst = ["led-away"]',
        1,
    )
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def run(study_of_rules, finished, tmp_path_factory):
    return workbench.run(workbench.load_study(study_of_rules), tmp_path_factory.mktemp("runs") / "rules", others=[finished.folder])


def recorded(run, node):
    (shards,) = [one["shards"] for one in run.store.manifest()["nodes"] if one["id"] == node]
    return [read_arrays(run.store.file(node.split(":")[0], shard, "reference.safetensors")) for shard in shards]


def test_attacks_on_a_rule_expect_the_guidance_that_the_study_samples_with(study_of_rules, tmp_path):
    _, workspace = execute.prepare(workbench.load_study(study_of_rules), tmp_path / "run")
    assert workspace.model.expected_guidance == workspace.study.sampling.guidance == 2.0


def images(run, node):
    (shards,) = [one["shards"] for one in run.store.manifest()["nodes"] if one["id"] == node]
    return torch.cat([read_arrays(run.store.file("generate", shard, "images.safetensors"))["images"] for shard in shards])


def test_images_change_and_recorded_activity_does_not(run):
    assert not torch.equal(images(run, "generate:led-away:target"), images(run, "generate:base:target"))
    assert not torch.equal(images(run, "generate:negative:target"), images(run, "generate:erased:target"))
    for own, parent in (("led-away", "base"), ("negative", "erased")):
        for a, b in zip(recorded(run, f"record:{own}:target"), recorded(run, f"record:{parent}:target"), strict=True):
            assert a.keys() <= b.keys() and all(torch.equal(a[name], b[name]) for name in a if name.endswith("|mean_abs"))
    effects = run.table("effects")
    mine = effects[(effects["variant"] == "led-away") & (effects["effect"] == "deactivation") & (effects["neuron_set"] == "concept")]
    assert len(mine) and np.allclose(mine["value"].astype(float), 0, atol=1e-6)


def test_the_report_says_what_the_variant_is(run):
    models = run.table("models").set_index("variant")
    assert models.loc["led-away", "what"] == 'guidance away from "ink style" (SLD), scale 2000'
    assert models.loc["negative", "what"].endswith(' tensors changed, guidance with the negative prompt "ink style"')
    assert "weights pruned" in models.loc["led-pruned", "what"] and "(SLD)" in models.loc["led-pruned", "what"]
    assert models["digest"].nunique() == len(models)


def test_the_attack_worked_against_the_rule(run, study_of_rules, tmp_path, monkeypatch):
    """Without the rule in its way the same attack finds other vectors."""
    (key,) = next(one["shards"] for one in run.store.manifest()["nodes"] if one["id"] == "attack:embedding_pgd@led-away")
    found = read_arrays(run.store.file("attack", key, "adversarial.safetensors"))["prefix"]
    monkeypatch.setattr(guidance.SafeLatent, "seen", guidance.Ordinary.seen)
    workspace = made_again(study_of_rules, run, "attack:embedding_pgd@led-away", tmp_path / "unaware")
    unaware = read_arrays(workspace.store.file("attack", key, "adversarial.safetensors"))["prefix"]
    assert found.shape == unaware.shape and not torch.allclose(found, unaware, atol=1e-4)


def test_the_lab_draws_them_too_and_ablates_neurons_under_a_rule(run):
    lab = workbench.Lab(run)
    rows = [("a", "owl in ink style", 0)]
    drawn = lab.images([prompt for _, prompt, _ in rows], [seed for *_, seed in rows], "led-away")
    assert torch.allclose(drawn, images(run, "generate:led-away:target")[:1].float() / 255, atol=0.01)
    layer = "mid_block.attentions.0.transformer_blocks.0.ff.net.2"
    for mode in ("zero", "mean"):
        ablation = NeuronAblation({layer: list(range(32))}, mode, branch="both")
        assert not torch.allclose(lab.images(rows[0][1], 0, "led-away", ablation), drawn, atol=1e-3)
    other = workbench.Lab(run)
    other.prepare(rows[0][1], 0, ["base", "led-away"], ablation)  # the rule of one is no rule of the other
    # SLD multiplies what rounding differs in batches of another size by up to its scale, here 2000
    for name, rounding in (("base", 1e-5), ("led-away", 1e-3)):
        assert torch.allclose(other.images(rows[0][1], 0, name), lab.images(rows[0][1], 0, name), atol=rounding)
        assert other.target(rows[0][1], 0, name, ablation) == pytest.approx(lab.target(rows[0][1], 0, name, ablation), abs=1e-5)


def test_a_third_branch_costs_half_as_much_again(study_of_rules, tmp_path):
    _, workspace = execute.prepare(workbench.load_study(study_of_rules), tmp_path / "cost")
    passes = {node.id: node.passes for node in workspace.plan.of_stage("generate")}
    assert passes["generate:led-away:target"] == passes["generate:led-pruned:target"] == 1.5 * passes["generate:base:target"]
    assert passes["generate:negative:target"] == passes["generate:base:target"]


def test_where_a_rule_can_do_nothing_or_be_no_file_it_is_refused(run, study_of_rules, tmp_path):
    with pytest.raises(StudyError, match="guidance = 1 samples without any"):
        execute.prepare(workbench.load_study(study_of_rules).with_values(["sampling.guidance=1.0"]), tmp_path / "x")
    with pytest.raises(workbench.errors.ModelError, match="no checkpoint of weights can hold"):
        export(run.folder, "led-away", "partial", tmp_path / "out")
