"""Picks of neurons in links, and lists of neurons beside a run."""

import shutil
import subprocess
import sys

import pandas
import pytest

from tests.pages import example_runs
from workbench.errors import RunError
from workbench.neurons.sets import NeuronSet
from workbench.ui import layer_names, lists, pick, run_list

DOWN = "down_blocks.{}.attentions.0.transformer_blocks.0.ff.net.2"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = example_runs.finished(tmp_path_factory.mktemp("runs") / "finished")
    path = folder / "report" / "neurons.parquet"
    table = pandas.read_parquet(path)
    table["set_eyes"] = table["index"] < 5
    table.to_parquet(path, index=False)
    return folder


@pytest.fixture
def state(written):
    shutil.rmtree(written.parent / lists.FOLDER, ignore_errors=True)
    return run_list.look(written)


@pytest.fixture
def table(written):
    return pandas.read_parquet(written / "report" / "neurons.parquet")


def n(neurons):
    return sum(map(len, neurons.values()))


def ids(table):
    return {f"{layer}:{index}" for layer, index in zip(table["layer"], table["index"], strict=True)}


def test_a_role_a_cluster_a_set_a_layer_and_the_top_of_a_column_are_those_of_the_table(state, table):
    wanted = {
        "concept": table[table["in_concept"]],
        "prune": table[table["in_prune"]],
        "watch": table[table["in_watch"]],
        "cluster:1": table[table["cluster"] == 1],
        "set:eyes": table[table["set_eyes"]],
        f"layer:{DOWN.format(2)}": table[table["layer"] == DOWN.format(2)],
        "layer:down2.0.0": table[table["layer"] == DOWN.format(2)],
        "top:score:50": table.nlargest(50, "score"),
        "top:r_esd:7": table.nlargest(7, "r_esd"),
    }
    for text, rows in wanted.items():
        assert set(lists.as_ids(pick.resolve(state, text))) == ids(rows), text


def test_neurons_by_number_come_back_as_they_were_written(state):
    neurons = {DOWN.format(0): [3, 9], DOWN.format(1): [1]}
    text = pick.of_neurons(neurons)
    assert text == f"neurons:{DOWN.format(0)}=3+9,{DOWN.format(1)}=1"
    assert pick.resolve(state, text) == neurons == pick.resolve(state, "neurons:down0.0.0=9 3,down1.0.0=1")
    assert pick.of_ids(lists.as_ids(neurons)) == text


def test_a_random_set_is_of_the_same_layers_disjoint_and_the_same_for_a_seed(state):
    chosen, drawn = pick.resolve(state, "cluster:0"), pick.resolve(state, "random:3:cluster:0")
    assert {layer: len(index) for layer, index in drawn.items()} == {layer: len(index) for layer, index in chosen.items()}
    assert not any(set(drawn[layer]) & set(index) for layer, index in chosen.items())
    assert pick.resolve(state, "random:3:cluster:0") == drawn != pick.resolve(state, "random:4:cluster:0")


def test_every_choice_of_a_run_can_be_resolved_and_said_in_words(state):
    lists.create(state, "mine", {DOWN.format(0): [3]})
    found = pick.choices(state)
    assert found == ["concept", "prune", "watch", "cluster:0", "cluster:1", "set:eyes", "list:mine"]
    assert all(n(pick.resolve(state, text)) and pick.words(text) for text in found)
    assert pick.words("top:score:50") == "the 50 neurons with the highest score, selection half"
    assert pick.words("random:2:cluster:1") == "random neurons (seed 2), as many in each layer as cluster 1"
    assert pick.words(f"neurons:{DOWN.format(1)}=246") == "the neuron down1.0.0 · 246"
    assert pick.words("neurons:down1.0.0=1+2") == "2 neurons chosen by hand"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "picks no neurons"),
        ("concept:3", "Forms: concept"),
        ("clusters:3", 'Did you mean "cluster"?'),
        ("cluster:", "something must follow"),
        ("cluster:9", "no cluster 9. Possible: 0, 1"),
        ("suppressed", "no suppressed neurons. Possible: concept"),
        ("set:eye", 'Did you mean "eyes"?'),
        ("list:none", 'no list "none"'),
        ("list:../../x", "no list"),
        ("top:scor:5", 'Did you mean "score"?'),
        ("top:layer:5", "no column of numbers"),
        ("top:score:0", "a number from 1 upwards"),
        ("top:score", "write top:COLUMN:K"),
        ("layer:down9.0.0", "No layer of this run"),
        ("neurons:down0.0.0=1+x", "names no neurons"),
        ("neurons:down0.0.0=4000", "has the neurons 0 to"),
        ("random:concept", "write random:SEED:PICK"),
        ("random:1:layer:down0.0.0", "Pick fewer"),
        ("random:" + "1:random:" * 2000 + "1:concept", "once"),
    ],
)
def test_what_does_not_exist_is_refused_in_a_sentence(state, text, said):
    with pytest.raises(RunError, match=said.replace("?", r"\?").replace("(", r"\(")):
        pick.resolve(state, text)


def test_without_a_neuron_table_there_is_nothing_to_choose(tmp_path):
    state = run_list.look(example_runs.stopped(tmp_path / "stopped"))
    assert pick.choices(state) == []
    with pytest.raises(RunError, match="no table of single neurons yet"):
        pick.resolve(state, "concept")


def test_a_list_is_a_neuron_set_that_a_study_can_read(state, table):
    neurons = {DOWN.format(0): [3, 9], DOWN.format(1): [1]}
    before = sorted(path for path in state.folder.rglob("*"))
    lists.create(state, "mine", neurons)
    found = NeuronSet.load(lists.path(state, "mine"))
    assert {layer: index.tolist() for layer, index in found.neurons.items()} == neurons == lists.read(state, "mine")
    assert found.name == "mine" and found.model == state.report["models"][0]["digest"] and "by hand" in found.provenance["made"]
    assert found.to_boolean(table).sum() == 3
    assert sorted(path for path in state.folder.rglob("*")) == before, "the run folder stays as it was computed"


def test_lists_are_added_to_removed_from_renamed_and_deleted(state):
    lists.create(state, "mine")
    assert lists.read(state, "mine") == {} and lists.size(state, "mine") == 0
    assert lists.add(state, "mine", {DOWN.format(0): [9, 3]}) == 2
    assert lists.add(state, "mine", {DOWN.format(0): [9], DOWN.format(2): [5]}) == 1
    assert lists.remove(state, "mine", {DOWN.format(0): [3, 6]}) == 1
    assert lists.read(state, "mine") == {DOWN.format(0): [9], DOWN.format(2): [5]}
    assert lists.containing(state, DOWN.format(2), 5) == ["mine"] and lists.containing(state, DOWN.format(2), 8) == []
    lists.rename(state, "mine", "yours")
    assert lists.names(state) == ["yours"] and lists.size(state, "yours") == 2
    assert NeuronSet.load(lists.path(state, "yours")).name == "yours"
    lists.delete(state, "yours")
    assert lists.names(state) == []


@pytest.mark.parametrize("name", ["", "Eyes", "../x", "a b", "concept", "cluster-3", "9a", "a" * 200, "a/b", "ä"])
def test_a_name_that_no_set_of_a_study_may_have_is_refused(state, name):
    with pytest.raises(RunError, match="cannot be called"):
        lists.create(state, name)


def test_a_list_is_neither_made_twice_nor_filled_with_neurons_that_are_not_there(state):
    lists.create(state, "mine")
    with pytest.raises(RunError, match="already"):
        lists.create(state, "mine")
    lists.create(state, "other")
    with pytest.raises(RunError, match="already"):
        lists.rename(state, "mine", "other")
    with pytest.raises(RunError, match="has the neurons 0 to"):
        lists.add(state, "mine", {DOWN.format(0): [100_000]})
    with pytest.raises(RunError, match="no layer"):
        lists.add(state, "mine", {"nowhere": [1]})
    with pytest.raises(RunError, match="no list"):
        lists.delete(state, "none")


def test_a_damaged_list_is_told_and_not_used(state):
    lists.create(state, "mine", {DOWN.format(0): [3]})
    path = lists.path(state, "mine")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(RunError, match=r"mine\.safetensors is damaged"):
        pick.resolve(state, "list:mine")
    assert lists.containing(state, DOWN.format(0), 3) == []


def test_notes_are_kept_beside_the_run_and_an_empty_one_is_removed(state):
    assert lists.notes(state) == {}
    lists.write_note(state, f"{DOWN.format(0)}:3", " fires on *eyes*\nand ears ")
    lists.write_note(state, f"{DOWN.format(0)}:6", "x")
    assert lists.notes(state)[f"{DOWN.format(0)}:3"] == "fires on *eyes*\nand ears"
    lists.write_note(state, f"{DOWN.format(0)}:6", "")
    assert len(lists.notes(state)) == 1
    with pytest.raises(RunError, match="at most"):
        lists.write_note(state, "a:1", "x" * 20_000)


def test_short_names_of_layers_lead_back_to_their_paths():
    paths = [
        DOWN.format(1),
        "mid_block.attentions.0.transformer_blocks.0.ff.net.2",
        "up_blocks.1.attentions.2.transformer_blocks.1.attn2.to_v",
        "down_blocks.0.attentions.0",
        "mid_block.resnets.1.conv2",
        "text_model.encoder.layers.3.mlp.fc2",
        "something.else",
    ]
    short = ["down1.0.0", "mid.0.0", "up1.2.1.v", "down0.0.update", "mid.res1.conv2", "text3", "something.else"]
    assert list(layer_names.names(paths).values()) == short
    assert [layer_names.path_of(name, paths) for name in short] == paths
    both = ["text_model.encoder.layers.3.mlp.fc2", "encoder.layers.3.mlp.fc2"]
    assert layer_names.names(both) == dict(zip(both, both, strict=True)), "names that two layers share are not used"


def test_picks_and_lists_need_neither_torch_nor_streamlit(state):
    lists.create(state, "mine", {DOWN.format(0): [3]})
    code = (
        "import sys\nfrom workbench.ui import lists, pick, run_list\n"
        f"state = run_list.look({str(state.folder)!r})\n"
        "assert pick.resolve(state, 'random:1:list:mine')\nlists.add(state, 'mine', pick.resolve(state, 'concept'))\n"
        "assert not {'torch', 'streamlit'} & sys.modules.keys(), 'imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_lines_for_a_study_are_those_of_a_study(state, tmp_path):
    from workbench.resources import folder
    from workbench.study.study import load_study

    lists.create(state, "eyes", {DOWN.format(0): [3]})
    text = (folder("analyses") / "emoji-ink-neurons.toml").read_text()
    path = tmp_path / "more.toml"
    path.write_text(text + "\n" + lists.study_lines("eyes", lists.path(state, "eyes"), "erased"))
    study = load_study(path)
    assert study.sets[0].name == "eyes" and study.variants[-1].parameters == {"set": "eyes"}
