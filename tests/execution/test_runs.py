"""A whole small study: plan, run, resume, contract of the run folder; what must not be lost when something breaks."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import workbench
from tests import reference as slow
from tests.pages.opening import open_all
from workbench.analysis.sensitivity import Sensitivity
from workbench.errors import RunError
from workbench.execution import execute
from workbench.execution.open_run import open_run
from workbench.execution.rows import rates
from workbench.execution.run_folder import Store
from workbench.execution.stages import measure
from workbench.report import document
from workbench.statistics import mcnemar, split_halves, wilson
from workbench.storage import read_json


def tables_of(run):
    content = run.document
    return {name: content[name] for name in ("rates", "retention", "activity", "effects", "neurons", "comparisons", "verdict")}


def test_the_run_keeps_its_contract(finished):
    content = finished.document
    document.check(content)
    assert content["schema_version"] == 1
    assert (content["study"]["score"]["name"], content["study"]["score"]["unit"]) == ("contrast", "multiples of the layer's mean |a|")
    assert {row["variant"] for row in content["models"]} == {"base", "erased", "pruned"}
    assert {"ceiling", "false_positive", "pre_asr", "asr", "asr_fail", "success_rate"} == {r["definition"] for r in content["rates"]}
    provenances = {(r["variant"], r["provenance"]) for r in content["rates"] if r["attack"] == "embedding_pgd"}
    assert provenances == {("erased", "optimised"), ("pruned", "transferred")}
    grid = {(r["variant"], r["prompt_set"]) for r in content["activity"]}
    assert len(grid) == 3 * 7
    assert all(node["state"] == "done" and node["key"] for node in finished.store.manifest()["nodes"])
    assert (finished.store.report_folder / "report.html").stat().st_size < 10e6


def test_what_weakens_a_study_is_a_caveat_and_where_it_lay_is_kept(finished):
    caveats = finished.document["verdict"]["caveats"]
    assert sum(caveat.startswith("prompts.erase is not given, so erased trained on bare names") for caveat in caveats) == 1
    folder = Path(finished.store.study_folder())
    assert (folder / "tiny.toml").read_text() == (finished.folder / "study.toml").read_text()


def test_without_transfer_an_attack_meets_its_own_variant_and_the_base_model_alone(study_file, finished, tmp_path):
    """Every other node keeps its key, so such a study goes on from the results of one with transfer."""
    study = workbench.load_study(study_file)
    plan = execute.prepare(study, tmp_path / "with")[1].plan
    study.attacks[0].transfer = False
    without = execute.prepare(study, tmp_path / "without")[1].plan
    left_out = {node.id for node in plan.nodes} - {node.id for node in without.nodes}
    ends = ("embedding_pgd@erased", "embedding_pgd@erased~control")
    assert left_out == {f"{stage}:pruned:{end}" for stage in ("generate", "detect", "record") for end in ends}
    assert {node.id for node in without.nodes if node.shards != plan.node(node.id).shards} == {"measure", "report"}
    run = workbench.run(study, tmp_path / "run", others=[finished.folder])
    found = {(r["variant"], r["provenance"]) for r in run.document["rates"] if r["attack"] == "embedding_pgd"}
    assert found == {("erased", "optimised")}
    for table in ("activity", "effects", "neurons", "relocation"):
        rows = [row for row in run.document[table] if row["attack"] == "embedding_pgd"]
        assert {row["variant"] for row in rows} <= {"erased", "base"} and rows, table
    over = dict.fromkeys(("p_change_adjusted", "n_family"))  # corrected over fewer rows
    before, after = ([row | over for row in one.document["effects"] if row["variant"] == "erased"] for one in (finished, run))
    assert before == after


def test_the_scale_is_one_and_zero_in_the_base_model(finished):
    rows = [r for r in finished.document["activity"] if r["variant"] == "base" and r["neuron_set"] == "concept"]
    for row in rows:
        if row["prompt_set"] in ("target", "reference"):
            assert row["value"] == pytest.approx(1.0 if row["prompt_set"] == "target" else 0.0)


def test_the_rows_of_effects_say_whether_there_is_a_change_and_what_a_change_of_wording_does(finished, study_file):
    workspace, rows = execute.prepare(workbench.load_study(study_file), finished.folder)[1], finished.document["effects"]
    members = (finished.neurons["in_concept"] & (finished.neurons["site"] == "ff")).to_numpy()
    half_b, checked = ~workspace.units_in_half_a(), 0

    def sums(variant, name, trajectory):
        values = workspace.unit_means(name, workspace.mean_abs(variant, name, trajectory))[half_b].mean(axis=1)
        return values[:, members].sum(axis=1, dtype=float)

    for row in rows:
        if row["neuron_set"] != "concept" or row["value"] is None:
            continue
        if row["effect"] == "deactivation":
            d = sums("base", "target", row["trajectory"]) - sums(row["variant"], "target", row["trajectory"])
            assert row["p_change"] == pytest.approx(slow.sign_flip_p(d.tolist()))
            checked += 1
        assert (row["comparable"] is None) == bool(row["comparable_reason"]) and row["low"] <= row["value"] <= row["high"]
        assert row["p_change_adjusted"] is None or row["p_change_adjusted"] >= row["p_change"]
    assert checked
    about = [row for row in rows if row["effect"].endswith("reactivation") and row["null_low"] is not None]
    assert about and all(row["null_low"] <= 0 <= row["null_high"] and row["null_n"] == 3 for row in about)
    # the plain prompt again is no change of wording: every control here has words or vectors of its own
    for name in ("prompts of near", "embedding_pgd@erased, control", "paraphrase, control"):
        assert all(name in row["null_from"] for row in about)
    assert all(row["null_low"] is row["null_from"] is None for row in rows if row["effect"] in ("deactivation", "drift"))


def test_what_is_left_is_activity_with_the_concept_minus_activity_without(finished):
    document, found = finished.document, 0
    for row in document["effects"]:
        if row["effect"] == "target_over_reference" and row["value"] is not None:
            keys = {key: row[key] for key in ("variant", "neuron_set", "trajectory")} | {"site": "ff"}
            at = {r["prompt_set"]: r["value"] for r in document["activity"] if keys.items() <= r.items() and not r["attack"]}
            if len(at) >= 2:
                assert row["value"] == pytest.approx(at["target"] - at["reference"])
                found += 1
    assert found


def test_whether_the_set_is_about_the_concept_stands_in_a_table_of_its_own(finished):
    rows = finished.document["set_validity"]
    assert {(row["trajectory"], row["neuron_set"]) for row in rows} == {
        (t, s) for t in ("target", "reference") for s in ("concept", "watch")
    }
    chosen = next(row for row in finished.document["selection"] if (row["neuron_set"], row["site"]) == ("concept", "ff"))
    for row in rows:
        assert row["valid"] == (row["reason"] is None) and row["n"] == 3
        if row["neuron_set"] == "concept":
            assert (row["n_neurons"], row["confirmed_share"]) == (chosen["n_chosen"], chosen["confirmed_share"])
            assert row["random_share"] == chosen["random_share"]


def test_a_row_that_tests_nothing_changes_no_other_row():
    row = {
        "effect": "reactivation",
        "trajectory": "reference",
        "variant": "e",
        "neuron_set": "concept",
        "value": 0.2,
        "low": 0.1,
        "high": 0.3,
    }
    rows = [row | {"p_change": p} for p in (0.01, 0.03, 0.5)] + [row | {"p_change": 0.001, "variant": "p"}]
    found = measure.with_adjusted(rows, {"e": "concept", "p": "watch"})
    assert [one["p_change_adjusted"] for one in found] == [pytest.approx(p) for p in slow.false_discovery([0.01, 0.03, 0.5])] + [None]
    assert [one["n_family"] for one in found] == [3, 3, 3, None]
    empty = row | {"p_change": 1.0, "value": 0.0, "low": 0.0, "high": 0.0}
    assert measure.with_adjusted([*rows, empty], {"e": "concept", "p": "watch"})[:-1] == found


def test_pruned_neurons_are_silent_and_watched_ones_are_others(finished):
    table = finished.neurons
    assert not (table["in_prune"] & table["in_watch"]).any() and table["in_prune"].sum() >= 1
    assert set(table.loc[table["in_prune"], "site"]) == {"ff"}


def test_a_run_gives_data_frames_and_every_format(finished):
    assert {"layer", "index", "site", "contrast_a"} <= set(finished.neurons) and len(finished.images) and len(finished.activity)
    for name in ("html", "md", "json", "csv"):
        assert finished.report(name).exists()
    with pytest.raises(RunError, match="Possible"):
        finished.report("pdf")


def test_concept_pictures_are_blurred_in_the_pixels(finished):
    from PIL import Image

    row = finished.images.query("blurred").iloc[0]
    shown = np.asarray(Image.open(finished.store.report_folder / row["path"]).convert("L"), float)
    node = next(n for n in finished.store.manifest()["nodes"] if n["id"] == f"generate:{row['variant']}:{row['prompt_set']}")
    from workbench.storage import read_arrays

    original = read_arrays(finished.store.path("generate", node["shards"][0]) / "images.safetensors")["images"][0].float().mean(0).numpy()
    assert np.abs(np.diff(shown)).mean() < 0.5 * np.abs(np.diff(original)).mean()


def test_pictures_of_a_harmless_concept_are_as_drawn_and_nothing_is_computed_again(finished, study_file, tmp_path):
    folder, touched = shutil.copytree(finished.folder, tmp_path / "harmless"), []
    study = workbench.load_study(study_file).with_values(["concept.sensitive=false"])
    run = workbench.run(study, folder, watcher=execute.Watcher(node=lambda node, done, of, note="": touched.append(node.id)))
    assert touched == [] and run.document["study"]["concept"]["sensitive"] is False
    assert finished.images["blurred"].any() and not run.images["blurred"].any()
    assert "sensitive" not in finished.document["study"]["concept"]


def test_running_again_computes_nothing_and_changes_no_number(finished, study_file):
    before, touched = tables_of(finished), []
    watcher = execute.Watcher(node=lambda node, done, of, note="": touched.append(node.id))
    again = workbench.run(study_file, finished.folder, watcher=watcher)
    assert touched == [] and tables_of(again) == before


def test_a_run_stopped_anywhere_resumes_to_the_same_numbers(finished, study_file, tmp_path):
    """Stopped in four stages, one after the other; each time it resumes with what it had."""
    todo = []
    for stop_at in ("erase:erased", "attack:embedding_pgd@erased", "record:pruned:target", "measure"):

        def stop(node, done, of, note="", stop_at=stop_at):
            if node.id == stop_at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            workbench.run(study_file, tmp_path / "r", watcher=execute.Watcher(start=todo.append, node=stop))
        status = read_json(tmp_path / "r" / "status.json")
        assert (status["state"], status["node"]) == ("stopped", stop_at)
    again = workbench.run(study_file, tmp_path / "r", watcher=execute.Watcher(start=todo.append))
    kept = [estimate.kept for estimate in todo]
    assert len(kept) == 5 and kept == sorted(set(kept)), "each start finds more results than the one before it"
    assert tables_of(again) == tables_of(finished)


def test_more_prompts_compute_only_the_missing_shards(study_file, tmp_path):
    small = workbench.load_study(study_file).with_values(["prompts.limit=4", "sampling.batch=2"])
    large = workbench.load_study(study_file).with_values(["sampling.batch=2"])
    plan, workspace = execute.prepare(small, tmp_path / "r")
    execute.run_nodes(workspace, [plan.node("generate:base:target")])
    plan, workspace = execute.prepare(large, tmp_path / "r")
    node = plan.node("generate:base:target")
    assert [workspace.store.has("generate", shard.key) for shard in node.shards] == [True, True, False]


def test_a_changed_seed_of_the_eraser_changes_only_what_follows_from_it(study_file):
    study = workbench.load_study(study_file)
    one, _ = execute.prepare(study)
    two, _ = execute.prepare(study.with_values(["variants.0.parameters.seed=1"]))
    changed = {node.id for node in one.nodes if node.key != two.node(node.id).key}
    assert "generate:erased:target" in changed and "generate:pruned:target" in changed
    assert not any(i.startswith(("generate:base:", "record:base:target", "record:base:reference")) for i in changed)


def test_two_processes_on_one_folder_are_refused(study_file, tmp_path):
    with Store(tmp_path / "r").lock(), pytest.raises(RunError, match="Another process"):
        workbench.run(study_file, tmp_path / "r")


def test_a_folder_of_another_layout_or_with_other_things_is_refused(study_file, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "manifest.json").write_text(json.dumps({"layout": 99, "nodes": []}))
    with pytest.raises(RunError, match="another version"):
        workbench.run(study_file, tmp_path / "old")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match="no run folder"):
        workbench.run(study_file, tmp_path / "other")
    assert (tmp_path / "other" / "letter.txt").read_text() == "dear"


def test_an_unknown_run_offers_the_nearest(tmp_path, monkeypatch, finished):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match='No run "tini"'):
        open_run("tini")


def test_waking_and_relocation_have_a_row_for_every_attack_on_every_changed_variant(finished):
    relocation, waking = finished.table("relocation"), finished.table("waking")
    conditions = {(v, a) for v in ("erased", "pruned") for a in ("embedding_pgd", "paraphrase")}
    assert set(zip(relocation.variant, relocation.attack, strict=True)) == conditions
    assert set(zip(waking.variant, waking.attack, strict=True)) == conditions
    assert set(waking[waking.variant == "pruned"].neuron_set) == {"watch"}
    for row in [*relocation.to_dict("records"), *waking.to_dict("records")]:
        assert np.isfinite(row["value"]) if row["reason"] is None else np.isnan(row["value"] or np.nan)


def test_a_run_says_whether_its_choice_of_neurons_holds_and_is_stable(finished):
    held, overlap, neurons = finished.table("selection"), finished.table("stability"), finished.neurons
    assert list(held["site"]) == ["ff", "update"] * 2 and set(held["n_chosen"] > 0) and (held["n"].dropna() == 3).all()
    assert list(overlap["over"])[:2] == ["halves", "repeated halves"] and set(overlap["over"]) >= {"seeds", "triggers", "scores"}
    assert {"attack embedding_pgd@erased", "attack paraphrase"} <= set(overlap["second"])
    chosen = neurons["in_concept"] | neurons["in_suppressed"]
    assert (neurons["confirmed"].notna() <= chosen).all() and (neurons["frequency"].notna() == (neurons["site"] == "ff")).all()
    for name in ("report.html", "report.md"):
        assert "Is the choice of neurons stable?" in (finished.store.report_folder / name).read_text(encoding="utf-8")


def test_the_report_of_a_real_run_shows_single_neurons(finished):
    table = finished.neurons
    assert {"score", "score_b", "kappa", "d_erased", "r_erased", "d_pruned", "r_pruned"} <= set(table)
    page = (finished.store.report_folder / "report.html").read_text()
    assert "Single neurons of erased" in page
    top = table.sort_values(["score", "layer", "index"], ascending=[False, True, True]).iloc[0]
    row = re.search(r'id="table-top".*?<tbody>(.*?)</tr>', page, re.S).group(1)
    assert top["layer"] in row and str(top["index"]) in row


def test_with_one_row_per_unit_every_number_is_that_of_plain_rows(finished, study_file):
    _, workspace = execute.prepare(study_file, finished.folder)
    units = workspace.prompt_set("target").units
    half = split_halves(units, workspace.study.choose.seed)
    assert workspace.units == units and (workspace.units_in_half_a() == workspace.half_a()).all() and (workspace.half_a() == half).all()
    for (variant, name), trajectory in ((c, t) for c in rates.generated(workspace) for t in workspace.study.record.trajectories):
        plain = workspace.mean_abs(variant, name, trajectory)
        assert np.array_equal(workspace.unit_means(name, plain), plain[[workspace.prompt_set(name).units.index(unit) for unit in units]])
    assert "place" not in workspace.prompt_set("target").table and "place" not in workspace.prompt_set("paraphrase").table
    for row in finished.document["rates"]:
        if row["definition"] in ("asr", "pre_asr", "asr_fail") or row["rate"] is None:
            continue
        found = workspace.detections(row["variant"], row["prompt_set"])["judge"]
        one = wilson(int(found.sum()), len(found))
        assert (row["rate"], row["low"], row["high"], row["n"], row["n_units"]) == (one.value, one.low, one.high, 6, 6)
    for row in finished.document["comparisons"]:
        if row["attack"] is None:
            sides = [workspace.detections(row[key], row["prompt_set"])["judge"].to_numpy() for key in ("variant_a", "variant_b")]
            plain = mcnemar(*sides)
            assert {key: row[key] for key in plain} == plain and row["p_permutation"] is None


def test_with_one_row_per_unit_effects_are_those_of_unaveraged_rows(finished, study_file):
    _, workspace = execute.prepare(study_file, finished.folder)
    for trajectory in workspace.study.record.trajectories:
        recorded = [(node.variant, node.prompt_set) for node in workspace.plan.of_stage("record")]
        values = {c: workspace.mean_abs(*c, trajectory)[~workspace.half_a()].mean(axis=1) for c in recorded}
        layer = finished.neurons["layer"].to_numpy()
        plain = Sensitivity(values, layer, workspace.study.choose.n_resamples, workspace.study.choose.seed)
        groups = measure.neuron_groups(finished.neurons)
        for row in finished.document["activity"]:
            members = groups.get((row["neuron_set"], row["site"]))
            if row["trajectory"] == trajectory and row["neuron_set"] in ("concept", "watch") and row["value"] is not None:
                found = plain.activity((row["variant"], row["prompt_set"]), members)
                assert (row["n"], row["value"], row["low"], row["high"]) == (found.n, found.value, found.low, found.high)


def test_every_page_opens_on_a_real_run(finished, monkeypatch):
    open_all(monkeypatch, finished.folder)
