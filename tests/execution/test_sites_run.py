"""A whole small study on all five sites: recorded, scored at each call, chosen by a score that is neutral at a half."""

import numpy as np
import pandas
import pytest

import workbench
from workbench.execution import execute
from workbench.methods import scores
from workbench.neurons.sites import SITES
from workbench.registry import method

CHANGES = [f"record.sites={list(SITES)}", "choose.score=auroc", "attacks=[]"]


@pytest.fixture(scope="module")
def five(study_file, tmp_path_factory):
    """The finished run, and the workspace to read its recordings in."""
    study = workbench.load_study(study_file).with_values(CHANGES)
    run = workbench.run(study, tmp_path_factory.mktemp("five") / "r")
    return run, execute.prepare(study, run.folder)[1]


def test_every_site_has_neurons_a_concept_set_and_activity(five):
    run, _ = five
    assert set(run.neurons["site"]) == set(SITES)
    assert set(run.neurons.loc[run.neurons["in_concept"], "site"]) == set(SITES)
    assert set(run.activity["site"]) == set(SITES)


def test_a_score_that_is_neutral_at_a_half_chooses_above_it(five):
    table = five[0].neurons
    assert (table.loc[table["in_concept"], "auroc_a"] > 0.5).all() and (table.loc[table["in_suppressed"], "auroc_a"] < 0.5).all()


def test_every_score_is_in_the_neuron_table_and_in_the_report(five):
    run, _ = five
    base = {"contrast", "z", "welch_z", "auroc", "wanda_contrast", "conceptprune", "fia"}
    assert {f"{name}_{half}" for name in base for half in "ab"} | {"correlation_erased_a"} <= set(run.neurons)
    rows = run.table("scores").set_index("score")
    assert base | {"correlation (erased)"} == set(rows.index)
    assert "reading of the paper" in rows.loc["correlation (erased)", "note"]
    weighed = run.neurons["site"].isin(["ff", "text_mlp"])
    assert run.neurons.loc[weighed, "fia_a"].notna().all() and run.neurons.loc[~weighed, "fia_a"].isna().all()


def test_the_text_encoder_says_the_same_at_every_call_and_an_eraser_of_the_unet_leaves_it(five):
    _, workspace = five
    text = (workspace.neurons["site"] == "text_mlp").to_numpy()
    base, erased = (workspace.mean_abs(variant, "target", "target")[..., text] for variant in ("base", "erased"))
    assert np.array_equal(base[:, 0], base[:, 1]) and np.array_equal(base, erased) and base.std(axis=0).max() > 0
    assert np.array_equal(base, workspace.mean_abs("base", "target", "reference")[..., text])


def test_scores_by_call_stand_beside_the_neuron_table(five):
    run, workspace = five
    by_call = pandas.read_parquet(run.store.report_folder / "neurons_by_call.parquet")
    assert len(by_call) == len(run.neurons) * 2 and sorted(by_call["call"].unique()) == [0, 2]
    assert by_call.groupby("call")["timestep"].nunique().eq(1).all()
    recorded = {
        name: np.mean([workspace.mean_abs("base", name, t) for t in ("target", "reference")], axis=0) for name in ("target", "reference")
    }
    half, z = workspace.half_a(), method("scores", "z").module.score
    for place, call in enumerate((0, 2)):
        at = by_call[by_call["call"] == call]
        assert np.array_equal(at["index"], run.neurons["index"]) and (at["layer"].astype(str).to_numpy() == run.neurons["layer"]).all()
        expected = z(*(recorded[name][half, place].astype(float) for name in ("target", "reference")))
        assert np.allclose(at["z_a"], expected, rtol=1e-4, atol=1e-5)
    assert {"auroc_a", "auroc_b", "correlation_erased_a"} <= set(by_call) and "z_b" not in by_call


def test_norms_are_recorded_for_the_base_model_only_when_a_listed_score_reads_them(five, study_file):
    _, workspace = five
    recorded = {node.id: node.parameters.get("also") for node in workspace.plan.of_stage("record")}
    assert recorded["record:base:target"] == ["norm", "row_norm"] and recorded["record:erased:target"] is None
    plan, _ = execute.prepare(workbench.load_study(study_file).with_values(['choose.compare=["z"]']))
    assert plan.node("record:base:target").parameters["also"] == []


def test_a_score_that_needs_an_erased_model_cannot_choose_and_unknown_ones_are_named(study_file):
    study = workbench.load_study(study_file)
    with pytest.raises(workbench.errors.StudyError, match="Choose by a score of the base model only"):
        study.with_values(["choose.score=correlation"])
    with pytest.raises(workbench.errors.StudyError, match='Did you mean "welch_z"'):
        study.with_values(['choose.compare=["welchz"]'])
    chosen = study.with_values(["choose.score=wanda_contrast", 'choose.parameters={group="layer"}']).choose
    assert scores.listed(chosen)["wanda_contrast"].parameters(**chosen.parameters).group == "layer"
