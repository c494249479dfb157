"""Variants that defend themselves at inference go through a whole run: what is recorded, who corrects, and which attack is adaptive."""

import csv

import pytest
import torch

import workbench
from tests.tiny_study import made_again, written
from workbench.errors import ModelError
from workbench.execution import execute, preflight
from workbench.execution.export import export
from workbench.execution.rows import defences
from workbench.models.changes import safree
from workbench.report import document
from workbench.storage import read_arrays

DEFENDED = """
[[variants]]
name = "safe"
method = "safree"
parameters = { concept = "ink, ink style", up_t = 40 }
[[variants]]
name = "corrected"
method = "concept_corrector"
parent = "erased"
parameters = { concept = "ink style", replacement = "water colour", looks = [0.0, 0.5] }
[[attacks]]
method = "embedding_pgd"
name = "through"
against = ["safe", "corrected"]
parameters = { iterations = 2, looks = 0 }
"""


@pytest.fixture(scope="module")
def study_of_defences(tmp_path_factory, tiny_folder):
    """The tiny study with a prompt transform and a corrector."""
    path = written(tmp_path_factory.mktemp("defences"), tiny_folder)
    text = path.read_text().replace("[[attacks]]", f"{DEFENDED}[[attacks]]", 1)
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def run(study_of_defences, finished, tmp_path_factory):
    return workbench.run(workbench.load_study(study_of_defences), tmp_path_factory.mktemp("runs") / "defences", others=[finished.folder])


def arrays(run, node, name):
    (shards,) = [one["shards"] for one in run.store.manifest()["nodes"] if one["id"] == node]
    return [read_arrays(run.store.file(node.split(":")[0], shard, f"{name}.safetensors")) for shard in shards]


def test_recorded_activity_changes_under_a_transform_and_not_under_a_corrector(run):
    differs = {}
    for own, parent in (("safe", "base"), ("corrected", "erased")):
        pairs = zip(arrays(run, f"record:{own}:target", "reference"), arrays(run, f"record:{parent}:target", "reference"), strict=True)
        differs[own] = any(not torch.equal(a[name], b[name]) for a, b in pairs for name in a if name.endswith("|mean_abs"))
    assert differs == {"safe": True, "corrected": False}


def test_rates_say_which_attack_is_adaptive(run):
    rates = run.table("rates")
    made = rates[rates["attack"].notna() & ~rates["control"].astype(bool)]
    said = {(row.variant, row.attack, row.against): row.adaptive for row in made.itertuples() if row.adaptive is not None}
    assert said["safe", "through", "safe"] is True and said["corrected", "through", "corrected"] is False
    assert {key[0] for key, value in said.items() if value in (True, False)} == {"safe", "corrected"}
    assert all(value is False for key, value in said.items() if key[1:] != ("through", "safe") and value in (True, False))
    with (run.folder / "report" / "tables" / "rates.csv").open() as file:
        cells = {(row["variant"], row["attack"], row["adaptive"]) for row in csv.DictReader(file) if row["control"] == "false"}
    assert ("safe", "through", "true") in cells and ("corrected", "through", "false") in cells and ("base", "", "") in cells
    page = (run.folder / "report" / "report.html").read_text()
    assert "optimised against it, adaptive" in page and "optimised against it, not adaptive" in page


def test_interventions_are_counted_and_false_ones_told(run):
    rows = {row["prompt_set"]: row for row in document.load(run.folder / "report")["corrections"]}
    assert {row["variant"] for row in rows.values()} == {"corrected"} and {"target", "reference", "near"} <= rows.keys()
    for name, row in rows.items():
        calls = torch.cat([one["calls"] for one in arrays(run, f"generate:corrected:{name}", "corrected")])
        assert row["successes"] == int((calls >= 0).sum()) and row["n"] == len(calls)
        assert row["without_concept"] == (name in ("reference", "near", "far"))
    false = [row for row in rows.values() if row["without_concept"]]
    told = f"corrected corrected {sum(r['successes'] for r in false)} of {sum(r['n'] for r in false)} images"
    assert any(told in caveat for caveat in document.load(run.folder / "report")["verdict"]["caveats"])
    assert (run.folder / "report" / "tables" / "corrections.csv").is_file()


def test_the_corrector_acts_where_the_attack_visible_detector_sees_the_concept(study_of_defences, tmp_path):
    """The same study, corrected in a workspace whose detector sees it everywhere."""
    plan, workspace = execute.prepare(workbench.load_study(study_of_defences), tmp_path / "other")
    asked = []

    class Everywhere:
        def present(self, images, labels):
            asked.append(labels)
            return torch.ones(len(images), dtype=torch.bool), torch.ones(len(images))

    workspace.model.detectors = lambda given: asked.append(given) or Everywhere()
    nodes = ["generate:base:target", "erase:erased", "erase:corrected", "generate:erased:target", "generate:corrected:target"]
    chosen = [node for node in workspace.plan.nodes if node.id in nodes]
    execute.run_nodes(workspace, chosen)
    calls = torch.cat(workspace.gather("generate", "corrected", "target", lambda f: read_arrays(f / "corrected.safetensors")["calls"]))
    assert asked[0] == workspace.given_detector("steer") and (calls == 1).all()
    assert not torch.equal(workspace.images("corrected", "target"), workspace.images("erased", "target"))


def test_the_attack_went_through_the_transform(run, study_of_defences, tmp_path, monkeypatch):
    """Where the projection lets no gradient through, the same attack finds other vectors."""
    found = arrays(run, "attack:through@safe", "adversarial")[0]["prefix"]
    projected = safree.Transform.projected
    monkeypatch.setattr(safree.Transform, "projected", lambda *given: tuple(one.detach() for one in projected(*given)))
    workspace = made_again(study_of_defences, run, "attack:through@safe", tmp_path / "unaware")
    unaware = read_arrays(workspace.result("attack:through@safe") / "adversarial.safetensors")["prefix"]
    assert found.shape == unaware.shape and not torch.allclose(found, unaware, atol=1e-4)


def test_adaptive_needs_an_attack_made_here_whose_gradients_pass(study_of_defences):
    study = workbench.load_study(study_of_defences)
    row = {"variant": "safe", "attack": "through", "against": "safe", "control": False}
    assert defences.adaptive(study, row) is True
    assert defences.adaptive(study, row | {"against": "erased"}) is False and defences.adaptive(study, row | {"control": True}) is None
    assert defences.adaptive(study, row | {"variant": "erased", "against": "erased"}) is None
    assert defences.adaptive(study, row | {"variant": "corrected", "against": "corrected"}) is False


def test_it_is_no_file_and_a_judge_that_corrects_is_told(run, study_of_defences, tmp_path):
    with pytest.raises(ModelError, match="no checkpoint of weights can hold"):
        export(run.folder, "safe", "partial", tmp_path / "out")
    study = workbench.load_study(study_of_defences).with_values(['detectors.judge={ method = "emoji", which = "steer" }'])
    _, workspace = execute.prepare(study, tmp_path / "judge")
    assert any("is also the judge, so the judge never sees what it missed" in said for said in preflight.warnings(workspace))
