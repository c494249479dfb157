"""A tiny study whose units have two rows each, end to end; with one row each nothing changes: test_runs."""

import numpy as np
import pytest

import workbench
from tests import reference as slow
from workbench.analysis import rates
from workbench.execution import execute
from workbench.statistics import split_halves, wilson
from workbench.storage import read_arrays

THINGS = ["owl", "cat", "house", "church"]


@pytest.fixture(scope="module")
def twofold(study_file, tmp_path_factory):
    """(run, workspace): four units of two seeds; the rows of the reference file stand in another order than those of the target."""
    folder = tmp_path_factory.mktemp("twofold")
    rows = [(f"u{i}", thing, 10 * i + k) for i, thing in enumerate(THINGS) for k in (1, 2)]
    texts = {"target": "{} in ink style", "reference": "{} in noto style", "near": "{} in fluent style"}
    for name, template in texts.items():
        ordered = rows[::-1] if name == "reference" else rows[::2] + rows[1::2] if name == "near" else rows
        lines = [f"{unit},{template.format(thing)},{seed},style:fluent" for unit, thing, seed in ordered]
        (folder / f"{name}.csv").write_text("unit,prompt,seed,expect\n" + "\n".join(lines) + "\n")
    (folder / "tiny.toml").write_text(study_file.read_text())
    study = workbench.load_study(folder / "tiny.toml").with_values(["sampling.steps=2", "record.calls=[0, 1]"])
    run = workbench.run(study, folder / "run")
    return run, execute.prepare(study, run.folder)[1]


def seen(workspace, variant, name, column="judge"):
    """{(unit, seed of the target): bool}, row by row; an attack's set stands in the order of the targets."""
    rows = workspace.prompt_set(name)
    seeds = workspace.prompt_set("target").seeds if workspace.plan.sets[name].attack else rows.seeds
    return {
        (unit, seed): bool(found) for unit, seed, found in zip(rows.units, seeds, workspace.detections(variant, name)[column], strict=True)
    }


def test_reports_say_how_many_images_of_how_many_units(twofold):
    run, _ = twofold
    for table in ("rates", "retention", "sweep", "detectors", "comparisons", "against_control"):
        rows = [row for row in run.document[table] if row["rate" if "rate" in row else "difference"] is not None]
        assert rows and all(row["n_units"] <= 4 and row["n"] <= 8 for row in rows)
        assert any((row["n"], row["n_units"]) == (8, 4) for row in rows)
    assert (run.document["study"]["n_units"], run.document["study"]["n_units_half_a"]) == (4, 2)
    assert {row["n"] for row in run.document["waking"]} == {2}
    assert {row["n"] for row in run.document["activity"] if row["neuron_set"] != "random"} == {2}
    assert "8 in 4 units" in (run.store.report_folder / "report.html").read_text()


def test_choices_by_the_seeds_of_the_units_stand_beside_each_other(twofold):
    run, _ = twofold
    rows = [row for row in run.document["stability"] if row["over"] == "seeds"]
    assert [(row["first"], row["second"]) for row in rows] == [("seed 1 of each unit", "seed 2 of each unit")]
    assert rows[0]["n"] == 2 and 0 <= rows[0]["iou"] < 1 and rows[0]["reason"] is None


def test_every_row_has_a_picture_of_its_own(twofold):
    run, workspace = twofold
    shown = run.images
    assert not shown["path"].duplicated().any()
    for (_, name), rows in shown.groupby(["variant", "prompt_set"]):
        assert len(rows) == 8 and rows["id"].nunique() == 8 and sorted(rows["id"]) == sorted(workspace.prompt_set(name).table["id"])


def test_rates_pair_by_unit_and_seed_and_are_those_of_a_loop(twofold):
    run, workspace = twofold
    for row in run.document["rates"]:
        before, after = (seen(workspace, row["variant"], name) for name in ("target", row["prompt_set"]))
        if row["definition"] == "asr":
            after = {key: before[key] or after[key] for key in after}
        if row["definition"] in ("asr", "success_rate", "ceiling", "false_positive"):
            assert (row["successes"], row["n"]) == (sum(after.values()), 8)
            values = np.array(list(after.values()))
            if 0 < values.sum() < 8:
                found = rates.share(values, [unit for unit, _ in after])
                assert (row["low"], row["high"]) == pytest.approx((found["low"], found["high"]))
            else:
                few = wilson(4 * int(values.all()), 4)
                assert (row["low"], row["high"]) == (few.low, few.high)
    for row in run.document["comparisons"]:
        assert row["p_mcnemar"] is None and 0 < row["p_permutation"] <= 1


def test_the_reference_row_of_a_target_starts_from_the_same_noise(twofold):
    _, workspace = twofold
    targets, reference = workspace.prompt_set("target"), workspace.prompt_set("reference")
    noise = workspace.trajectory("reference", targets).inputs[:, 0]
    kept = workspace.gather("generate", "base", "reference", lambda folder: read_arrays(folder / "latents.safetensors")["inputs"])
    own = {key: row for row, key in enumerate(zip(reference.units, reference.seeds, strict=True))}
    for place, key in enumerate(zip(targets.units, targets.seeds, strict=True)):
        shard, row = divmod(own[key], workspace.study.sampling.batch)
        assert (noise[place] == kept[shard][row, 0]).all()
    assert (noise == workspace.trajectory("target", targets).inputs[:, 0]).all()


def test_activity_is_averaged_over_a_units_rows_before_anything_else(twofold):
    run, workspace = twofold
    table, trajectory = run.neurons, "reference"
    concept = (table["in_concept"] & (table["site"] == "ff")).to_numpy()
    half_a = split_halves(workspace.units, workspace.study.choose.seed)
    assert half_a.tolist() == workspace.units_in_half_a().tolist() and workspace.units == ["u0", "u1", "u2", "u3"]
    wanted = [unit for unit, chosen in zip(workspace.units, half_a, strict=True) if not chosen]
    values = {}
    for variant, name in (("base", "target"), ("base", "reference"), ("erased", "target"), ("erased", "paraphrase")):
        rows, recorded = workspace.prompt_set(name).units, workspace.mean_abs(variant, name, trajectory)
        means = [[recorded[row].mean(axis=0) for row in range(8) if rows[row] == unit] for unit in wanted]
        values[variant, name] = np.array([sum(mine) / len(mine) for mine in means])
    for condition in values:
        (row,) = [
            row
            for row in run.document["activity"]
            if (row["variant"], row["prompt_set"], row["neuron_set"], row["site"], row["trajectory"])
            == (*condition, "concept", "ff", trajectory)
        ]
        if row["value"] is not None:
            assert row["value"] == pytest.approx(slow.concept_activity(values, concept, condition), rel=1e-4, abs=1e-4)
    target, reference = (
        workspace.unit_means(name, sum(workspace.mean_abs("base", name, t) for t in workspace.study.record.trajectories))[half_a].mean(
            axis=(0, 1), dtype=float
        )
        for name in ("target", "reference")
    )
    assert (target - reference)[concept].min() > 0


def test_an_attack_and_its_control_keep_the_rows_of_the_targets(twofold):
    _, workspace = twofold
    targets = workspace.prompt_set("target")
    for name in ("embedding_pgd@erased", "embedding_pgd@erased~control", "paraphrase", "paraphrase~control"):
        made = workspace.prompt_set(name)
        assert made.keys == targets.keys and len(set(made.seeds)) == 8
        if made.prefix is not None:
            assert len(made.prefix) == 8


def test_a_finished_twofold_run_is_found_finished(twofold):
    run, workspace = twofold
    todo = []
    again = workbench.run(workspace.study, run.folder, watcher=execute.Watcher(start=todo.append))
    assert todo[0].passes == 0 and again.document["rates"] == run.document["rates"]
