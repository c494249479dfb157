"""Planted truth: every score finds the neurons that carry the concept, from recordings of the planted model."""

import numpy as np
import pytest
import torch

from tests.planted import LAYER, PLANTED, planted_model
from workbench import registry
from workbench.diffusion.denoise import Trajectory, evaluate
from workbench.methods import scores
from workbench.models.variants import applied
from workbench.neurons import sites
from workbench.neurons.reduce import NORMS, Statistics
from workbench.neurons.sets import index_table
from workbench.neurons.taps import Taps
from workbench.registry import methods

N_UNITS, CALLS = 8, [0, 1]


@pytest.fixture(scope="module")
def found():
    """{quantity: Evidence} of the planted model, its index table."""
    model, states, erased = planted_model()
    layers = sites.layers(model.unet, ["ff"])
    inputs = torch.randn(N_UNITS, len(CALLS), *model.latent_shape, generator=torch.Generator().manual_seed(0))

    def record(variant, state):
        kept = Statistics(layers, N_UNITS, CALLS, NORMS)
        with applied(model, variant), Taps(model.unet, layers, kept) as taps:
            evaluate(model, states[state].expand(N_UNITS, -1, -1), [Trajectory(inputs, CALLS, [801.0, 401.0])], taps)
        stored = kept.to_tensors()
        return {name: torch.cat([stored[f"{layer.path}|{name}"].float() for layer in layers], -1).numpy() for name in registry.QUANTITIES}

    target, plain, silent = record(None, "A"), record(None, "plain"), record(erased, "A")
    index, weights = index_table(layers), sites.reading_weights(layers, model.unet)
    layer = index["layer"].to_numpy()
    return {name: scores.Evidence(target[name], plain[name], silent[name], layer, weights) for name in registry.QUANTITIES}, index


@pytest.mark.parametrize("name", sorted(methods("scores")))
def test_every_score_ranks_the_planted_neurons_first(found, name):
    evidence, index = found
    method = methods("scores")[name]
    value = scores.evaluate(method, evidence[method.quantity])
    here = (index["layer"] == f"{LAYER}.ff.net.2").to_numpy()
    # rules that rank within a row or a layer say nothing about which layer it is
    within = here if "weights" in method.needs else np.ones(len(index), bool)
    truth = here & index["index"].isin(PLANTED).to_numpy()
    # the 6 planted neurons are the highest 6; auroc knows order only, so others may tie with them at 1
    least = np.sort(value[within])[-len(PLANTED)]
    assert (value[truth] >= least).all()
    assert name == "auroc" or (value[within & ~truth] < least).all()
