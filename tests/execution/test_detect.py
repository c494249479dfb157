"""The stage `detect`: what its key knows of the detectors, what it remembers, and what follows in the tables of a run."""

import shutil

import numpy as np
import pandas
import pytest
import torch

import workbench
from tests.methods.test_detectors_image_classifier import CLASSES, classifier_folder
from workbench import resources
from workbench.analysis import quality
from workbench.errors import MethodError, ModelError
from workbench.execution import execute
from workbench.execution.method_code import detector_identity
from workbench.execution.run_folder import Store
from workbench.storage import read_arrays, read_json, read_table, write_arrays, write_json
from workbench.study.imports import ABOUT_VERSION, about_path

TABLES = ("budget", "detectors", "sweep", "quality")


def keys(study):
    """{node id: key} of a study's plan."""
    return {node.id: node.key for node in execute.prepare(study)[0].nodes}


def changed(before, after):
    """Ids of the nodes whose keys differ."""
    return {name for name in before if before[name] != after[name]}


def test_another_detector_file_gives_other_keys_of_what_it_judges_and_no_others(study_file, tmp_path, monkeypatch):
    study, data = workbench.load_study(study_file), tmp_path / "data"
    shutil.copytree(resources.folder("data") / "emoji", data / "emoji")
    real = resources.folder
    monkeypatch.setattr(resources, "folder", lambda name: data if name == "data" else real(name))
    before = keys(study)
    assert keys(study) == before
    file = shutil.copy(data / "emoji" / "detector-judge.safetensors", tmp_path / "kept")
    write_arrays(data / "emoji" / "detector-judge.safetensors", {name: value * 1.01 for name, value in read_arrays(file).items()})
    differ = changed(before, keys(study))
    looked_at = {name for name in before if name.startswith(("detect:", "attack:"))}
    assert looked_at | {"measure"} <= differ  # a search is steered by a detector, so it has to be done again
    assert not any(name.startswith(("erase:", "generate:base:target", "record:erased:target", "score")) for name in differ)


def test_another_threshold_of_a_bundled_detector_is_another_key(tmp_path, monkeypatch):
    data = tmp_path / "data"
    shutil.copytree(resources.folder("data") / "emoji", data / "emoji")
    real = resources.folder
    monkeypatch.setattr(resources, "folder", lambda name: data if name == "data" else real(name))
    before = detector_identity({"method": "emoji", "which": "judge"})
    card = read_json(data / "emoji" / "detectors.json")
    card["judge"]["thresholds"]["style:ink"] = 0.6
    write_json(data / "emoji" / "detectors.json", card)
    assert detector_identity({"method": "emoji", "which": "judge"}) != before
    assert detector_identity({"method": "emoji", "which": "judge"}) == detector_identity({"method": "emoji"})  # the default


def test_a_folder_named_by_a_parameter_is_digested_without_being_loaded(tmp_path, monkeypatch):
    from workbench.registry import Method

    folder = classifier_folder(tmp_path / "model", "resnet")
    given = {"method": "image_classifier", "model": str(folder)}
    monkeypatch.setattr(Method, "call", lambda *arguments: pytest.fail("the classifier was loaded"))
    before = detector_identity(given)
    assert detector_identity(given | {"k": 2}) != before == detector_identity(given)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    assert detector_identity(given) != before


def test_a_detector_that_is_not_there_is_told_before_work_begins(study_file, tmp_path):
    study = workbench.load_study(study_file)
    with pytest.raises(ModelError, match="config.json"):
        execute.prepare(study.with_values(['detectors.judge={ method = "image_classifier", model = "absent" }']), tmp_path / "r")
    with pytest.raises(MethodError, match="No detector"):
        detector_identity({"method": "emojis"})
    assert not (tmp_path / "r").exists()


def rooms(study, folder):
    """(plan, workspace) of a study whose base images of the targets and neighbours are made."""
    plan, workspace = execute.prepare(study, folder)
    for name in ("target", "near"):
        for shard in plan.node(f"generate:base:{name}").shards:
            if not workspace.store.has("generate", shard.key):
                with workspace.store.writing("generate", shard.key) as place:
                    workspace.run(plan.node(f"generate:base:{name}"), shard, place)
    return plan, workspace


def detect(plan, workspace, name):
    """Run the stage on one set; the data frame and the features."""
    node = plan.node(f"detect:base:{name}")
    for shard in node.shards:
        with workspace.store.writing("detect", shard.key) as place:
            workspace.run(node, shard, place)
    return workspace.detections("base", name), [workspace.store.path("detect", shard.key) / "features.safetensors" for shard in node.shards]


def test_each_retained_image_is_judged_for_its_own_label_and_its_features_are_kept(study_file, tmp_path):
    study = workbench.load_study(study_file)
    file = tmp_path / "near.csv"
    table = pandas.read_csv(study_file.parent / "near.csv")
    table["expect"] = ["style:fluent", "style:ink", "style:none", "object:owl", "object:none", "style:ink"]
    table.to_csv(file, index=False)
    plan, workspace = rooms(study.with_values([f'prompts.near="{file}"']), tmp_path / "r")
    found, features = detect(plan, workspace, "near")
    images = workspace.images("base", "near").float() / 255
    for role in ("steer", "judge"):
        one_by_one = [bool(workspace.detector(role).present(images[i : i + 1], [label])[0]) for i, label in enumerate(table["expect"])]
        assert found[f"{role}_expected"].tolist() == one_by_one
    kept = torch.cat([read_arrays(path)["features"] for path in features]).numpy()
    assert kept == pytest.approx(quality.features(workspace.detector("judge"), images), abs=1e-4) and np.ptp(kept) > 0
    assert not any(path.exists() for path in detect(plan, workspace, "target")[1])
    assert not (workspace.store.folder / "answers").exists()  # the bundled detectors look again


def test_a_dear_detector_looks_at_an_image_once_however_often_it_is_asked(study_file, tmp_path):
    folder = classifier_folder(tmp_path / "model", "resnet")
    first, second = CLASSES[0], CLASSES[1]
    judge = f'{{ method = "image_classifier", model = "{folder}" }}'
    near = tmp_path / "near.csv"
    near.write_text((study_file.parent / "near.csv").read_text().replace("style:fluent", f'"{first}"'))
    study = workbench.load_study(study_file).with_values(
        [f"detectors.judge={judge}", f"detectors.steer={judge}", f'detectors.labels=["{first}", "{second}"]', f'prompts.near="{near}"']
    )
    plan, workspace = rooms(study, tmp_path / "r")
    found, _ = detect(plan, workspace, "target")
    steer, judge = workspace.detector("steer", remembering=True), workspace.detector("judge", remembering=True)
    assert (steer.misses, judge.misses) == (6, 0) and judge.hits == 6 * 3
    images = workspace.images("base", "target").float() / 255
    assert found["judge"].tolist() == workspace.detector("judge").present(images, [first, second])[0].tolist()
    assert not hasattr(workspace.detector("judge"), "hits")  # attacks are given the detector itself
    again = rooms(study, tmp_path / "r")[1].detector("judge", remembering=True)
    again.present(images, [first])
    assert (again.hits, again.misses) == (6, 0)


@pytest.fixture(scope="module")
def measured(finished):
    """tables.json of the finished run."""
    node = next(node for node in finished.store.manifest()["nodes"] if node["id"] == "measure")
    return read_json(Store(finished.folder).path("measure", node["shards"][0]) / "tables.json")


def test_a_run_says_who_looked_at_which_threshold_what_it_cost_and_what_it_broke(measured):
    assert [row["role"] for row in measured["detectors"]] == ["steer", "judge"]
    base = next(row for row in measured["rates"] if row["definition"] == "false_positive")
    assert {key: measured["detectors"][1][key] for key in ("n", "successes", "rate")} == {
        key: base[key] for key in ("n", "successes", "rate")
    }
    for row in measured["rates"]:
        if row["definition"] in ("ceiling", "false_positive", "success_rate"):
            condition = {key: row[key] for key in ("variant", "prompt_set", "attack", "control")}
            (own,) = [other for other in measured["sweep"] if other["own"] and condition.items() <= other.items()]
            assert own["successes"] == row["successes"]
    assert {row["variant"] for row in measured["quality"]} == {"base", "erased", "pruned"}
    assert all(row["reason"] or row["low"] <= row["value"] <= row["high"] for row in measured["quality"])


def test_the_budget_of_a_run_is_that_of_its_log(finished, measured):
    rows = measured["budget"]
    assert {(row["variant"], row["attack"], row["provenance"]) for row in rows} == {("erased", "embedding_pgd", "optimised")}
    assert {row["control"] for row in rows} == {False, True}
    node = next(node for node in finished.store.manifest()["nodes"] if node["id"] == "attack:embedding_pgd@erased")
    log = read_table(finished.store.path("attack", node["shards"][0]) / "log.parquet")
    for control, name in ((False, "attack"), (True, "control")):
        mine = [row for row in rows if row["control"] is control]
        looks = log[(log["of"] == name) & log["found"].notna()]
        assert mine[-1]["successes"] == looks.groupby("id")["found"].any().sum() and mine[-1]["n"] == 6
        assert max(row["looks"] for row in mine) == looks["id"].value_counts().max() <= 2
    assert {row["budget"] for row in rows} == set(log.loc[log["found"].notna(), "passes"])


def test_every_table_that_was_measured_is_in_the_report(finished, measured):
    for table in TABLES:
        told = finished.document[table]
        assert (
            measured[table] and [{key: row[key] for key in one} for row, one in zip(told, measured[table], strict=True)] == measured[table]
        )


@pytest.mark.parametrize(
    ("about", "against", "provenance"),
    [
        ({"provenance": "transferred", "against": "sd-other"}, "sd-other (another model)", "transferred"),
        ({"provenance": "static", "against": None}, None, "static"),
    ],
)
def test_prompts_made_elsewhere_are_in_the_neuron_table_with_their_provenance(study_file, finished, tmp_path, about, against, provenance):
    folder = shutil.copytree(study_file.parent, tmp_path / "study")
    target = pandas.read_csv(folder / "target.csv")
    target.assign(prompt=["noto " + prompt for prompt in target["prompt"]])[["unit", "prompt"]].to_csv(folder / "given.csv", index=False)
    write_json(about_path(folder / "given.csv"), {"schema_version": ABOUT_VERSION, "kind": "prompts"} | about)
    study = workbench.load_study(folder / study_file.name).with_values(
        [
            'attacks=[{ method = "from_file", parameters = { file = "given.csv" } }]',
            'record.sites=["ff"]',
            'record.trajectories=["reference"]',
        ]
    )
    run = workbench.run(study, tmp_path / "r", others=[finished.folder])
    rows = [row for row in run.document["neurons"] if row["attack"] == "from_file"]
    assert {row["variant"] for row in rows} == {"erased", "pruned"} and {"concept", "random"} <= {row["neuron_set"] for row in rows}
    assert {(row["provenance"], row["against"]) for row in rows} == {(provenance, against)}
    name = f"from_file@{against}" if against else "from_file"
    table = run.neurons
    for variant in ("erased", "pruned"):
        assert np.isfinite(table[f"delta_{variant}_reference_{name}"]).any()
        headline = table[f"r_{variant}"].dropna()
        assert headline.equals(table.loc[headline.index, f"r_{variant}_reference_{name}"].rename(f"r_{variant}"))
