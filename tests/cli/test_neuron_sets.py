"""`workbench sets` as a user meets it."""

import json

import pytest
from typer.testing import CliRunner

from workbench.cli import main
from workbench.errors import WorkbenchError
from workbench.neurons.sets import NeuronSet

WIDTHS = {"down.ff": 60, "mid.ff": 40}


def sets(*arguments):
    """Output of the verb; raises what it raises."""
    done = CliRunner().invoke(main.app, ["sets", *map(str, arguments)], env={"COLUMNS": "200"}, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def files(tmp_path):
    """Two overlapping sets of one model."""
    about = {"made": "by hand", "study": "first", "base": "tiny", "base_digest": "b" * 64, "widths": WIDTHS}
    for name, neurons in (("one", {"down.ff": [1, 2, 3], "mid.ff": [7]}), ("two", {"down.ff": [2, 3, 4]})):
        NeuronSet(name, "m" * 64, neurons, about).save(tmp_path / f"{name}.safetensors")
    return tmp_path / "one.safetensors", tmp_path / "two.safetensors"


def test_show_says_where_neurons_are_and_come_from(files):
    told = sets("show", files[0])
    assert "down.ff" in told and "60" in told and "4 neurons in 2 layers" in told and '"study": "first"' in told
    found = json.loads(sets("show", files[0], "--json"))
    assert found["neurons"] == {"down.ff": [1, 2, 3], "mid.ff": [7]} and found["provenance"]["widths"] == WIDTHS


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("union", {"down.ff": [1, 2, 3, 4], "mid.ff": [7]}),
        ("intersection", {"down.ff": [2, 3]}),
        ("difference", {"down.ff": [1], "mid.ff": [7]}),
    ],
)
def test_sets_are_combined_into_a_file_that_says_of_what(files, tmp_path, how, expected):
    out = tmp_path / "made.safetensors"
    assert str(out) in sets(how, *files, "--out", out).replace("\n", "")
    made = NeuronSet.load(out, "m" * 64)
    assert {layer: index.tolist() for layer, index in made.neurons.items()} == expected
    assert made.name == "made" and made.provenance["made"] == f'{how} of "one", "two"' and made.provenance["widths"] == WIDTHS
    with pytest.raises(WorkbenchError, match="nothing is replaced"):
        sets(how, *files, "--out", out)


def test_sets_are_compared_layer_by_layer_beside_chance(files):
    rows = json.loads(sets("compare", *files, "--json"))
    assert [row["layer"] for row in rows] == ["down.ff", "mid.ff", "all layers"]
    assert rows[0]["iou"] == 0.5 and rows[0]["chance_low"] <= rows[0]["chance"] < 0.1 and rows[0]["p_random"] < 0.01
    assert "only one of the sets" in rows[1]["reason"] and rows[2]["iou"] == 0.4 and rows[2]["n"] == 100 and rows[2]["n_random"] == 999
    told = sets("compare", *files)
    assert "0.5000" in told and "random sets" in told


def test_show_tells_a_neuron_that_its_layer_does_not_have_and_shows_the_highest(files, tmp_path):
    assert [row["highest"] for row in json.loads(sets("show", files[0], "--json"))["layers"]] == [3, 7]
    bad = tmp_path / "bad.safetensors"
    NeuronSet("bad", "m" * 64, {"mid.ff": [40]}, {"made": "by hand", "widths": WIDTHS}).save(bad)
    with pytest.raises(WorkbenchError, match='names neuron 40 of the layer "mid.ff", which has the neurons 0 to 39'):
        sets("show", bad)


def test_what_cannot_be_is_told(files, tmp_path):
    other = tmp_path / "other.safetensors"
    NeuronSet("other", "x" * 64, {"down.ff": [50]}, {"made": "by hand"}).save(other)
    for verb in (("compare",), ("union", "--out", tmp_path / "new")):
        with pytest.raises(WorkbenchError, match="different models"):
            sets(verb[0], files[0], other, *verb[1:])
    with pytest.raises(WorkbenchError, match="two or more"):
        sets("compare", files[0])
    with pytest.raises(WorkbenchError, match="given twice"):
        sets("compare", files[0], files[0])
    with pytest.raises(WorkbenchError, match='Did you mean "one.safetensors"'):
        sets("show", tmp_path / "on.safetensors")
    far = tmp_path / "far.safetensors"
    NeuronSet("far", "m" * 64, {"mid.ff": [30]}, {"made": "by hand"}).save(far)
    with pytest.raises(WorkbenchError, match="no set is written"):
        sets("intersection", files[1], far, "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_widths_come_from_a_model_where_the_sets_do_not_say_them(tmp_path, tiny_folder):
    layer = "mid_block.attentions.0.transformer_blocks.0.ff.net.2"
    paths = [tmp_path / f"{name}.safetensors" for name in "ab"]
    for path in paths:
        NeuronSet(path.stem, "m", {layer: [1, 2]}, {"made": "by hand"}).save(path)
    assert "not known" in sets("compare", *paths)
    rows = json.loads(sets("compare", *paths, "--model", tiny_folder, "--json"))
    assert rows[-1]["n"] == 128 and rows[-1]["iou"] == 1 and rows[-1]["chance"] < 0.05
