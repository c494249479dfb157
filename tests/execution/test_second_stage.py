"""A mask learned over an erased variant: it aims at the base model, and a killed training goes on."""

import contextlib

import pytest

import workbench
from workbench.execution import execute
from workbench.methods.erasers import learned_mask
from workbench.models.variants import applied

MASK = '[[variants]]\nname = "masked"\nmethod = "learned_mask"\nparent = "erased"\nrole = "pruned"\n'
MASK += "parameters = { iterations = 3, steps = 3, trajectories = 2, batch = 2 }\n"


@pytest.fixture
def two_stages(study_file, tmp_path):
    """(workspace, nodes) of the tiny study's eraser and a learned mask over it."""
    text = study_file.read_text()
    path = study_file.parent / "masked.toml"
    path.write_text(text[: text.index("[[attacks]]")] + MASK + text[text.index("[record]") :])
    plan, workspace = execute.prepare(workbench.load_study(path), tmp_path / "run")
    return workspace, [plan.node("erase:erased"), plan.node("erase:masked")]


def test_the_second_stage_aims_at_the_base_model_not_at_its_parent(two_stages, monkeypatch):
    workspace, nodes = two_stages
    seen, genuine = {}, learned_mask.erase
    whole = workspace.model.digest()

    def watched(model, pairs, parameters, *, base, **context):
        seen["parent"] = model.digest()
        with base():
            seen["base"] = model.digest()
        return genuine(model, pairs, parameters, base=base, **context)

    monkeypatch.setattr(learned_mask, "erase", watched)
    execute.run_nodes(workspace, nodes)
    with applied(workspace.model, workspace.variant("erased")):
        assert seen == {"parent": workspace.model.digest(), "base": whole} and seen["parent"] != whole
    assert any(mask.any() for mask in workspace.variant("masked").masks.values())


def test_a_killed_training_goes_on_where_it_was(two_stages, monkeypatch):
    workspace, nodes = two_stages
    monkeypatch.setattr(learned_mask, "KEEP_EVERY", 0.0)
    steps, progress = [], lambda step, of, note="": steps.append(step)

    def until_two(step, of, note=""):
        if step == 2 and "pruned" in str(note):
            raise KeyboardInterrupt

    def with_progress(said):
        genuine = learned_mask.erase

        def call(*args, **kwargs):
            return genuine(*args, **kwargs | {"progress": said})

        return call

    with monkeypatch.context() as once:
        once.setattr(learned_mask, "erase", with_progress(until_two))
        with contextlib.suppress(KeyboardInterrupt):
            execute.run_nodes(workspace, nodes)
    left = list((workspace.store.folder / "nodes" / "erase").glob(".*.mask.search"))
    assert len(left) == 1
    monkeypatch.setattr(learned_mask, "erase", with_progress(progress))
    execute.run_nodes(workspace, nodes)
    assert steps == [3] and not left[0].exists()
