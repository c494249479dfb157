"""The change of activity by layer and call: its cells add up to the change that the report gives."""

import pandas
import pytest

from tests.pages import example_runs
from workbench.errors import RunError
from workbench.report import story
from workbench.ui import layer_changes, run_list


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return example_runs.recorded(tmp_path_factory.mktemp("recorded") / "run")


def found(folder):
    state = run_list.look(folder)
    table = pandas.read_parquet(folder / "report" / "neurons.parquet")
    return layer_changes.changes(state, table, story.steps(state.report, ["esd", "esd-pruned"])), table


def test_the_cells_add_up_to_the_change_in_activity(run):
    (erased, attacked), table = found(run)
    assert (erased.name, attacked.name) == ("esd minus base", "esd under the attack minus esd")
    assert erased.cells.shape == (3, 2) and list(erased.cells.columns) == [4, 12]
    for change, wanted in ((erased, -0.75), (attacked, 0.25)):
        assert change.cells.to_numpy().sum() == pytest.approx(change.total.value) == pytest.approx(wanted, abs=0.05)
        assert change.total.low < change.total.value < change.total.high
        assert change.neurons.groupby(["layer", "call"])["change"].sum().sum() == pytest.approx(change.total.value)
    assert len(erased.neurons) == 2 * table["in_concept"].sum()
    # the rise of the later call is half of that of the first, and so is its part
    assert erased.cells[12].sum() == pytest.approx(erased.cells[4].sum() / 2, rel=0.01)


def test_a_cell_leads_to_its_neurons(run):
    (erased, _), table = found(run)
    layer = erased.cells.index[1]
    part = layer_changes.of_cell(erased, layer, 4, most=5)
    assert len(part) == 5 and set(part["layer"]) == {layer} and set(part["index"]) <= set(table[table["in_concept"]]["index"])
    assert layer_changes.picked({"selection": {"cells": [(1, "4")]}}, erased.cells) == (layer, 4)
    for nothing in (None, {}, {"selection": {"cells": []}}, {"selection": {"cells": [(99, "4")]}}):
        assert layer_changes.picked(nothing, erased.cells) is None


def test_without_recordings_there_is_no_change_and_a_damaged_one_is_named(run, tmp_path):
    import shutil

    folder = shutil.copytree(run, tmp_path / "run")
    path = next((folder / "nodes" / "record").glob("record-esd-target-0/*.safetensors"))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(RunError, match="is damaged"):
        found(folder)
    shutil.rmtree(path.parent)
    assert found(folder)[0] == []
    plain = example_runs.finished(tmp_path / "plain")
    assert found(plain)[0] == []


def test_a_selected_cell_shows_its_neurons_on_the_page(opened, run):
    app = opened("sensitivity", run.name, run.parent)
    cells = app.dataframe[0].value
    assert cells.shape == (3, 2) and len(app.dataframe) == 1
    key = "sensitivity-cells-esd and esd-pruned-0"
    app.session_state[key] = {"selection": {"rows": [], "columns": [], "cells": [(0, "call 4")]}}
    app.run()
    assert not app.exception and len(app.dataframe) == 2
    assert app.dataframe[1].value["Card"].str.startswith("/neuron?run=run&neuron=down_blocks.0").all()
