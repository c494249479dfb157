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
    for share in (0.1, 0.3):
        found = weights.leading(important, share)
        assert found.any() and np.array_equal(found, reference_scores.fia_selected(important, share))


@pytest.mark.parametrize(("n", "alpha"), [(1, 0.6), (2, 0.8), (5, 0.6)])
def test_fia_fuses_as_written_and_one_concept_prunes_its_own(n, alpha):
    masks = list(np.random.default_rng(n).random((n, 40)) < 0.4)
    found = weights.fused(masks, alpha)
    assert found.any() and found.tolist() == reference_masks.fia_fused([one.tolist() for one in masks], alpha)
    assert n > 1 or np.array_equal(found, masks[0])


def test_an_alpha_that_shares_everything_prunes_nothing():
    assert not weights.fused([np.array([True, False])] * 3, alpha=0.3).any()
