"""Every score equals its slow reference, over the window and at each call, and obeys the laws of its formula."""

import numpy as np
import pytest

from tests import reference, reference_scores
from workbench import registry
from workbench.errors import MethodError
from workbench.methods import scores
from workbench.methods.scores import wanda_contrast
from workbench.registry import methods
from workbench.study.neuron_choice import Choose

LAYER = np.array(["one"] * 7 + ["two"] * 5 + ["no weights"] * 2)
N_PROMPTS, N_CALLS = 6, 3
SET = {"wanda_contrast": {"group": "layer"}, "conceptprune": {"share": 0.3, "calls": 2, "select_ratio": 0.5}, "fia": {"often": 0.2}}


def evidence(seed=0):
    rng = np.random.default_rng(seed)
    lift = np.where(np.arange(len(LAYER)) % 3 == 0, 1.5, 0.0)
    plain, erased = (rng.gamma(2.0, size=(N_PROMPTS, N_CALLS, len(LAYER))) for _ in range(2))
    target = rng.gamma(2.0, size=plain.shape) + lift
    weights = {"one": rng.normal(size=(4, 7)), "two": rng.normal(size=(3, 5))}
    return scores.Evidence(target, plain, erased, LAYER, weights)


def slow(name, seen, calls):
    """The reference of a score on some calls, with the settings SET."""
    target, plain, erased = (array[:, calls] for array in (seen.target, seen.reference, seen.erased))
    means = [array.mean(axis=1) for array in (target, plain)]
    by_weight = (target, plain, LAYER, seen.weights)
    return {
        "contrast": lambda: reference.contrast(*means, LAYER),
        "z": lambda: reference.z(*means),
        "correlation": lambda: reference.correlation(means[0], erased.mean(axis=1)),
        "welch_z": lambda: reference_scores.welch_z(*means),
        "auroc": lambda: reference_scores.auroc(*means),
        "wanda_contrast": lambda: reference_scores.wanda_contrast(*by_weight, "layer"),
        "conceptprune": lambda: reference_scores.conceptprune(*by_weight, 0.3, 2, 0.5),
        "fia": lambda: reference_scores.fia(*by_weight, 0.2),
    }[name]()


def permuted(seen, order):
    """The same evidence with the neurons in another order, the columns of the weights with them."""
    columns = {name: [list(np.flatnonzero(name == LAYER)).index(i) for i in order if LAYER[i] == name] for name in seen.weights}
    weights = {name: weight[:, columns[name]] for name, weight in seen.weights.items()}
    return scores.Evidence(*(array[..., order] for array in (seen.target, seen.reference, seen.erased)), LAYER[order], weights)


@pytest.mark.parametrize("name", sorted(methods("scores")))
def test_every_score_equals_its_slow_reference_over_the_window_and_at_each_call(name):
    method, seen = methods("scores")[name], evidence()
    found = scores.evaluate(method, seen, parameters=SET.get(name))
    assert np.allclose(found, slow(name, seen, slice(None)), equal_nan=True)
    for call in range(N_CALLS):
        at = scores.evaluate(method, seen, call=call, parameters=SET.get(name))
        assert np.allclose(at, slow(name, seen, slice(call, call + 1)), equal_nan=True)


@pytest.mark.parametrize("name", sorted(methods("scores")))
def test_every_score_follows_a_permutation_of_the_neurons_and_reads_only_the_given_prompts(name):
    method, seen = methods("scores")[name], evidence(1)
    order = np.random.default_rng(2).permutation(len(LAYER))
    found = scores.evaluate(method, seen, parameters=SET.get(name))
    assert np.allclose(scores.evaluate(method, permuted(seen, order), parameters=SET.get(name)), found[order], equal_nan=True)
    half = np.arange(N_PROMPTS) < 3
    cut = scores.Evidence(seen.target[:3], seen.reference[:3], seen.erased[:3], LAYER, seen.weights)
    assert np.allclose(scores.evaluate(method, seen, half), scores.evaluate(method, cut), equal_nan=True)


@pytest.mark.parametrize("name", sorted(methods("scores")))
def test_every_score_is_neutral_where_the_concept_changes_nothing(name):
    method, seen = methods("scores")[name], evidence()
    same = scores.Evidence(seen.target, seen.target, seen.target, LAYER, seen.weights)
    found = scores.evaluate(method, same)
    assert np.allclose(found[~np.isnan(found)], method.neutral)
    assert np.isnan(found).any() == ("weights" in method.needs)


def test_an_auroc_of_swapped_sets_is_what_is_left_to_one_and_knows_order_only():
    auroc, seen = methods("scores")["auroc"].module.score, evidence()
    target, plain = seen.target.mean(1), seen.reference.mean(1)
    assert np.allclose(auroc(target, plain) + auroc(plain, target), 1)
    assert np.allclose(auroc(np.exp(target), np.exp(plain)), auroc(target, plain), rtol=0, atol=2e-9)


def test_equal_aurocs_are_ordered_by_the_size_of_the_difference():
    auroc = methods("scores")["auroc"].module.score
    target, plain = np.array([[2.0, 8.0, 1.0], [3.0, 9.0, 1.0]]), np.array([[1.0, 1.0, 1.0], [0.5, 1.1, 1.0]])
    small, large, still = auroc(target, plain)
    assert 1 >= large > small > 1 - 2e-9 and still == 0.5


def test_welch_z_is_z_times_root_n_when_only_the_reference_varies():
    welch_z, z = (methods("scores")[name].module.score for name in ("welch_z", "z"))
    plain = evidence().reference.mean(1)
    target = np.full_like(plain, 3.0)
    assert np.allclose(welch_z(target, plain), z(target, plain) * np.sqrt(N_PROMPTS))


@pytest.mark.parametrize(("group", "free"), [("row", "rows"), ("layer", "layers"), ("global", None)])
def test_wanda_compares_within_its_group_only(group, free):
    seen, rng = evidence(), np.random.default_rng(0)
    weight, target, plain = seen.weights["one"], rng.random(7), rng.random(7)
    found = wanda_contrast.weight_contrast(weight, target, plain, group)
    rows, whole = np.array([[1.0], [2.0], [5.0], [0.1]]), 3.0
    assert np.allclose(wanda_contrast.weight_contrast(weight * rows, target, plain, group), found) == (free == "rows")
    assert np.allclose(wanda_contrast.weight_contrast(weight * whole, target, plain, group), found) == (free in ("rows", "layers"))
    dead = weight * np.array([[1.0], [1.0], [1.0], [0.0]])
    assert not wanda_contrast.weight_contrast(dead, target, plain, group)[3].any()


def test_wanda_refuses_sets_of_unequal_size():
    method, seen = methods("scores")["wanda_contrast"], evidence()
    with pytest.raises(MethodError, match="found 6 and 5"):
        scores.evaluate(method, scores.Evidence(seen.target, seen.reference[:5], None, LAYER, seen.weights))


def test_only_listed_scores_are_computed_and_only_their_norms_are_recorded():
    everything = Choose()
    assert "correlation" not in scores.listed(everything) and {"z", "fia"} <= set(scores.listed(everything))
    assert scores.norms(everything) == ["norm", "row_norm"]
    assert set(scores.listed(Choose(compare=["z"]))) == {"contrast", "z"} and scores.norms(Choose(compare=["z"])) == []
    assert scores.norms(Choose(score="conceptprune", compare=[])) == ["row_norm"]


@pytest.mark.parametrize("name", sorted(methods("scores")))
def test_every_score_says_what_it_needs_in_known_words(name):
    known = {"target", "reference", "erased", "calls", "weights", *registry.QUANTITIES}
    assert set(methods("scores")[name].needs) <= known and "target" in methods("scores")[name].needs


UNITS = {
    "auroc": "share of pairs of prompts",
    "conceptprune": "share of outgoing weights",
    "contrast": "multiples of the layer's mean |a|",
    "correlation": "activation units",
    "fia": "FIA importance, 0 to 1",
    "wanda_contrast": "multiples of the row's mean Wanda score",
    "welch_z": "standard errors of the difference",
    "z": "standard deviations of prompts without the concept",
}


def test_every_score_declares_what_its_values_count():
    assert {name: method.unit() for name, method in methods("scores").items()} == UNITS


def test_the_unit_of_a_score_follows_its_settings():
    wanda = methods("scores")["wanda_contrast"]
    assert wanda.unit({"group": "layer"}) == "multiples of the layer's mean Wanda score"
    assert wanda.unit({"group": "global"}) == "Wanda score, weight times activation units"


@pytest.mark.parametrize(
    ("name", "given"),
    [
        *((name, {"conceptprune": {"share": 0.3}}.get(name)) for name in sorted(methods("scores"))),
        *(("wanda_contrast", {"group": g}) for g in ("layer", "global")),
    ],
)
def test_only_a_score_in_activation_units_grows_with_the_activations(name, given):
    """Twice the activations give twice a score in activation units, and the same score in any other unit."""
    method, seen = methods("scores")[name], evidence()
    twice = scores.Evidence(2 * seen.target, 2 * seen.reference, 2 * seen.erased, LAYER, seen.weights)
    one, two = (scores.evaluate(method, each, parameters=given) for each in (seen, twice))
    factor = 2 if "activation units" in method.unit(given) else 1
    assert np.allclose(two, factor * one, equal_nan=True) and np.nanmax(np.abs(one)) > 0
