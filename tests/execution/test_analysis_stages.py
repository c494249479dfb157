"""A whole tiny study that asks for attribution, clusters and ablation: its report, and the same numbers from the library."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import workbench
from tests.pages.opening import open_all
from tests.tiny_study import before
from workbench.analysis import ablation_effects, attribution, cluster_description, cluster_features, cluster_stability
from workbench.analysis.ablation import Ablation
from workbench.analysis.conductance import conductance
from workbench.analysis.one_step import OneStep
from workbench.analysis.regions import record_maps, regions
from workbench.diffusion.targets import Items, Linear
from workbench.errors import RecordingMismatch, StudyError
from workbench.execution.cost import estimate
from workbench.execution.execute import prepare, run_nodes
from workbench.execution.rows import region_pictures
from workbench.execution.stages import attribute, fidelity
from workbench.execution.stages import regions as region_stage
from workbench.models import text
from workbench.models.variants import applied, base_again
from workbench.neurons.maps import TokenMaps
from workbench.neurons.sets import NeuronSet, by_layer
from workbench.neurons.sites import layers
from workbench.report import document
from workbench.report import region_pictures as pictures_of
from workbench.report.section import found
from workbench.report.sections.clusters import REGION_PICTURES
from workbench.report.table import names
from workbench.statistics import split_halves, unit_means
from workbench.storage import read_arrays, read_json

MORE = """
[attribute]
methods = ["gradient", "curvature"]
prompt_sets = ["target", "embedding_pgd@erased"]
variants = ["base", "erased"]
tokens = 2
conductance = true
[cluster]
k = [2, 3]
share = 0.08
n_resamples = 5
n_random = 19
regions = 1
[ablate]
modes = ["one_step", "images"]
effects = ["dose_response", "leave_one_out", "greedy", "shapley", "necessity", "sufficiency"]
shares = [0.02]
variants = ["erased"]
n_held = 19
[ablate.images]
effects = ["dose_response", "necessity"]
kinds = ["mean"]
units = 2
"""
OPTIONAL = [table.name for name in ("attribution", "clusters", "neuron_sets", "ablation") for table in found()[name].tables]


@pytest.fixture(scope="module")
def asked(study_file):
    """The study file with the three tables."""
    path = study_file.with_name("asked.toml")
    path.write_text(study_file.read_text() + MORE)
    return path


@pytest.fixture(scope="module")
def ran(asked, finished, tmp_path_factory):
    """(run, workspace) of the study; what the study without the three tables has of it is taken from there."""
    run = workbench.run(asked, tmp_path_factory.mktemp("asked") / "r", others=[finished.folder])
    return run, prepare(asked, run.folder)[1]


def half_of(workspace, wanted):
    """Row numbers of the target set in half "a" or "b"."""
    inside = split_halves(workspace.prompt_set("target").units, workspace.study.choose.seed)
    return np.flatnonzero(inside == (wanted == "a"))


def items_of(workspace, variant, rows, prompts=None):
    """(Items, target T2) of some rows, put together by hand."""
    model = workspace.model
    sets = {name: workspace.prompt_set(name).picked(rows) for name in ("target", "reference")}
    own = {name: parameter.data for name, parameter in model.parameters().items()}
    with torch.no_grad():
        base = [text.encode(model, sets[name].prompts) for name in ("target", "reference")]
        with applied(model, workspace.variant(variant)):
            shown = prompts or sets["target"]
            states = text.encode(model, shown.prompts, shown.prefix)
            reference = text.encode(model, sets["reference"].prompts)
    target = Linear(reference, *base, base=lambda: base_again(model, own))
    return Items(workspace.trajectory("target", sets["target"]), states, sets["target"].units), target


def rows_of(run, table, **wanted):
    return [row for row in run.document[table] if wanted.items() <= row.items()]


def test_the_report_has_every_table_and_section_and_fits_its_schema(ran):
    run, _ = ran
    document.check(run.document)
    not_asked = {"fidelity", *(table for table in OPTIONAL if table.startswith("set"))}
    for table in OPTIONAL:
        assert bool(run.document[table]) == (table not in not_asked), table
    html, words = ((run.store.report_folder / f"report.{view}").read_text() for view in ("html", "md"))
    for heading, section in (("What carries the concept", "attribution"), ("Clusters", "clusters"), ("Ablation", "ablation")):
        assert f'<section id="{section}">' in html and f"## {heading}" in words


def test_a_study_that_asks_for_nothing_has_no_such_section_and_its_nodes_keep_their_keys(study_file, asked):
    plain, more = (prepare(path)[0] for path in (study_file, asked))
    assert {node.stage for node in more.nodes} - {node.stage for node in plain.nodes} == {
        "attribute",
        "conductance",
        "tokens",
        "cluster",
        "regions",
        "ablate",
    }
    for node in plain.nodes:
        if node.stage not in ("measure", "report"):
            assert node.key == more.node(node.id).key
    said = workbench.load_study(study_file).model_dump(mode="json")
    assert not {"attribute", "cluster", "ablate"} & set(said)


def test_attributions_are_those_of_the_library_on_each_half(ran):
    run, workspace = ran
    own = layers(workspace.model.unet, ["ff"])
    ff = (run.neurons["site"] == "ff").to_numpy()
    for half in "ab":
        items, target = items_of(workspace, "base", half_of(workspace, half))
        made = attribution.attribute(workspace.model, own, items, target, "gradient")
        column = f"attribution_gradient_base_target_{half}"
        assert np.allclose(run.neurons.loc[ff, column], made.scores["value"], atol=1e-5) and run.neurons.loc[~ff, column].isna().all()
    (row,) = rows_of(run, "attribution", variant="base", prompt_set="target", method="gradient")
    assert row["value"] == pytest.approx(1) and row["n"] == 3 and row["target"] == "T2 J_lin"
    assert row["delta"] == pytest.approx(row["explained"] - (row["value"] - row["off"]), abs=1e-5)
    concept = run.neurons.loc[ff, "in_concept"].to_numpy()
    assert row["credit"] == pytest.approx(made.scores["value"][concept].sum(), abs=1e-5)
    prompts = workspace.prompt_set("embedding_pgd@erased").picked(half_of(workspace, "b"))
    items, target = items_of(workspace, "erased", half_of(workspace, "b"), prompts)
    with applied(workspace.model, workspace.variant("erased")):
        made = attribution.attribute(workspace.model, own, items, target, "gradient")
    (row,) = rows_of(run, "attribution", variant="erased", prompt_set="embedding_pgd@erased", method="gradient")
    assert row["provenance"] == "optimised" and row["value"] == pytest.approx(made.items["value"].mean(), abs=1e-4)


def test_conductance_stands_beside_the_methods_and_changes_nothing_that_is_made_from_them(ran, asked):
    run, workspace = ran
    own, ff = layers(workspace.model.unet, ["ff"]), (run.neurons["site"] == "ff").to_numpy()
    with torch.no_grad():
        empty = text.unconditional(workspace.model)
    for half in "ab":
        items, target = items_of(workspace, "base", half_of(workspace, half))
        made = conductance(workspace.model, own, items, target, empty)
        column = run.neurons[f"attribution_conductance_base_target_{half}"]
        assert np.allclose(column[ff], made.scores["value"], atol=1e-5) and column[~ff].isna().all()
    (row,) = rows_of(run, "attribution", variant="base", prompt_set="target", method="conductance")
    assert row["value"] == pytest.approx(1, abs=1e-5) and row["n_random"] == 19 and row["n"] == 3
    assert row["off"] == pytest.approx(0, abs=1e-5) and row["explained"] == pytest.approx(1, abs=0.02) and row["complete"]
    concept = run.neurons.loc[ff, "in_concept"].to_numpy()
    assert row["credit"] == pytest.approx(made.scores["value"][concept].sum(), abs=1e-5)
    assert len(rows_of(run, "attribution", method="conductance")) == 4
    without = prepare(workbench.load_study(asked).with_values(["attribute.conductance=false"]))[0]
    assert [node.id for node in workspace.plan.nodes if node.key not in {one.key for one in without.nodes}] == [
        *(f"conductance:{v}:{s}" for v in ("base", "erased") for s in ("target", "embedding_pgd@erased")),
        "measure",
        "report",
    ]


def test_clusters_are_made_on_half_a_described_on_half_b_and_saved_as_neuron_sets(ran):
    run, workspace = ran
    table = run.neurons
    assert table.loc[table["in_concept"] & (table["site"] == "ff"), "cluster"].notna().all()
    assert table["cluster"].notna().sum() > table["in_concept"].sum() and set(table.loc[table["cluster"].notna(), "site"]) == {"ff"}
    saved = sorted((run.store.report_folder / "neuron-sets").glob("cluster-*"))
    assert [f"neuron-sets/{path.name}" for path in saved] == [row["file"] for row in run.document["clusters"]]
    for number, path in enumerate(saved):
        group = NeuronSet.load(path, model=workspace.model.digest(), index=workspace.neurons)
        assert np.array_equal(group.to_boolean(workspace.neurons), table["cluster"] == number)
        assert group.provenance["half"] == "a" and group.provenance["study"] == workspace.study.name
    (taken,) = [row for row in run.document["cluster_choice"] if row["chosen"]]
    assert {row["k"] for row in run.document["cluster_choice"]} == {2, 3} and taken["n_clusters"] == len(saved)
    assert (taken["reason"] is None) == (taken["stable"] and taken["grouped"])

    half = workspace.units_in_half_a()
    conditions = workspace.plan.node("cluster").parameters["conditions"]
    values = {tuple(c): unit_means(workspace.prompt_set("target").units, workspace.mean_abs(*c, "reference")) for c in conditions}
    names = {f"{v} x {s}": f"attribution_gradient_{v}_{s}_a" for v in ("base", "erased") for s in ("target", "embedding_pgd@erased")}
    credit = {name: np.nan_to_num(table[column].to_numpy(float)) for name, column in names.items()}
    made = cluster_features.features({c: v[half] for c, v in values.items()}, workspace.neurons, table["cluster"].notna(), credit)
    found = cluster_stability.stability(lambda w: made, int(half.sum()), "kmeans", taken["k"], n_resamples=5)
    assert np.array_equal(found.labels, table["cluster"].to_numpy()[made.position])
    profiles = cluster_description.profiles(found.labels, made, {c: v[~half] for c, v in values.items()}, [0, 2])
    for row in run.document["cluster_profiles"]:
        keys = ("cluster", "variant", "prompt_set", "call")
        here = profiles[np.all([profiles[key] == row[key] for key in keys], axis=0)]
        assert row["value"] == pytest.approx(here["value"].item(), rel=1e-4, abs=1e-5)


def test_regions_are_those_of_the_library_on_the_units_that_excite_a_cluster_most(ran):
    run, workspace = ran
    rows, saved = rows_of(run, "cluster_regions"), read_arrays(workspace.result("regions") / "maps.safetensors")
    n_clusters = len(run.document["clusters"])
    assert {(row["variant"], row["prompt_set"]) for row in rows} == {("base", "target"), ("erased", "embedding_pgd@erased")}
    assert len(rows) == 2 * n_clusters == len(saved) and {row["n_random"] for row in rows} == {19}
    top = {(row["cluster"], row["unit"]) for row in rows_of(run, "cluster_prompts", variant="base", prompt_set="target", rank=1)}
    assert {(row["cluster"], row["unit"]) for row in rows if row["variant"] == "base"} == top
    row, own = rows[0], layers(workspace.model.unet, ["ff"])
    prompts = workspace.prompt_set("target").picked([list(workspace.prompt_set("target").units).index(row["unit"])])
    with torch.no_grad():
        states = text.encode(workspace.model, prompts.prompts)
    group = {row["cluster"]: NeuronSet.load(run.store.report_folder / f"neuron-sets/cluster-{row['cluster']}.safetensors")}
    recorded = record_maps(workspace.model, states, workspace.trajectory("target", prompts), own, group[row["cluster"]].neurons)
    found, pictures = regions(recorded, group, workspace.model.latent_shape[-2:], workspace.model.latent_shape[-2:])
    assert row["share"] == pytest.approx(found["share_in_brightest_tenth"].item(), abs=1e-4)
    kept = saved[f"{row['cluster']}|base|target|1"].float()
    assert torch.allclose(kept, pictures[row["cluster"]][0], rtol=2e-3, atol=2e-3)


def test_maps_lie_over_the_image_the_neurons_were_shown_hidden_unless_asked_for(ran, tmp_path):
    run, workspace = ran
    units, pixels = list(workspace.prompt_set("target").units), workspace.images("base", "target")
    rows = rows_of(run, "cluster_regions")
    for row in rows:
        assert row["blurred"] and row["top"] >= 2 and row["place"] and row["picture_reason"] is None
        assert (row["drawn"] is None) == (row["variant"] == "base")
        for name in ("drawn", "read_on", "overlay"):
            assert row[name] is None or (run.store.report_folder / row[name]).is_file()
    measured = [{key: value for key, value in row.items() if key not in names(REGION_PICTURES)} for row in rows]
    shown = region_pictures.with_pictures(workspace, measured, tmp_path, reveal=True)
    assert not {row["overlay"] for row in shown} & {row["overlay"] for row in rows} and not any(row["blurred"] for row in shown)
    maps = read_arrays(workspace.result("regions") / "maps.safetensors")
    for row in shown:
        base = Image.fromarray(pixels[units.index(row["unit"])].permute(1, 2, 0).numpy())
        level = maps[f"{row['cluster']}|{row['variant']}|{row['prompt_set']}|1"].float().numpy()
        assert (tmp_path / row["overlay"]).read_bytes() == pictures_of.webp(pictures_of.overlay(base, level, row["top"]))
        assert (tmp_path / row["read_on"]).read_bytes() == pictures_of.webp(pictures_of.small(base))
    hidden = region_pictures.with_pictures(workspace, measured, tmp_path, reveal=False)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.webp")}
    assert left == {row[name] for row in hidden for name in ("drawn", "read_on", "overlay") if row[name]}  # no clear one stays


def test_an_image_the_study_did_not_draw_is_said_not_invented(ran, tmp_path, monkeypatch):
    run, workspace = ran
    monkeypatch.setattr(
        region_pictures, "_image", lambda workspace, variant, name, place: None if variant != "base" else Image.new("RGB", (16, 16))
    )
    rows = region_pictures.with_pictures(workspace, rows_of(run, "cluster_regions"), tmp_path, False)
    assert all(row["drawn"] is None and row["picture_reason"] == region_pictures.NOT_DRAWN for row in rows if row["variant"] != "base")
    monkeypatch.setattr(region_pictures, "_image", lambda workspace, variant, name, place: None)
    rows = region_pictures.with_pictures(workspace, rows_of(run, "cluster_regions"), tmp_path, False)
    assert all(row["overlay"] is None and row["picture_reason"] == region_pictures.NOT_DRAWN for row in rows)


def test_a_cluster_that_is_silent_on_a_prompt_has_no_region_and_says_so(ran, tmp_path, monkeypatch):
    def silent(self, latent, size):
        raise RecordingMismatch("Every neuron of the set is 0 on these prompts; there is no map to draw.")

    _, workspace = ran
    node = workspace.plan.node("regions")
    monkeypatch.setattr(TokenMaps, "images", silent)
    region_stage.run(workspace, node, node.shards[0], tmp_path)
    rows = read_json(tmp_path / "rows.json")
    assert rows and all(row["share"] is None and row["n_random"] is None and "is 0" in row["reason"] for row in rows)


def test_one_step_ablations_are_those_of_the_library(ran):
    run, workspace = ran
    groups = {"target": items_of(workspace, "base", half_of(workspace, "b"))}
    score, ff = run.neurons["score"].to_numpy(), (run.neurons["site"] == "ff").to_numpy()
    alone = OneStep(workspace.model, groups)
    found = ablation_effects.dose_response(alone, score, workspace.neurons, shares=[0.02], n_random=50, within=ff)
    (row,) = rows_of(run, "ablation", mode="one_step", group="target")
    for name in ("value", "intact", "low", "high", "random_mean", "random_low", "random_high", "n_neurons"):
        assert row[name] == pytest.approx(found[name].item(), abs=1e-4), name
    (near,) = rows_of(run, "ablation", mode="one_step", group="near")
    assert near["intact"] == pytest.approx(1, abs=1e-4) and near["outcome"] == "T2 J_lin over the empty prompt"
    clusters = {
        f"cluster {n}": (run.neurons["cluster"] == n).to_numpy() for n in sorted(run.neurons["cluster"].dropna().unique().astype(int))
    }
    found = ablation_effects.leave_one_out(alone, clusters, workspace.neurons, n_random=50).set_index("cluster")
    for row in rows_of(run, "leave_one_out", group="target"):
        assert row["value"] == pytest.approx(found.loc[row["cluster"], "value"], abs=1e-4)
    found = ablation_effects.shapley(alone, clusters, workspace.neurons).set_index("cluster")
    rows = rows_of(run, "shapley")
    assert len(rows) == len(clusters) and {row["n_random"] for row in rows} == {19} and {row["n_orders"] for row in rows} == {None}
    for row in rows:
        for name in ("value", "low", "high", "whole", "random_mean", "random_low"):
            assert row[name] == pytest.approx(found.loc[row["cluster"], name], abs=1e-4), name
    assert sum(row["value"] for row in rows) == pytest.approx(rows[0]["whole"], abs=1e-6)
    order = [row["added"] for row in rows_of(run, "greedy", mode="one_step")]
    assert sorted(order) == sorted(clusters)


def test_necessity_holds_the_concept_set_at_its_values_without_the_attack(ran):
    run, workspace = ran
    rows, concept = half_of(workspace, "b"), run.neurons["in_concept"].to_numpy() & (run.neurons["site"] == "ff").to_numpy()
    attacked = workspace.prompt_set("embedding_pgd@erased").picked(rows)
    groups = {"plain": items_of(workspace, "erased", rows), "attacked": items_of(workspace, "erased", rows, attacked)}
    lab = OneStep(workspace.model, groups, workspace.variant("erased"))
    source = lab.record("plain", by_layer(workspace.neurons, concept))
    lab.groups = {"attacked": groups["attacked"]}
    (reading,) = lab([Ablation(by_layer(workspace.neurons, concept), "held", source=source)])
    (row,) = rows_of(run, "necessity", mode="one_step")
    assert row["value"] == pytest.approx(reading.change(0).mean(), abs=1e-4) and row["attack"] == "embedding_pgd" and row["n_random"] == 19
    (row,) = rows_of(run, "sufficiency", mode="one_step")
    assert row["variant"] == "erased" and row["group"] == "target"
    outcomes = {row["outcome"] for row in rows_of(run, "ablation", mode="images", group="near")}
    assert {"detected", "pixel_change"} <= outcomes


def test_a_killed_ablation_goes_on_where_it_was_to_the_same_numbers(ran, asked, tmp_path):
    run, workspace = ran
    _, again = prepare(asked, tmp_path / "r")
    node = again.plan.node("ablate:one_step:dose_response:zero")
    steps = []

    def stop(step, of, note=""):
        steps.append(step)
        if len(steps) == 2:
            raise KeyboardInterrupt

    run_nodes(again, before(again.plan, node), others=[run.folder])
    with pytest.raises(KeyboardInterrupt), again.store.writing("ablate", node.shards[0].key) as folder:
        again.progress = stop
        again.run(node, node.shards[0], folder)
    assert again.store.kept_search("ablate", node.shards[0].key, "readings-0") is not None
    again.progress = lambda step, of, note="": steps.append(step)
    with again.store.writing("ablate", node.shards[0].key) as folder:
        again.run(node, node.shards[0], folder)
    assert steps == [20, 40, 51]
    first, second = (json.loads((one.store.path("ablate", node.shards[0].key) / "rows.json").read_text()) for one in (workspace, again))
    assert first[0]["value"] == pytest.approx(second[0]["value"], abs=1e-6) and first[0]["p"] == second[0]["p"]


def test_the_dry_run_says_what_it_costs(asked, tmp_path):
    plan, workspace = prepare(asked, tmp_path / "r")
    rows = {row["stage"]: row for row in estimate(plan, workspace).rows}
    assert rows["attribute"]["passes"] > 0 and rows["ablate"]["passes"] > rows["attribute"]["passes"] and rows["cluster"]["seconds"] > 0


def test_prompt_sets_and_calls_that_are_not_there_are_told_before_anything_runs(asked):
    study = workbench.load_study(asked)
    with pytest.raises(StudyError, match='Did you mean "embedding_pgd@erased"'):
        prepare(study.with_values(['attribute.prompt_sets=["target", "embedding_pgd@erase"]']))
    with pytest.raises(StudyError, match="not recorded"):
        study.with_values(["attribute.calls=[1]"])


def only(run, asked, folder, node_id, *values):
    """The workspace of the study with other values, in which one node was computed on what the run has of its inputs."""
    study = workbench.load_study(asked).with_values(list(values))
    _, workspace = prepare(study, folder)
    node = workspace.plan.node(node_id)
    run_nodes(workspace, [*before(workspace.plan, node), node], others=[run.folder])
    return workspace, node


@pytest.mark.parametrize(("target", "name"), [("T1", "T1 J_quad"), ("T3", "T3 J_den"), ("T4", "T4 J_det")])
def test_every_other_target_is_attributed_and_named(ran, asked, tmp_path, target, name):
    values = [f'attribute.target="{target}"', 'attribute.methods=["gradient"]']
    workspace, node = only(ran[0], asked, tmp_path / "r", "attribute:base:target", *values)
    one = attribute.found(workspace, "base", "target", "gradient", "b")
    assert one.about["target"] == name and np.isfinite(one.value).all() and set(one.about["calls"]) <= {0, 2}
    # the detector sees no difference between images that the tiny autoencoder decodes
    assert target == "T4" or np.abs(one.value).max() > 0


def test_fidelity_compares_with_exact_ablation(ran, asked, tmp_path, monkeypatch):
    for number, size in (("SAMPLE", 6), ("TOP", 3), ("N_SETS", 4)):
        monkeypatch.setattr(fidelity, number, size)
    workspace, _ = only(ran[0], asked, tmp_path / "r", "fidelity:base:target", "attribute.fidelity=true", "attribute.tokens=0")
    rows = fidelity.rows(workspace, None)["fidelity"]
    assert {(row["method"], row["where"]) for row in rows} == {(m, w) for m in ("gradient", "curvature") for w in ("sample", "top", "sets")}
    assert {row["n"] for row in rows if row["where"] == "sample"} == {6} and {row["n"] for row in rows if row["where"] == "sets"} == {4}
    assert all(-1 <= row["spearman"] <= 1 and row["target"] == "T2 J_lin" for row in rows)


def test_words_are_told_apart_by_where_they_come_from(ran):
    run, _ = ran
    rows = rows_of(run, "tokens")
    assert {row["rank"] for row in rows} == {1, 2}
    plain = {row["part"]: row["words"] for row in rows if row["prompt_set"] == "target" and row["rank"] == 1}
    assert plain["concept"] == "ink" and "owl" in plain["plain"] and "added" not in plain
    attacked = {row["part"]: row["words"] for row in rows if row["attack"] and row["rank"] == 1}
    assert "vector" in attacked["added"]
    leading = run.neurons["attribution"].idxmax()
    assert (rows[0]["layer"], rows[0]["index"]) == tuple(run.neurons.loc[leading, ["layer", "index"]])


def test_every_page_opens_on_a_run_with_clusters_regions_and_ablations(ran, monkeypatch):
    open_all(monkeypatch, ran[0].folder)
