"""The example run that ships: small, whole as far as it goes, opened where there is no other run, on every page without a word of error."""

import json

import numpy as np
import pandas
import pytest
from streamlit.testing.v1 import AppTest

from tests.pages.opening import SCRIPT
from workbench import resources
from workbench.execution.run_folder import Store
from workbench.resources import EXAMPLE_FOLDER, folder
from workbench.study.study import load_study
from workbench.ui import neuron_table, pick, run_list
from workbench.ui.navigation import pages

EXAMPLE = folder("data") / "example-run"
MOST_BYTES = 12_000_000
TORCH = ("lab",)  # pages that compute, opened apart


@pytest.fixture
def shipped(monkeypatch, tmp_path):
    monkeypatch.delenv(EXAMPLE_FOLDER, raising=False)
    monkeypatch.setenv(run_list.VARIABLE, str(tmp_path))
    return tmp_path


def opened(name, **address):
    app = AppTest.from_file(str(SCRIPT), default_timeout=120)
    for key, value in address.items():
        app.query_params[key] = value
    app.run()
    if name != pages()[0].name:
        app.switch_page(str(next(page.script for page in pages() if page.name == name))).run()
    assert not app.exception, app.exception[0].value
    return app


def test_it_is_small_and_what_it_holds_is_undamaged():
    assert sum(path.stat().st_size for path in EXAMPLE.rglob("*") if path.is_file()) <= MOST_BYTES
    store = Store(EXAMPLE)
    results = store.results()
    assert results and not [fault for stage, key in results if (fault := store.fault(stage, key))]
    assert "/root/" not in "".join(path.read_text() for path in EXAMPLE.rglob("*.json"))


def test_it_is_of_the_bundled_study_as_it_is_now():
    ours, theirs = load_study("emoji-ink-neurons").model_dump(mode="json"), json.loads((EXAMPLE / "study.json").read_text())
    assert {key: value for key, value in theirs.items() if value} == {key: value for key, value in ours.items() if value}


def test_it_is_found_by_its_name_and_read_only(shipped):
    state = run_list.look(run_list.folder_of_name("example"))
    assert state.kind == "finished" and state.read_only and run_list.names() == ["example"] and resources.is_example(state.folder)
    assert not state.sensitive and "cluster:0" in pick.choices(state)


@pytest.mark.parametrize("name", [page.name for page in pages() if page.name not in TORCH])
def test_every_page_opens_on_it_without_an_error(shipped, name):
    state = run_list.look(EXAMPLE)
    neuron = neuron_table.identity(pandas.read_parquet(EXAMPLE / "report" / "neurons.parquet").iloc[0])
    app = opened(name, neuron=neuron, selected=neuron)
    assert app.title and not app.error, [error.value for error in app.error]
    assert app.selectbox(key="run").options == ["example, read only"] and state.name == "example"
    assert not list(shipped.iterdir()), "a page wrote something"


def test_the_lab_ablates_it(shipped):
    app = opened("lab")
    assert not app.error and len(app.get("image")) == 9


def test_the_lab_draws_what_the_report_says(monkeypatch):
    """Images made anew from the shipped variants are those of the run: the judge's scores agree."""
    from workbench.lab import Lab

    lab, document = Lab(EXAMPLE), json.loads((EXAMPLE / "report" / "report.json").read_text())
    assert lab.variants == ["base", "erased", "pruned"]
    for variant in lab.variants:
        rows = [row for row in document["images"] if (row["variant"], row["prompt_set"]) == (variant, "target")][:3]
        scores = lab.found(lab.images([row["prompt"] for row in rows], [row["seed"] for row in rows], variant))[1]
        assert np.allclose(scores, [row["score"] for row in rows], atol=0.02), variant
