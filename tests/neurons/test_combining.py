"""Sets of several runs: they combine as sets do, only within one base model, and overlaps stand beside what chance gives."""

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.neurons.test_sets import FEW, INDEX, MADE, SUBSETS, WIDTHS, a_set, plain
from workbench.analysis.overlap import ALL, overlaps
from workbench.errors import ModelError, RecordingMismatch
from workbench.neurons.combining import belongs, check_fit, combine, widths_of
from workbench.neurons.sets import NeuronSet


def of(neurons, name="one", model="m", **about):
    return NeuronSet(name, model, a_set(neurons).neurons, MADE | about)


@FEW
@given(st.lists(SUBSETS, min_size=2, max_size=4))
def test_any_number_of_sets_combine_as_python_sets_do(parts):
    sets = [a_set(part, f"set {place}") for place, part in enumerate(parts)]
    assert plain(combine("union", sets, "u")) == set().union(*parts)
    assert plain(combine("intersection", sets, "i")) == parts[0].intersection(*parts[1:])
    assert plain(combine("difference", sets, "d")) == parts[0].difference(*parts[1:])


def test_a_combination_keeps_what_its_parts_agree_on():
    first = of({("mid.ff", 1)}, base="sd", base_digest="s", widths={"mid.ff": 4}, chosen_on=["a", "b"])
    second = of({("up.ff", 2)}, "two", base="sd", base_digest="s", widths={"up.ff": 8}, chosen_on=["b", "c"])
    about = combine("union", [first, second], "both").provenance
    assert about["made"] == 'union of "one", "two"' and (about["base"], about["base_digest"]) == ("sd", "s")
    assert about["widths"] == {"mid.ff": 4, "up.ff": 8} and about["chosen_on"] == ["a", "b", "c"]
    assert about["of"][0]["digest"] == first.digest and "chosen_on" not in about["of"][0]["provenance"]
    assert "base" not in combine("union", [first, of({("up.ff", 2)})], "both").provenance


def test_sets_of_one_base_in_other_number_formats_combine_and_those_of_other_bases_do_not():
    first, half = of({("mid.ff", 1)}, base_digest="s"), of({("mid.ff", 2)}, model="h", base_digest="s")
    assert plain(combine("union", [first, half], "both")) == {("mid.ff", 1), ("mid.ff", 2)}
    with pytest.raises(RecordingMismatch, match="different models"):
        combine("union", [first, of({("mid.ff", 2)}, model="h")], "both")
    with pytest.raises(ModelError, match='Did you mean "union"'):
        combine("unio", [first, half], "both")
    with pytest.raises(ModelError, match="at least two"):
        combine("union", [first], "both")


def test_a_set_belongs_to_its_base_by_weights_or_by_files():
    assert belongs(of(set()), "m", "other") and belongs(of(set(), model="x", base_digest="s"), "m", "s")
    assert not belongs(of(set(), model="x"), "m", "s") and not belongs(of(set(), model="x", base_digest="t"), "m", "s")


def test_layers_and_widths_that_do_not_fit_are_named():
    check_fit(of({("mid.ff", 1)}, widths={"mid.ff": 4}), INDEX, "The set")
    with pytest.raises(RecordingMismatch, match='The set: its layer "mid.ff" has 5 neurons, that of this model 4'):
        check_fit(of({("mid.ff", 1)}, widths={"mid.ff": 5}), INDEX, "The set")
    with pytest.raises(RecordingMismatch, match="add its site"):
        check_fit(of({("mid.conv", 1)}), INDEX, "The set")
    with pytest.raises(RecordingMismatch, match="4 neurons in one and 5"):
        widths_of([of(set(), widths={"mid.ff": 4}), of(set(), "two", widths={"mid.ff": 5})])


@FEW
@given(SUBSETS.filter(bool), SUBSETS.filter(bool))
def test_overlaps_are_those_of_python_sets_in_each_layer_and_in_all(a, b):
    table = overlaps({"a": a_set(a), "b": a_set(b)}, WIDTHS, n_random=50).set_index("layer")
    assert table.loc[ALL, "iou"] == pytest.approx(len(a & b) / len(a | b)) and list(table.index)[-1] == ALL
    for layer in table.index[:-1]:
        one, other = ({place for name, place in side if name == layer} for side in (a, b))
        assert table.loc[layer, "iou"] == pytest.approx(len(one & other) / len(one | other))
        assert pandas.isna(table.loc[layer, "reason"]) == bool(one and other) and table.loc[layer, "n"] == WIDTHS[layer]


def test_chance_is_what_random_sets_give():
    widths, rng = {"wide": 400}, np.random.default_rng(3)
    one, other = (NeuronSet(name, "m", {"wide": rng.choice(400, 60, replace=False)}, MADE) for name in "ab")
    layer, total = (row for _, row in overlaps({"a": one, "b": other}, widths).iterrows())
    drawn = [len({*rng.choice(400, 60, replace=False)} & set(range(60))) for _ in range(2000)]
    assert layer["chance"] == pytest.approx(np.mean([both / (120 - both) for both in drawn]), abs=0.003)
    for end in ("chance", "chance_low", "chance_high"):
        assert layer[end] == pytest.approx(total[end], abs=0.02)
    assert layer["p_random"] > 0.01 and total["p_random"] > 0.01
    same = overlaps({"a": one, "b": NeuronSet("c", "m", one.neurons, MADE)}, widths).iloc[-1]
    assert same["iou"] == 1 and same["p_random"] == 1 / 1000


def test_without_widths_there_is_no_chance_and_it_says_so():
    table = overlaps({"a": a_set({("mid.ff", 1)}), "b": a_set({("mid.ff", 1)})}, {})
    assert table["iou"].tolist() == [1, 1] and table["chance"].isna().all() and table["reason"].str.contains("not known").all()
    with pytest.raises(ModelError, match="empty"):
        overlaps({"a": a_set(set()), "b": a_set({("mid.ff", 1)})}, WIDTHS)
