"""[[sets]] in a study: names, operands and circles that mean nothing are told with the way out; no torch is needed for that."""

import re

import pytest

from workbench.errors import StudyError
from workbench.study import neuron_sets
from workbench.study.study import load_study

STUDY = load_study("emoji-ink-style")


def with_sets(*tables, more=()):
    """The study with [[sets]] written as inline tables."""
    return STUDY.with_values([*more, f"sets=[{', '.join(tables)}]"])


def test_a_study_without_sets_says_nothing_of_them_and_keeps_its_digest():
    assert "sets" not in STUDY.model_dump(mode="json")
    assert with_sets('{name="a", file="a.safetensors"}').digest() != STUDY.digest()
    assert "set" not in STUDY.variants[1].model_dump(mode="json")["parameters"]


def test_sets_are_put_in_an_order_in_which_each_can_be_made():
    study = with_sets(
        '{name="c", difference=["b", "cluster-0"]}',
        '{name="b", union=["concept", "a"]}',
        '{name="a", file="a.safetensors"}',
        more=["cluster.k=3"],
    )
    assert [one.name for one in neuron_sets.ordered(study.sets)] == ["a", "b", "c"]
    assert neuron_sets.uses(study, "c") == {"a", "concept", "cluster-0"} and neuron_sets.uses(study, "a") == {"a"}
    assert [one.how for one in study.sets] == ["difference", "union", "file"]


@pytest.mark.parametrize(
    ("tables", "more", "message"),
    [
        (['{name="a", file="f"}', '{name="a", file="g"}'], (), 'two [[sets]] are called "a"'),
        (['{name="concept", file="f"}'], (), 'can be called "concept"'),
        (['{name="cluster-1", file="f"}'], (), 'can be called "cluster-1"'),
        (['{name="Church", file="f"}'], (), "pattern"),
        (['{name="a"}'], (), "needs exactly one of file, union, intersection, difference; it has none of them"),
        (['{name="a", file="f", union=["concept", "suppressed"]}'], (), "it has file and union"),
        (['{name="a", union=["concept"]}'], (), "at least 2"),
        (['{name="church", file="f"}', '{name="a", union=["concept", "chruch"]}'], (), 'Did you mean "church"'),
        (['{name="a", union=["concept", "cluster-0"]}'], (), "Add it"),
        (['{name="a", union=["concept", "cluster-3"]}'], ["cluster.k=3"], "Possible: cluster-0, cluster-1, cluster-2"),
        (
            ['{name="a", union=["b", "concept"]}', '{name="b", difference=["a", "concept"]}'],
            (),
            '"a", which is made of "b", which is made of "a"',
        ),
        (['{name="a", union=["a", "concept"]}'], (), "a circle"),
        (['{name="a", fil="f"}'], (), 'Did you mean "file"'),
        (['{name="a", file="f"}'], ['variants.1.parameters={set="b"}'], "not one of the [[sets]]"),
        (['{name="a", file="f"}'], ['variants.1.parameters={set="a", neurons="concept"}'], "Give one of the two"),
        (['{name="a", union=["concept", "cluster-0"]}'], ["cluster.k=2", 'variants.1.parameters={set="a"}'], "in another study"),
    ],
)
def test_what_means_nothing_is_refused_with_the_way_out(tables, more, message):
    assert STUDY.variants[1].method == "prune_neurons"
    with pytest.raises(StudyError, match=re.escape(message)):
        with_sets(*tables, more=more)


def test_the_effect_sets_needs_sets():
    with pytest.raises(StudyError, match="the study has none"):
        STUDY.with_values(['ablate.effects=["sets"]'])


def test_a_file_that_is_not_there_is_told_with_the_nearest_beside_it(tmp_path):
    (tmp_path / "church.safetensors").write_bytes(b"")
    path = tmp_path / "mine.toml"
    path.write_text(STUDY.text + '\n[[sets]]\nname = "a"\nfile = "chruch.safetensors"\n')
    with pytest.raises(StudyError, match='which does not exist.*Did you mean "church.safetensors"'):
        load_study(path)
    assert load_study(path, files=False).sets[0].path(tmp_path) == tmp_path / "chruch.safetensors"
