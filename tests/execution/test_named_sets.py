"""Sets shared between studies: what one run exports another takes, describes, combines, prunes and takes out; and what cannot be."""

import shutil

import numpy as np
import pytest

import workbench
from tests import tiny
from workbench.analysis import ablation_effects
from workbench.analysis.one_step import OneStep
from workbench.errors import RecordingMismatch, RunError, StudyError
from workbench.execution import named_set_files
from workbench.execution.attribution_inputs import condition, rows_of
from workbench.execution.execute import prepare
from workbench.neurons import sites
from workbench.neurons.sets import NeuronSet
from workbench.report import document
from workbench.storage import read_json

MORE = """
[[variants]]
name = "cut"
method = "prune_neurons"
parent = "erased"
role = "pruned"
parameters = {{ set = "other" }}
[cluster]
k = 2
share = 0.08
n_resamples = 5
n_random = 19
[[sets]]
name = "rest"
difference = ["both", "cluster-0"]
[[sets]]
name = "other"
file = "{file}"
[[sets]]
name = "both"
union = ["concept", "other"]
[[sets]]
name = "nothing"
intersection = ["concept", "suppressed"]
[ablate]
modes = ["one_step", "images"]
effects = ["sets"]
[ablate.images]
groups = ["target"]
units = 2
"""


def second(study_file, file, name="second"):
    """A study file that takes a set from a file, and chooses its own neurons on other halves."""
    path = study_file.with_name(f"{name}.toml")
    text = study_file.read_text().replace('name = "tiny"', f'name = "{name}"').replace("[choose]", "[choose]\nseed = 1")
    variants, rest = text.split("[[attacks]]", 1)
    more = MORE.format(file=file).split("[cluster]")
    path.write_text(f"{variants}{more[0]}[[attacks]]{rest}[cluster]{more[1]}")
    return path


@pytest.fixture(scope="module")
def shared(finished):
    """The set that the first study exported."""
    return finished.store.report_folder / "neuron-sets" / "concept.safetensors"


@pytest.fixture(scope="module")
def ran(study_file, finished, shared, tmp_path_factory):
    """(run, workspace) of the study that takes it."""
    path = second(study_file, shared)
    run = workbench.run(path, tmp_path_factory.mktemp("second") / "r", others=[finished.folder])
    return run, prepare(path, run.folder)[1]


def rows_of_table(run, table, **wanted):
    return [row for row in run.document[table] if wanted.items() <= row.items()]


def test_a_run_exports_its_concept_set_with_where_it_comes_from(finished, shared):
    found, table = NeuronSet.load(shared), finished.neurons
    chosen = table[table["in_concept"] & (table["site"] == "ff")]
    assert {(layer, i) for layer, index in found.neurons.items() for i in index} == set(zip(chosen["layer"], chosen["index"], strict=True))
    about = found.provenance
    assert {"study": "tiny", "concept": "ink", "score": "contrast", "half": "a"}.items() <= about.items()
    assert about["widths"].keys() == found.neurons.keys() and len(about["chosen_on"]) == 3 and len(about["date"]) == 10
    names = {path.stem for path in shared.parent.iterdir()}
    assert {"concept", "suppressed", "concept-update"} <= names


def test_a_set_of_another_study_is_the_same_set_here(ran, shared):
    run, workspace = ran
    document.check(run.document)
    other = NeuronSet.load(shared)
    (row,) = rows_of_table(run, "sets", neuron_set="other")
    assert row["n_neurons"] == len(other) and row["digest"] == other.digest and row["how"] == "file"
    assert (row["study"], row["score"], row["half"]) == ("tiny", "contrast", "a") and row["date"] == other.provenance["date"]
    again = NeuronSet.load(run.store.report_folder / row["file"], workspace.model.digest(), workspace.neurons)
    assert again == other and np.array_equal(run.neurons["set_other"], other.to_boolean(workspace.neurons))
    assert sum(one["n"] for one in rows_of_table(run, "set_layers", neuron_set="other")) == len(other)


def test_units_that_chose_the_set_before_are_counted_and_told(ran, shared):
    run, workspace = ran
    before = {unit for unit, mine in zip(workspace.units, workbench_half(workspace, 0), strict=True) if mine}
    now = {unit for unit, mine in zip(workspace.units, workspace.units_in_half_a(), strict=True) if not mine}
    (row,) = rows_of_table(run, "sets", neuron_set="other")
    assert row["n_seen"] == len(before & now) > 0
    assert any("The set other was chosen on" in sentence for sentence in run.document["verdict"]["caveats"])


def workbench_half(workspace, seed):
    from workbench.statistics import split_halves

    return split_halves(workspace.units, seed)


def test_sets_of_sets_are_what_python_says(ran):
    run, _ = ran
    table = run.neurons
    concept, cluster = (table["in_concept"] & (table["site"] == "ff")).to_numpy(), (table["cluster"] == 0).to_numpy()
    assert np.array_equal(table["set_both"], concept | table["set_other"])
    assert np.array_equal(table["set_rest"], table["set_both"] & ~cluster)
    (row,) = rows_of_table(run, "sets", neuron_set="nothing")
    assert row["n_neurons"] == 0 and row["file"] is None and "no neuron" in row["reason"] and row["of"] == ["concept", "suppressed"]
    assert "set_nothing" not in table


def test_overlaps_stand_beside_chance_unless_one_is_made_of_the_other(ran):
    run, _ = ran
    concept, other = (run.neurons["in_concept"] & (run.neurons["site"] == "ff")).to_numpy(), run.neurons["set_other"].to_numpy()
    (row,) = rows_of_table(run, "set_overlaps", first="concept", second="other")
    assert row["iou"] == pytest.approx((concept & other).sum() / (concept | other).sum()) and row["both"] == (concept & other).sum()
    assert row["n_random"] == 999 and row["chance_low"] <= row["chance"] <= row["chance_high"] and row["reason"] is None
    for second_name in ("both", "rest"):
        (row,) = rows_of_table(run, "set_overlaps", first="concept", second=second_name)
        assert row["chance"] is None and "made from the other" in row["reason"] and row["iou"] > 0


def test_effects_of_a_set_are_those_of_a_cluster_with_the_same_neurons(ran):
    run, workspace = ran
    rows = rows_of_table(run, "set_effects", neuron_set="other")
    assert {row["effect"] for row in rows} == {"deactivation", "reactivation", "sensitivity"}
    assert {row["variant"] for row in rows} == {"erased"}, "pruned variants say nothing about what was pruned"
    members, half = run.neurons["set_other"].to_numpy(), ~workspace.units_in_half_a()
    base, plain, after = (
        workspace.unit_means(name, workspace.mean_abs(variant, name, "reference"))[half][:, :, members].mean(axis=1).sum(axis=1)
        for variant, name in (("base", "target"), ("base", "reference"), ("erased", "target"))
    )
    (row,) = [row for row in rows if row["effect"] == "deactivation"]
    if row["value"] is not None:
        assert row["value"] == pytest.approx((base - after).mean() / (base - plain).mean(), rel=1e-3) and row["n_random"] == 19
    else:
        assert "defines no scale" in row["reason"]


def test_each_set_is_taken_out_alone_beside_random_sets(ran):
    run, workspace = ran
    assert {row["neuron_set"] for row in run.document["set_ablation"]} == {"rest", "other", "both", "nothing"}
    with condition(workspace, "base", "target", rows_of(workspace, "b")) as (items, target):
        lab = OneStep(workspace.model, {"target": (items, target)})
        found = ablation_effects.alone(lab, run.neurons["set_other"].to_numpy(), workspace.neurons).iloc[0]
    (row,) = rows_of_table(run, "set_ablation", mode="one_step", neuron_set="other", group="target")
    for name in ("value", "intact", "low", "high", "random_low", "random_high", "n_neurons", "n_random"):
        assert row[name] == pytest.approx(found[name], abs=1e-4), name
    assert row["n_random"] == 50 and rows_of_table(run, "set_ablation", mode="one_step", neuron_set="other", group="near")
    images = rows_of_table(run, "set_ablation", mode="images", neuron_set="both")
    assert {"detected", "pixel_change"} <= {row["outcome"] for row in images} and {row["group"] for row in images} == {"target"}
    assert all("empty" in row["reason"] for row in rows_of_table(run, "set_ablation", neuron_set="nothing"))


def test_the_report_shows_them_and_exports_them_again(ran):
    run, _ = ran
    html, words = ((run.store.report_folder / f"report.{view}").read_text() for view in ("html", "md"))
    assert '<section id="neuron-sets">' in html and "## Neuron sets" in words and "Named sets, each ablated" in words
    names = {path.stem for path in (run.store.report_folder / "neuron-sets").iterdir()}
    assert {"concept", "other", "both", "rest", "cluster-0", "cluster-1"} <= names and "nothing" not in names
    both = NeuronSet.load(run.store.report_folder / "neuron-sets" / "both.safetensors")
    assert [part["provenance"]["study"] for part in both.provenance["of"]] == ["second", "tiny"]


def test_prune_neurons_cuts_a_named_set(ran, shared):
    run, workspace = ran
    cut = workspace.variant("cut").masks
    own = {f"unet.{layer.removesuffix('net.2')}net.0.proj.weight": index for layer, index in NeuronSet.load(shared).neurons.items()}
    assert {name for name in cut if name.endswith("weight")} == own.keys()
    for name, index in own.items():
        rows = np.flatnonzero(cut[name].any(dim=1).numpy())
        assert np.array_equal(rows, np.sort(np.concatenate([index, index + len(cut[name]) // 2])))
    assert "score" not in workspace.plan.node("erase:cut").inputs and "score" in workspace.plan.node("erase:pruned").inputs


def keys(plan):
    return {node.id: node.key for node in plan.nodes}


def test_keys_depend_on_what_is_in_a_file_and_not_on_where_it_is(study_file, shared, tmp_path):
    moved = tmp_path / "elsewhere.safetensors"
    shutil.copyfile(shared, moved)
    before, after = (keys(prepare(second(study_file, file, "keys"))[0]) for file in (shared, moved))
    assert before == after
    found = NeuronSet.load(shared)
    layer, index = next(iter(found.neurons.items()))
    NeuronSet(found.name, found.model, found.neurons | {layer: index[1:]}, found.provenance).save(moved)
    after = keys(prepare(second(study_file, moved, "keys"))[0])
    changed = {name for name in before if before[name] != after[name]}
    assert {"named_sets", "erase:cut", "ablate:one_step:sets:zero:other", "ablate:one_step:sets:zero:both"} <= changed
    assert not {"score", "erase:pruned", "cluster", "ablate:one_step:sets:zero:nothing"} & changed


def test_a_study_without_sets_keeps_its_keys(study_file, shared):
    study = workbench.load_study(second(study_file, shared, "more"))
    more = keys(prepare(study)[0])
    given = {name: value for name, value in study.model_dump(mode="json").items() if name not in ("sets", "ablate")}
    given["variants"] = [variant for variant in given["variants"] if variant["name"] != "cut"]
    less = type(study)(**given)
    less._path = study._path
    for name, key in keys(prepare(less)[0]).items():
        assert name in ("measure", "report") or more[name] == key


def test_a_file_that_changes_after_planning_is_noticed(study_file, shared, tmp_path):
    copy = tmp_path / "set.safetensors"
    shutil.copyfile(shared, copy)
    plan, workspace = prepare(second(study_file, copy, "changed"), tmp_path / "r")
    found = NeuronSet.load(copy)
    layer, index = next(iter(found.neurons.items()))
    NeuronSet(found.name, found.model, {layer: index[:1]}, found.provenance).save(copy)
    from workbench.execution.stages.named_sets import members

    node = plan.node("ablate:one_step:sets:zero:other")
    with pytest.raises(RunError, match='"other" has changed'):
        members(workspace, node.context["named"], "other", node.parameters["identity"])


def save(found, path, model=None, **about):
    NeuronSet("changed", model or found.model, found.neurons, found.provenance | about).save(path)
    return path


def test_a_set_of_another_model_is_refused_before_anything_runs(study_file, shared, tmp_path):
    tiny.pipeline(seed=7).save_pretrained(tmp_path / "other")
    study = workbench.load_study(second(study_file, shared, "wrong")).with_values([f'model.base="{tmp_path / "other"}"'])
    with pytest.raises(RecordingMismatch, match='The set "other" was made on another base model.*study tiny.*choose the neurons again'):
        prepare(study)
    lone = save(NeuronSet.load(shared), tmp_path / "lone.safetensors", "f" * 64, base_digest="e" * 64)
    with pytest.raises(RecordingMismatch, match="nothing across models"):
        prepare(second(study_file, lone, "wrong"))


def test_a_set_of_a_variant_of_the_same_base_fits_when_its_layers_do(study_file, shared, tmp_path):
    found = NeuronSet.load(shared)
    plan, workspace = prepare(second(study_file, save(found, tmp_path / "variant.safetensors", "f" * 64), "variant"))
    assert named_set_files.read(workspace.study)["other"].model == "f" * 64 and plan.node("named_sets")
    layer = next(iter(found.neurons))
    wide = save(found, tmp_path / "wide.safetensors", "f" * 64, widths=found.provenance["widths"] | {layer: 4096})
    with pytest.raises(RecordingMismatch, match="has 4096 neurons, that of this model"):
        prepare(second(study_file, wide, "variant"))
    NeuronSet("far", found.model, {layer: [99_999]}, {"made": "by hand"}).save(tmp_path / "far.safetensors")
    with pytest.raises(RecordingMismatch, match="neuron 99999 of the layer"):
        prepare(second(study_file, tmp_path / "far.safetensors", "variant"))
    NeuronSet("elsewhere", found.model, {"mid_block.resnets.0.conv1": [1]}, {"made": "by hand"}).save(tmp_path / "conv.safetensors")
    with pytest.raises(RecordingMismatch, match="add its site to the study"):
        prepare(second(study_file, tmp_path / "conv.safetensors", "variant"))


def test_neurons_of_the_text_encoder_cannot_be_taken_out(study_file, shared, tmp_path):
    _, workspace = prepare(study_file)
    layer = sites.layers(workspace.model.unet, ["text_mlp"], workspace.model.text_encoder)[0].path
    NeuronSet("words", NeuronSet.load(shared).model, {layer: [1]}, {"made": "by hand"}).save(tmp_path / "words.safetensors")
    study = workbench.load_study(second(study_file, tmp_path / "words.safetensors", "words"))
    with pytest.raises(StudyError, match="some in the text encoder"):
        prepare(study.with_values(['record.sites=["ff", "text_mlp"]']))


def test_the_run_folder_holds_the_tables_that_the_report_shows(ran):
    run, workspace = ran
    node = workspace.plan.node("named_sets")
    assert read_json(workspace.store.path("named_sets", node.shards[0].key) / "tables.json")["sets"] == run.document["sets"]
