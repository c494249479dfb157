"""Laws of neuron sets: they are sets, a file is the identity, and what does not fit is refused with the reason."""

import json

import numpy as np
import pandas
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import ModelError, RecordingMismatch, RunError
from workbench.neurons import sets
from workbench.neurons.sets import NeuronSet
from workbench.storage import read_arrays, read_metadata, write_arrays

WIDTHS = {"down.ff": 6, "mid.ff": 4, "up.ff": 8}
INDEX = pandas.concat(
    [pandas.DataFrame({"layer": layer, "index": range(n), "site": "ff"}) for layer, n in WIDTHS.items()], ignore_index=True
)
MADE = {"made": "by hand", "study": "test", "score": "z", "share": 0.1, "half": "a"}
NEURONS = [(layer, i) for layer, n in WIDTHS.items() for i in range(n)]
FEW = settings(max_examples=25, deadline=None)
SUBSETS = st.sets(st.sampled_from(NEURONS))


def a_set(neurons, name="one", model="m" * 64):
    by_layer = {}
    for layer, i in neurons:
        by_layer.setdefault(layer, []).append(i)
    return NeuronSet(name, model, by_layer, MADE)


def plain(found):
    return {(layer, i) for layer, index in found.neurons.items() for i in index.tolist()}


@FEW
@given(SUBSETS, SUBSETS)
def test_neuron_sets_combine_as_python_sets_do(a, b):
    first, second = a_set(a), a_set(b, "two")
    assert plain(first | second) == a | b and plain(first & second) == a & b and plain(first - second) == a - b
    assert len(first) == len(a) and (first == second) == (a == b)
    if a | b:
        assert first.iou(second) == len(a & b) / len(a | b)


@FEW
@given(SUBSETS)
def test_boolean_arrays_and_back_are_the_identity_in_any_order_of_the_table(a):
    first = a_set(a)
    for table in (INDEX, INDEX.sample(frac=1, random_state=3).reset_index(drop=True)):
        chosen = first.to_boolean(table)
        assert {NEURONS[i] for i in np.flatnonzero(first.to_boolean(INDEX))} == a
        assert NeuronSet.from_boolean(table, chosen, "back", first.model, MADE) == first


@FEW
@given(SUBSETS)
def test_set_and_complement_share_nothing_and_fill_their_layers(a):
    first = a_set(a)
    other = first.complement(INDEX)
    assert not plain(first & other)
    assert plain(first | other) == {(layer, i) for layer, i in NEURONS if layer in {own for own, _ in a}}


def test_a_combination_says_what_it_was_made_from():
    both = a_set({("mid.ff", 1)}) | a_set({("mid.ff", 2)}, "two")
    assert both.name == "(one | two)" and both.provenance["made"] == '"one" | "two"'
    assert [part["provenance"] for part in both.provenance["of"]] == [MADE, MADE]
    assert json.loads(json.dumps(both.provenance)) == both.provenance


def test_indices_are_sorted_without_repeats_and_empty_layers_go():
    found = NeuronSet("one", "m", {"up.ff": [5, 1, 5], "down.ff": []}, MADE)
    assert found.neurons["up.ff"].tolist() == [1, 5] and list(found.neurons) == ["up.ff"]
    assert found.table().to_dict("list") == {"layer": ["up.ff", "up.ff"], "index": [1, 5]}
    assert len(NeuronSet("none", "m", {}, MADE).table()) == 0


@FEW
@given(SUBSETS)
def test_saving_and_loading_is_the_identity(tmp_path_factory, a):
    path = tmp_path_factory.getbasetemp() / "set.safetensors"
    first = a_set(a, "näme, with signs / and spaces")
    first.save(path)
    found = NeuronSet.load(path, first.model, INDEX)
    assert found == first and found.name == first.name and found.provenance == MADE
    assert found.digest == first.digest and hash(found) == hash(first)


def test_a_set_of_another_model_is_refused_or_warned_about(tmp_path):
    path = tmp_path / "set.safetensors"
    a_set({("mid.ff", 1)}, model="aaaa").save(path)
    with pytest.raises(RecordingMismatch, match="made on the model aaaa, not on bbbb.*strict=False"):
        NeuronSet.load(path, "bbbb")
    with pytest.warns(UserWarning, match="nothing across models"):
        assert len(NeuronSet.load(path, "bbbb", strict=False)) == 1
    with pytest.raises(RecordingMismatch, match="different models"):
        a_set({("mid.ff", 1)}, model="aaaa") & a_set({("mid.ff", 1)}, model="bbbb")


def test_unknown_layers_and_numbers_out_of_range_are_named(tmp_path):
    path = tmp_path / "set.safetensors"
    NeuronSet("far", "m", {"mid.fff": [0]}, MADE).save(path)
    with pytest.raises(RecordingMismatch, match='"mid.fff", which is not recorded.*Did you mean "mid.ff"'):
        NeuronSet.load(path, index=INDEX)
    with pytest.raises(RecordingMismatch, match="neuron 4 of the layer .mid.ff., which has the neurons 0 to 3"):
        NeuronSet("far", "m", {"mid.ff": [1, 4]}, MADE).to_boolean(INDEX)
    with pytest.raises(RecordingMismatch, match="3 entries"):
        NeuronSet.from_boolean(INDEX, [True] * 3, "short", "m", MADE)


@pytest.mark.parametrize("index", [[-1], [0.5], [[1]], ["a"]])
def test_what_is_no_index_is_refused(index):
    with pytest.raises(ModelError, match="no list of indices"):
        NeuronSet("one", "m", {"mid.ff": index}, MADE)


def test_a_set_that_does_not_say_how_it_was_made_is_refused():
    with pytest.raises(ModelError, match='"made"'):
        NeuronSet("one", "m", {}, {"study": "test"})


def test_files_that_are_no_neuron_set_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "set.safetensors"
    with pytest.raises(ModelError, match="no neuron set at"):
        NeuronSet.load(path)
    path.write_bytes(b"\x80\x04 a pickle, or anything else")
    with pytest.raises(RunError, match="damaged"):
        NeuronSet.load(path)
    write_arrays(path, {"mid.ff": torch.ones(3)})
    with pytest.raises(ModelError, match="header says"):
        NeuronSet.load(path)
    about = {"kind": sets.KIND, "name": "one", "model": "m", "provenance": json.dumps(MADE)}
    write_arrays(path, {"mid.ff": torch.ones(3)}, about)
    with pytest.raises(ModelError, match="no list of indices"):
        NeuronSet.load(path)
    for broken in ({"provenance": "{"}, {"provenance": "[]"}):
        write_arrays(path, {"mid.ff": torch.tensor([1])}, about | broken)
        with pytest.raises(ModelError, match="Save it again"):
            NeuronSet.load(path)
    monkeypatch.setattr(sets, "MOST_BYTES", 10)
    with pytest.raises(ModelError, match="at most 10"):
        NeuronSet.load(path)


def test_a_file_that_was_changed_after_it_was_written_is_refused(tmp_path):
    path = tmp_path / "set.safetensors"
    a_set({("mid.ff", 1), ("up.ff", 5)}).save(path)
    arrays, about = read_arrays(path), read_metadata(path)
    for changed, said in (
        (arrays | {"mid.ff": torch.tensor([2])}, about),
        (arrays, about | {"name": "other"}),
        (arrays, about | {"model": "x" * 64}),
        (arrays, about | {"provenance": json.dumps(MADE | {"share": 0.2})}),
        ({"mid.ff": arrays["mid.ff"]}, about),
    ):
        write_arrays(path, changed, said)
        with pytest.raises(ModelError, match="is not as it was written"):
            NeuronSet.load(path)
    about.pop("digest")  # as files of the first version
    write_arrays(path, arrays | {"mid.ff": torch.tensor([2])}, about)
    assert NeuronSet.load(path).neurons["mid.ff"].tolist() == [2]


def test_neurons_beyond_the_widths_the_file_states_are_told(tmp_path):
    path = tmp_path / "set.safetensors"
    NeuronSet("far", "m", {"mid.ff": [1, 10**9]}, MADE | {"widths": WIDTHS}).save(path)
    with pytest.raises(ModelError, match='names neuron 1000000000 of the layer "mid.ff", which has the neurons 0 to 3 by its own'):
        NeuronSet.load(path)
    for index in ([2**40], np.array([2**63 + 5], np.uint64)):
        with pytest.raises(ModelError, match="no list of indices"):
            NeuronSet("far", "m", {"mid.ff": index}, MADE)
    for broken in ({"widths": 3}, {"widths": {"mid.ff": "4"}}, {"widths": {"mid.ff": True}}, {"chosen_on": 3}):
        NeuronSet("one", "m", {"mid.ff": [1]}, MADE | broken).save(path)
        with pytest.raises(ModelError, match="widths or chosen_on in its provenance is malformed"):
            NeuronSet.load(path)


def test_what_came_in_the_place_of_a_set_is_called_by_its_name(tmp_path):
    for content, message in ((b"", "is an empty file"), (b"<html>quota</html>", "is a web page"), (b"made by hand", "contains text")):
        (tmp_path / "set.safetensors").write_bytes(content)
        with pytest.raises(ModelError, match=message):
            NeuronSet.load(tmp_path / "set.safetensors")


def test_the_overlap_of_two_empty_sets_is_refused():
    with pytest.raises(ModelError, match="both empty"):
        a_set(set()).iou(a_set(set(), "two"))


def test_top_chooses_the_highest_inside_and_never_nan():
    score = np.array([5, np.nan, 3, 9, 1, 7.0])
    within = np.array([1, 1, 1, 0, 1, 1], bool)
    assert np.flatnonzero(sets.top(score, 0.4, within)).tolist() == [0, 5]
    assert sets.top(score, 1.0, within).sum() == 4


def test_of_equals_at_the_end_of_the_share_either_all_or_none_are_chosen():
    within = np.ones(6, bool)
    assert np.flatnonzero(sets.top(np.array([3, 2, 2, 1, 2, 0.0]), 0.5, within)).tolist() == [0]
    assert np.flatnonzero(sets.top(np.array([3, 2, 2, 1, 2, 0.0]), 4 / 6, within)).tolist() == [0, 1, 2, 4]
    assert np.flatnonzero(sets.top(np.array([2, 2, 2, 1, 2, 0.0]), 0.5, within)).tolist() == [0, 1, 2, 4]
    assert not sets.top(np.full(6, np.nan), 0.5, within).any()


@FEW
@given(st.lists(st.integers(0, 4), min_size=3, max_size=30), st.floats(0.05, 1), st.integers(0, 100))
def test_what_is_on_top_does_not_hang_on_the_order_of_the_neurons(scores, share, seed):
    score, order = np.array(scores, float), np.random.default_rng(seed).permutation(len(scores))
    within = np.ones(len(score), bool)
    assert np.array_equal(sets.top(score, share, within)[order], sets.top(score[order], share, within))


@FEW
@given(st.integers(0, 100), st.integers(1, 30))
def test_halves_of_a_set_are_disjoint_fill_it_and_are_of_like_scores(seed, n):
    score = np.random.default_rng(seed).random(40)
    chosen = np.arange(40) < n
    prune, watch = sets.halve(chosen, score, seed)
    assert not (prune & watch).any() and ((prune | watch) == chosen).all() and abs(prune.sum() - watch.sum()) <= 1
    ranked = np.argsort(-score[chosen])
    pairs = prune[chosen][ranked][: 2 * (n // 2)].reshape(-1, 2)
    assert (pairs.sum(axis=1) == 1).all()
