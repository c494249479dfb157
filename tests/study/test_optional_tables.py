"""What the tables [attribute], [cluster] and [ablate] may say, and how senseless combinations are told."""

import re
from typing import get_args

import pytest

from workbench.analysis import ablation, attribution, clusters
from workbench.diffusion.targets import TARGETS
from workbench.errors import StudyError
from workbench.study import ablate, attribute, cluster
from workbench.study.study import load_study

STUDY = load_study("emoji-ink-style")


def test_names_are_those_of_the_library():
    assert set(get_args(attribute.Attribute.model_fields["target"].annotation)) == set(TARGETS)
    assert {*attribute.PER_NEURON, *attribute.NOT_PER_NEURON} == set(attribution.METHODS)
    assert set(get_args(cluster.Cluster.model_fields["method"].annotation)) == set(clusters.METHODS)
    assert {*ablate.KINDS, "held"} == set(get_args(ablation.Kind))


def test_tables_that_are_not_there_leave_no_trace():
    assert not {"attribute", "cluster", "ablate"} & set(STUDY.model_dump(mode="json"))
    more = STUDY.with_values(["cluster.k=3"])
    assert more.cluster.k == 3 and more.digest() != STUDY.digest()
    assert STUDY.with_values(["cluster.k=[2, 4]"]).with_values(["cluster.seed=1"]).cluster.k == (2, 4)


def test_what_came_later_is_in_a_dump_only_when_it_is_asked_for():
    plain, asked_for = STUDY.with_values(['attribute.target="T2"']), STUDY.with_values(["attribute.conductance=true"])
    assert "conductance" not in plain.attribute.model_dump(mode="json") and asked_for.attribute.model_dump()["conductance"] is True


def test_images_take_what_they_do_not_say_from_the_table():
    part = STUDY.with_values(['ablate.modes=["one_step", "images"]', "ablate.images.shares=[0.04]", "ablate.units=8"]).ablate
    assert part.of("images")["shares"] == [0.04] and part.of("images")["units"] == 8
    assert part.of("one_step")["shares"] == [0.005, 0.01, 0.02, 0.04, 0.08]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (['attribute.methods=["gradients"]'], 'Did you mean "gradient"'),
        (['attribute.methods=["ablation"]'], "Set `fidelity = true`"),
        (['attribute.methods=["shapley"]'], 'effects = ["shapley"]'),
        (['attribute.methods=["conductance"]'], "Set `conductance = true`"),
        (['attribute.target="T5"'], "'T1', 'T2', 'T3' or 'T4'"),
        (['attribute.variants=["erasd"]'], 'Did you mean "erased"'),
        (["attribute.calls=[2]"], "record.calls has 1, 4, 7"),
        (["cluster.attribution=true"], "needs the table [attribute]"),
        (['cluster.method="hdbscan"', "cluster.k=3"], "finds the number of clusters itself"),
        (["cluster.min_size=9"], "setting of hdbscan"),
        (["cluster.k=1"], "one cluster is no clustering"),
        (["cluster.k=[5, 3]"], "the first and the last number"),
        (['ablate.effects=["greedy"]'], "Add the table [cluster]"),
        (['ablate.effects=["shapley"]'], "Add the table [cluster]"),
        (["cluster.k=3", 'ablate.modes=["images"]', 'ablate.effects=["shapley"]'], 'Use it in `modes = ["one_step"]`'),
        (["cluster.k=3", 'ablate.effects=["shapley"]', "ablate.n_partitions=5"], "19 or more"),
        (["ablate.n_partitions=19"], "a setting of shapley"),
        (['ablate.effects=["necesity"]'], 'Did you mean "necessity"'),
        (['ablate.kinds=["held"]'], "necessity and sufficiency use the kind"),
        (['ablate.kinds=["scaled"]'], "needs a `factor`"),
        (["ablate.factor=0.5"], 'belongs to the kind "scaled"'),
        (["ablate.n_random=20"], "greater than or equal to 50"),
        (['ablate.modes=["images"]', "ablate.images.n_random=20"], "greater than or equal to 50"),
        (["ablate.images.units=4"], 'has no "images"'),
        (["ablate.shares=[0.5, 2]"], "ablate.shares.1: Input should be less than 1, found 2"),
        (['ablate.groups=["near"]'], 'needs "target"'),
        (['ablate.ranking="attribution"'], "needs the table [attribute]"),
        (['ablate.branch="both"'], "runs only the cond branch"),
        (['ablate.modes=["images"]', 'ablate.branch="both"', 'ablate.kinds=["mean"]'], "recorded in the cond branch"),
        (["attacks=[]", 'ablate.effects=["necessity"]'], "Use sufficiency"),
    ],
)
def test_what_means_nothing_is_refused_with_the_way_out(values, message):
    with pytest.raises(StudyError, match=re.escape(message)):
        STUDY.with_values(values)
