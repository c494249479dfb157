"""The page Compare: any variants of any runs; paired where both saw the same prompts, else said to be unpaired."""

import io
import json
import shutil

import numpy as np
import pandas
import pytest

from tests.pages.example_runs import damaged, finished, manifest, node
from workbench.analysis import rates, unpaired
from workbench.report import document as schema
from workbench.ui import compared_runs, comparison_tables, run_list
from workbench.ui.compared_runs import NeuronSet, Side

UNITS = [f"unit-{number}" for number in range(30)]


def found_by_judge(folder, variants, seed=0):
    """Results of detect for target prompts, the rows in another order in each run; {variant: success in the order of UNITS}."""
    random, nodes, seen = np.random.default_rng(seed), [], {}
    for variant in variants:
        one = node("detect", variant, "target")
        seen[variant] = random.random(len(UNITS)) < 0.5
        table = pandas.DataFrame({"id": UNITS, "unit": UNITS, "steer": False, "judge": seen[variant], "judge_score": 0.5})
        place = folder / "nodes" / "detect" / one["shards"][0]
        place.mkdir(parents=True)
        table.sample(frac=1, random_state=seed).to_parquet(place / "detections.parquet")
        nodes.append(one)
    manifest(folder, nodes)
    return seen


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs `one` and `two` of the same prompts, `other` of other prompts, and a damaged one; {run: {variant: success}}."""
    folder = tmp_path_factory.mktemp("compared")
    seen = {}
    for number, name in enumerate(("one", "two", "other")):
        finished(folder / name)
        shutil.rmtree(folder / name / "nodes")
        seen[name] = found_by_judge(folder / name, ("base", "esd"), number)
    document = schema.load(folder / "other" / "report")
    for row in document["reproduce"]["prompts"]:
        row["digest"] = "0" * 64
    schema.write(document, folder / "other" / "report")
    damaged(folder / "broken")
    return folder, seen


def states(runs, *names):
    return {name: run_list.look(runs[0] / name) for name in names}


def row_of(rows, what="concept in images, prompts with the concept"):
    return next(row for row in rows if row["what"] == what)


def test_two_runs_of_the_same_prompts_are_paired_whatever_the_order_of_their_rows(runs):
    found = states(runs, "one", "two")
    row = row_of(compared_runs.differences(found, Side("one", "esd"), [Side("two", "esd")]))
    expected = rates.compare(runs[1]["one"]["esd"], runs[1]["two"]["esd"], UNITS)
    assert row["paired"] and row["why"] == "" and row["n"] == len(UNITS)
    assert (row["difference"], row["low"], row["high"], row["p"]) == tuple(expected[key] for key in ("difference", "low", "high", "p"))


def test_runs_of_other_prompts_are_unpaired_and_say_so(runs):
    found = states(runs, "one", "other")
    row = row_of(compared_runs.differences(found, Side("one", "esd"), [Side("other", "esd")]))
    assert not row["paired"] and row["why"] == "the runs have other prompts with the concept" and row["p"] is None
    assert row["low"] <= row["difference"] == row["rate_b"] - row["rate_a"] <= row["high"]


def test_variants_whose_findings_are_gone_are_unpaired(runs):
    found = states(runs, "one")
    row = row_of(compared_runs.differences(found, Side("one", "esd"), [Side("one", "uce")]))
    assert not row["paired"] and "no longer has" in row["why"]


def test_the_unpaired_interval_is_newcombes():
    a, b = rates.rate(56, 70), rates.rate(48, 80)  # the first example of his paper: 56/70 and 48/80
    found = unpaired.difference(b, a)
    assert found["difference"] == pytest.approx(0.2) and (found["low"], found["high"]) == (
        pytest.approx(0.0524, abs=1e-4),
        pytest.approx(0.3339, abs=1e-4),
    )
    assert unpaired.difference(a, a | {"rate": None}) == {"difference": None, "low": None, "high": None}


def test_sets_share_neurons_of_the_same_base_model_only():
    sizes = {"a": 10, "b": 20}
    one = NeuronSet("r", "one", "base", {"a": frozenset({1, 2, 3}), "b": frozenset({5})}, sizes)
    two = NeuronSet("r", "two", "base", {"a": frozenset({2, 3, 4, 5})}, sizes)
    far = NeuronSet("s", "far", "other", {"a": frozenset({1})}, sizes)
    first, second, third = compared_runs.shared([one, two, far._replace(run="r")])
    assert (first["shared"], first["iou"], first["expected"]) == (2, 2 / 6, 3 * 4 / 10)
    assert second["reason"] == third["reason"] == "other base models" and second["iou"] is None
    assert len(compared_runs.shared([one, two, far])) == 2  # of several runs, only sets of two runs


def test_the_page_compares_the_variants_of_one_run_and_of_several(opened, runs):
    app = opened("compare", "one", runs[0])
    assert (
        len(app.get("plotly_chart")) == 1
        and len(app.get("plotly_chart")[0].proto.alt) > 60
        and "n = " in app.get("plotly_chart")[0].proto.alt
    )
    assert not app.error and len(app.dataframe) == 3
    app.multiselect(key="compare-runs").set_value(["two", "other"]).run()
    assert not app.exception
    assert any("two/esd" in option for option in app.multiselect(key="compare-variants").options)
    pairs = next(table.value for table in app.dataframe if "Pairs" in table.value)
    assert {"paired"} < set(pairs["Pairs"]) and any(words.startswith("unpaired: ") for words in pairs["Pairs"])
    app.multiselect(key="compare-variants").set_value(["one/esd", "two/base"]).run()
    assert not app.exception
    assert set(next(table.value for table in app.dataframe if "Pairs" in table.value)["Variant"]) == {"two · base"}


def test_a_link_reopens_the_choice(opened, runs):
    app = opened("compare", "one", runs[0], **{"compare-runs": ["two"], "compare-variants": ["one/esd", "two/esd"]})
    assert app.multiselect(key="compare-runs").value == ["two"] and app.multiselect(key="compare-variants").value == ["one/esd", "two/esd"]


def test_a_damaged_run_is_left_out_in_one_sentence(opened, runs):
    app = opened("compare", "one", runs[0])
    app.multiselect(key="compare-runs").set_value(["broken", "two"]).run()
    assert not app.exception and len(app.warning) == 1 and "broken is left out" in app.warning[0].value
    assert len(app.get("plotly_chart")) == 1


def test_reports_side_by_side_say_what_diff_says(runs):
    document = schema.load(runs[0] / "two" / "report")
    document["rates"][0]["rate"] = document["rates"][0]["low"]
    schema.write(document, runs[0] / "two" / "report")
    found = states(runs, "one", "two")
    settings, numbers = compared_runs.reports(found["one"], found["two"])
    assert settings is None and [row["table"] for row in numbers] == ["rates"]


def test_a_table_is_taken_along_as_csv_without_formulas():
    text = comparison_tables.as_csv([{"a": "=1+1", "b": 0.25}, {"a": "x", "b": None}])
    assert pandas.read_csv(io.StringIO(text))["a"].tolist() == ["'=1+1", "x"]
    assert json.loads(pandas.read_csv(io.StringIO(text)).to_json())["b"] == {"0": 0.25, "1": None}
