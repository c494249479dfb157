"""Masks in studies: retained prompts, controls of equal sparsity, what was learned over steps, second stages."""

import pandas
import pytest
import torch

import workbench
from workbench.errors import RunError, StudyError
from workbench.execution import execute, variant_files
from workbench.execution.rows import rates
from workbench.models.masks import count, save
from workbench.models.variants import applied
from workbench.registry import methods
from workbench.storage import read_table

LEARNED = "iterations = 4, steps = 3, trajectories = 2, batch = 2"
VARIANTS = f"""
[[variants]]
name = "masked"
method = "learned_mask"
parent = "erased"
role = "pruned"
parameters = {{ {LEARNED} }}
[[variants]]
name = "lot"
method = "random_mask"
parent = "erased"
role = "pruned"
like = "masked"
parameters = {{ layers = ["feeds", "reads"] }}
[[variants]]
name = "small"
method = "magnitude"
parent = "erased"
role = "pruned"
like = "masked"
parameters = {{ layers = ["feeds", "reads"] }}
"""


@pytest.fixture
def written(study_file):
    """write(text of variants, retain) -> path of the tiny study with these variants after its eraser, and no attacks."""
    text = study_file.read_text()
    start, end = text.index("[[variants]]", text.index("[[variants]]") + 1), text.index("[record]")

    def write(variants=VARIANTS, retain=None):
        path = study_file.parent / "masks.toml"
        own = text[:start] + variants + text[end:]
        path.write_text(own.replace("[detectors]", f'retain = "{retain}"\n[detectors]', 1) if retain else own)
        return path

    return write


def made(path, folder):
    """The workspace of a study whose erasers have run."""
    plan, workspace = execute.prepare(path, folder)
    execute.run_nodes(workspace, plan.of_stage("erase"))
    return workspace


def test_a_control_cuts_as_many_weights_of_each_layer_as_the_learned_mask(written, tmp_path):
    workspace = made(written(), tmp_path / "run")
    counts = {
        name: {
            layer: int(mask.sum())
            for layer, mask in variant_files.read_change(workspace.study.variant(name), workspace.result(f"erase:{name}")).masks.items()
        }
        for name in ("masked", "lot", "small")
    }
    assert counts["masked"] == counts["lot"] == counts["small"] and sum(counts["masked"].values()) > 0


def test_the_log_of_a_learned_mask_is_kept_and_shown(written, tmp_path):
    workspace = made(written(), tmp_path / "run")
    rows = variant_files.training_rows(workspace)
    assert [row["step"] for row in rows] == [1, 2, 3, 4] and {row["variant"] for row in rows} == {"masked"}
    assert all(row["loss"] > 0 and 0 < row["expected_share"] < 1 for row in rows)
    assert len(read_table(workspace.result("erase:masked") / "log.parquet")) == 4


def test_retained_prompts_reach_the_mask_and_belong_to_its_key_alone(written, study_file, tmp_path, monkeypatch):
    from workbench.methods.erasers import learned_mask

    (study_file.parent / "keep.csv").write_text("prompt,anchor\nowl in water style,x\ncat in water style,y\nowl in water style,z\n")
    seen, genuine = [], learned_mask.erase

    def watched(model, pairs, parameters, *, retained, **context):
        seen.append(retained)
        return genuine(model, pairs, parameters, retained=retained, **context)

    plain, _ = execute.prepare(written())
    plan, workspace = execute.prepare(written(retain="keep.csv"), tmp_path / "run")
    changed = {node.id for node in plan.of_stage("erase") if node.key != plain.node(node.id).key}
    assert changed == {"erase:masked", "erase:lot", "erase:small"}
    monkeypatch.setattr(learned_mask, "erase", watched)
    execute.run_nodes(workspace, plan.of_stage("erase"))
    assert seen == [["owl in water style", "cat in water style"]]


def test_what_is_measured_is_never_trained_on(written, study_file):
    (study_file.parent / "keep.csv").write_text("prompt\nowl in water style\ncat in fluent style\n")
    with pytest.raises(StudyError, match='1 prompts in common, e.g. "cat in fluent style"'):
        execute.prepare(written(retain="keep.csv"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('like = "masked"', 'like = "maskt"', 'Did you mean "masked"'),
        ('like = "masked"', 'like = "erased"', "which is not a mask defined before it"),
        ('method = "random_mask"', 'method = "conceptprune"', "sets its own share. Methods that can prune like another mask: cad"),
        ('layers = ["feeds", "reads"]', 'layers = ["reads"]', 'prunes layers "feeds"'),
        ('layers = ["feeds", "reads"]', 'layers = ["feeds", "reads"], share = 0.1', "Remove `share`"),
    ],
)
def test_a_control_that_cannot_be_is_told_when_the_study_is_read(written, old, new, message):
    assert old in VARIANTS
    with pytest.raises(StudyError, match=message):
        workbench.load_study(written(VARIANTS.replace(old, new, 1)))


def test_two_masks_on_base_one_like_the_other_are_different_results(written):
    two = VARIANTS.replace('parent = "erased"\n', "")
    plan, _ = execute.prepare(
        written(two.replace('name = "small"\nmethod = "magnitude"', 'name = "small"\nmethod = "magnitude"\nparent = "masked"'))
    )
    assert plan.node("erase:small").inputs == ("erase:masked", "erase:masked")
    assert plan.node("erase:lot").inputs == ("erase:masked",)


@pytest.mark.parametrize("name", sorted(name for name, one in methods("erasers").items() if one.is_mask))
def test_every_mask_is_a_second_stage_over_an_eraser(written, tmp_path, name):
    save(tmp_path / "mask.safetensors", {"unet.conv_in.bias": torch.arange(16) < 4}, {})
    given = {
        "learned_mask": LEARNED,
        "cad": "steps = 3, trajectories = 2",
        "mask_from_file": f'file = "{tmp_path}/mask.safetensors"',
        **dict.fromkeys(("conceptprune", "fia", "wanda"), "steps = 3, calls = 2"),
    }
    variant = (
        f'[[variants]]\nname = "second"\nmethod = "{name}"\nparent = "erased"\nrole = "pruned"\nparameters = {{ {given.get(name, "")} }}\n'
    )
    plan, workspace = execute.prepare(written(variant), tmp_path / "run")
    wanted = {"erase:erased", "erase:second"} | ({"score"} if name == "prune_neurons" else set())
    needed = [
        node
        for node in plan.nodes
        if node.id in wanted or (name == "prune_neurons" and node.variant == "base" and node.prompt_set in ("target", "reference"))
    ]
    execute.run_nodes(workspace, needed)
    change = workspace.variant("second")
    assert count(change.masks) > 0 and set(change.weights) == set(workspace.variant("erased").weights)
    with applied(workspace.model, change):
        for layer, mask in change.masks.items():
            assert (workspace.model.parameters()[layer][mask] == 0).all()


def test_the_estimate_counts_what_masks_measure(written):
    for name in ("conceptprune", "fia", "wanda", "cad", "learned_mask"):
        variant = f'[[variants]]\nname = "second"\nmethod = "{name}"\n'
        plan, _ = execute.prepare(written(variant))
        assert plan.node("erase:second").passes > 0


def test_a_finished_variant_is_read_from_its_run_folder(written, tmp_path):
    workspace = made(written(), tmp_path / "run")
    change, chain = variant_files.merged(workspace.store, workspace.study, "masked")
    assert [part.name for part, _ in chain] == ["erased", "masked"]
    assert (
        change.masks.keys() == workspace.variant("masked").masks.keys()
        and change.weights.keys() == workspace.variant("masked").weights.keys()
    )
    with pytest.raises(RunError, match='Did you mean "masked"'):
        variant_files.merged(workspace.store, workspace.study, "maskd")


def test_a_mask_that_cuts_into_watched_neurons_says_so(written, tmp_path):
    workspace = made(written(), tmp_path / "run")
    layer = "mid_block.attentions.0.transformer_blocks.0.ff.net.2"
    name = f"unet.{layer.removesuffix('net.2')}net.0.proj.weight"
    width = workspace.model.parameters()[name].shape[0] // 2
    mask = torch.zeros_like(workspace.model.parameters()[name], dtype=torch.bool)
    mask[3], mask[5 + width, 0] = True, True
    shares = variant_files.cut_into({name: mask}, [layer, layer, layer, "other.ff.net.2"], [3, 5, 4, 3])
    assert shares.tolist() == pytest.approx([0.5, 1 / (2 * mask.shape[1]), 0.0, 0.0])
    table = pandas.DataFrame({"layer": [layer] * 3, "index": [0, 1, 2], "in_watch": [True, True, False]})
    workspace.variant("masked").masks, workspace.variant("lot").masks = {name: torch.ones_like(mask)}, {}
    said = variant_files.watched_caveats(workspace, table)
    assert said[0].startswith("masked also prunes weights that feed 2 of the 2 watched neurons, 100.0 % of these")
    assert not any(sentence.startswith("lot ") for sentence in said)


def test_a_mask_is_compared_with_its_parent_its_controls_and_more_training():
    variants = workbench.load_study("emoji-robust-pruning").variants
    pairs = list(rates._compared(variants))
    told = {a: rates._pair(variants, a, "masked") for a, b in pairs if b == "masked"}
    assert told["erased"] == "parent" and {told[name] for name in ("longer", "by-lot", "smallest")} == {"control"}
    assert {("erased", "masked"), ("longer", "masked"), ("by-lot", "masked"), ("smallest", "masked")} <= set(pairs)
    assert len(pairs) == len(set(pairs))
    plain = list(rates._compared(workbench.load_study("emoji-ink-style").variants))
    assert plain == [("base", "erased"), ("erased", "pruned"), ("base", "sham")]
