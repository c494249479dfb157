"""What the how-tos show runs: an eraser, a score, a stage, a section, a page."""

import sys
import textwrap
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
import torch

from tests.docs.pages import ROOT
from tests.docs.test_commands import blocks
from workbench.execution import plan as planning
from workbench.execution import stages
from workbench.study.study import load_study
from workbench.ui import navigation


def example(page):
    """The names that the first Python block of a how-to defines."""
    found = {}
    exec(compile(textwrap.dedent(blocks(ROOT / "docs" / "develop" / page, "python")[0]), page, "exec"), found)
    return found


def test_the_eraser_of_the_how_to_changes_what_it_says(model):
    made = example("add-an-eraser.md")
    before = {name: value.detach().clone() for name, value in model.unet.named_parameters()}
    changed = made["erase"](model, [("owl in ink", "owl")], made["Parameters"](strength=2.0))
    assert changed and all(name.endswith("attn2.to_v.weight") for name in changed)
    for name, value in changed.items():
        assert torch.allclose(value, before[name.removeprefix("unet.")] * 0.98)
    assert all(torch.equal(value, before[name]) for name, value in model.unet.named_parameters())


def test_the_score_of_the_how_to_is_its_formula():
    made = example("add-a-score.md")
    target, reference = np.array([[1.0, 4.0], [3.0, 4.0], [9.0, 4.0]]), np.array([[1.0, 5.0], [1.0, 5.0]])
    assert made["score"](target, reference).tolist() == [2.0, -1.0] and made["NEEDS"] == ("target", "reference")


@pytest.fixture
def brightness(tmp_path, monkeypatch):
    """The stage of the how-to, as a file beside the others."""
    (tmp_path / "brightness.py").write_text(blocks(ROOT / "docs" / "develop" / "add-a-stage.md", "python")[0])
    monkeypatch.setattr(stages, "__path__", [*stages.__path__, str(tmp_path)])
    stages.names.cache_clear()
    stages.stage.cache_clear()
    yield stages.stage("brightness")
    monkeypatch.undo()
    stages.names.cache_clear()
    stages.stage.cache_clear()
    sys.modules.pop("workbench.execution.stages.brightness", None)


def test_the_stage_of_the_how_to_is_planned_and_computes_what_it_says(brightness, tmp_path):
    plan = planning.build(load_study("emoji-ink-style"), "model", 10)
    node = plan.node("brightness:erased:target")
    assert node.inputs == ("generate:erased:target",) and node.id in plan.node("measure").inputs
    table = pandas.DataFrame({"id": ["a", "b"], "unit": ["u", "v"]})
    images = torch.stack([torch.zeros(3, 4, 4), torch.full((3, 4, 4), 0.5)])
    prompts = SimpleNamespace(rows=lambda start, stop: SimpleNamespace(table=table))
    workspace = SimpleNamespace(prompt_set=lambda name: prompts, source=lambda node, shard: images)
    brightness.run(workspace, node, node.shards[0], tmp_path)
    assert pandas.read_parquet(tmp_path / "brightness.parquet")["brightness"].tolist() == [0.0, 0.5]


def test_the_rows_of_the_stage_of_the_how_to_fit_its_section(brightness):
    node = SimpleNamespace(variant="base", prompt_set="target")
    shards = [pandas.DataFrame({"unit": ["u", "v"], "brightness": [0.2, 0.4]}), pandas.DataFrame({"unit": ["v"], "brightness": [0.6]})]
    prompts = SimpleNamespace(provenance=lambda variant: None)
    planned = SimpleNamespace(attack=None, against=None, control=False)
    workspace = SimpleNamespace(
        plan=SimpleNamespace(of_stage=lambda name: [node], sets={"target": planned}),
        gather=lambda stage, variant, name, reader: shards,
        prompt_set=lambda name: prompts,
    )
    (row,) = brightness.rows(workspace, None)["brightness"]
    assert row["value"] == pytest.approx(0.4) and row["low"] < 0.4 < row["high"] and row["n"] == 2
    (table,) = example("add-a-section.md")["SECTION"].tables
    assert set(row) == set(table.names)


def test_the_section_of_the_how_to_declares_its_table():
    section = example("add-a-section.md")["SECTION"]
    (table,) = section.tables
    assert table.name == "brightness" and table.names[-4:] == ["value", "low", "high", "reason"]
    assert table.column("value").needed and table.column("value").title == "Brightness"


def test_the_page_of_the_how_to_is_found_by_its_page(tmp_path, monkeypatch):
    (tmp_path / "brightness.py").write_text(blocks(ROOT / "docs" / "develop" / "add-a-page.md", "python")[0])
    monkeypatch.setattr(navigation, "folder", lambda name: tmp_path)
    (page,) = navigation.pages.__wrapped__()
    assert (page.name, page.title, page.order, page.needs) == ("brightness", "Brightness", 60, None)
