"""Formulas over single weights equal loops, whoever uses them."""

import numpy as np
import pytest

from tests import reference_masks, reference_scores
from workbench.neurons import weights

SHARE = 0.3


@pytest.fixture
def seen():
    """weight (4, 7), target and reference (prompt 6, call 3, neuron 7)."""
    rng = np.random.default_rng(0)
    plain = rng.gamma(2.0, size=(6, 3, 7))
    return rng.normal(size=(4, 7)), rng.gamma(2.0, size=plain.shape) + np.where(np.arange(7) % 3 == 0, 1.5, 0.0), plain


def test_importance_is_the_size_of_the_weight_times_that_of_its_input(seen):
    weight, target, _ = seen
    found = weights.importance(weight, target[0, 0])
    assert all(found[r, i] == abs(weight[r, i]) * target[0, 0, i] for r in range(4) for i in range(7))


def test_conceptprune_cuts_off_where_it_counts():
    weight, ones = np.arange(1.0, 8.0)[None], np.ones(7)
    for share, n in ((0.28, 1), (0.4, 2), (0.56, 3), (0.14, 0)):
        assert weights.skilled(weight, ones, 0.5 * ones, share).sum() == n, share  # 1.96, 2.8, 3.92 and 0.98 weights


@pytest.mark.parametrize("ratio", [0.0, 0.4, 0.7])
def test_the_vote_of_conceptprune_equals_loops_and_shrinks_with_the_ratio(seen, ratio):
    weight, target, plain = seen
    sizes = [np.sqrt((array**2).sum(0)) for array in (target, plain)]
    found = weights.voted(weight, *sizes, SHARE, ratio)
    assert np.array_equal(found, reference_scores.conceptprune_mask(weight, target, plain, SHARE, 3, ratio))
    assert found.any() and not (found & ~weights.voted(weight, *sizes, SHARE, 0.0)).any()


def test_the_importance_and_mask_of_fia_equal_loops(seen):
    important = weights.excess(*seen, 0.2)
    assert np.allclose(important, reference_scores.fia_importance(*seen, 0.2)) and important.max() <= 1
    for share in (0.1, 0.28, 0.3):  # 0.28 of 7 is 1.96, of 28 it is 7.84
        found = weights.leading(important, share)
        assert found.any() and np.array_equal(found, reference_scores.fia_selected(important, share))


def test_as_many_weights_less_one_are_hits_of_fia_as_the_share_says():
    saliency = np.arange(1.0, 29.0).reshape(1, 4, 7)
    for often, n in ((0.2, 4), (0.1, 1), (0.28, 6)):  # k = 5, 2 and 7 of 28
        for scaled, most in ((True, 28), (False, 1)):
            hits = 2 * weights.sensitive(saliency, often, scaled) - saliency[0] / most
            assert np.allclose(np.sort(hits.ravel()), [0] * (28 - n) + [1] * n)


def test_the_spread_of_fia_is_that_of_all_prompts():
    target, plain = np.array([[4.0], [4.0]]), np.array([[1.0], [3.0]])
    assert weights.above(target, plain) == pytest.approx(4 - 2 - 1)  # sd 1 with n, 1.41 with n - 1


def test_the_signal_of_fia_equals_loops():
    rng = np.random.default_rng(3)
    weight, inputs = rng.normal(size=(4, 7)), rng.normal(size=(5, 7))
    outputs = inputs @ weight.T + rng.normal(size=4)
    assert np.allclose(weights.signal(weight, inputs, outputs), reference_scores.fia_signal(weight, inputs, outputs))
    cosines = weights.signal(weight, inputs, outputs) / np.abs(weight) / np.linalg.norm(inputs, axis=0)
    assert ((cosines >= 0) & (cosines <= 1)).all() and cosines.std() > 0.05


@pytest.mark.parametrize(("n", "alpha"), [(1, 0.6), (2, 0.8), (5, 0.6)])
def test_fia_fuses_as_written_and_one_concept_prunes_its_own(n, alpha):
    masks = list(np.random.default_rng(n).random((n, 40)) < 0.4)
    found = weights.fused(masks, alpha)
    assert found.any() and found.tolist() == reference_masks.fia_fused([one.tolist() for one in masks], alpha)
    assert n > 1 or np.array_equal(found, masks[0])


def test_an_alpha_that_shares_everything_prunes_nothing():
    assert not weights.fused([np.array([True, False])] * 3, alpha=0.3).any()
