"""ESD draws its latents from trajectories of every pair, however small the pool."""

import pytest
import torch

from tests import tiny
from workbench.diffusion import denoise as loop
from workbench.methods.erasers import esd
from workbench.models import text
from workbench.models.load import from_pipeline


@pytest.mark.parametrize(("n_asked", "n_made"), [(1, 3), (3, 3), (7, 7)])
def test_no_pair_is_left_out(n_asked, n_made, monkeypatch):
    model, sampled, genuine = from_pipeline(tiny.pipeline(), "tiny"), [], loop.denoise

    def watched(model, states, *args, **kwargs):
        sampled.extend(states)
        return genuine(model, states, *args, **kwargs)

    monkeypatch.setattr(loop, "denoise", watched)
    pairs = [("an owl in ink style", "an owl"), ("a cat in ink style", "a cat"), ("a house in lineart style", "a house")]
    settings = esd.Parameters(trajectories=n_asked, iterations=1, steps=2)
    esd.erase(model, pairs, settings)
    assert len(sampled) == n_made == esd.n_trajectories(settings, len(pairs))
    for state in text.encode(model, [pair[0] for pair in pairs]):
        assert any(torch.allclose(state, other, atol=1e-5) for other in sampled)


def test_the_estimate_counts_the_pool_that_is_made():
    settings = esd.Parameters(trajectories=2, steps=5, iterations=1, batch=4)
    assert esd.passes(settings, 10) - esd.passes(settings, 2) == 8 * 5 * 2
