"""Which words drive a neuron: sums are the neuron's own difference, and the integral is that of plain gradients."""

import numpy as np
import pytest
import torch

from tests import tiny
from workbench.analysis.tokens import drivers, word_vectors
from workbench.diffusion.denoise import Trajectory
from workbench.diffusion.targets import Items, predict
from workbench.errors import MethodError
from workbench.models import text
from workbench.models.load import from_pipeline
from workbench.neurons import sites

PROMPTS = ["owl in ink style", "a cat"]


class Case:
    """A tiny model in float64 and two prompts at one call."""

    def __init__(self):
        self.model = from_pipeline(tiny.pipeline(), "tiny", dtype=torch.float64)
        self.layers = sites.layers(self.model.unet, ["ff"])
        inputs = torch.randn((2, 1, *self.model.latent_shape), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        with torch.no_grad():
            self.states, self.empty = text.encode(self.model, PROMPTS), text.encode(self.model, [""])
        self.items = Items(Trajectory(inputs, [1], [401.0]), self.states, ["u", "v"])

    def activation(self, states, prompt=0, layer=0):
        """(token, neuron) of a layer under text states, by a plain hook."""
        kept, module = [], dict(self.model.unet.named_modules())[self.layers[layer].path]
        handle = module.register_forward_pre_hook(lambda module, args: kept.append(args[0]))
        try:
            predict(self.model, next(self.items.batches([prompt])), states)
        finally:
            handle.remove()
        return kept[0][0]


@pytest.fixture(scope="module")
def case():
    return Case()


@pytest.fixture(scope="module")
def found(case):
    prefix = torch.randn(3, 32, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    vectors = [word_vectors(case.model, PROMPTS[0]), word_vectors(case.model, PROMPTS[1], prefix)]
    return vectors, drivers(case.model, case.layers[0], 5, case.items, vectors, n_steps=24)


def test_credit_of_the_words_sums_to_what_they_change_in_the_neuron(case, found):
    _, (tokens, sums) = found
    sizes = (sums["value"] - sums["empty"]).abs()
    assert (sums["delta"].abs() < 1e-3 * sizes).all() and (sizes > 1e-6).all()
    assert np.allclose(tokens.groupby("prompt")["value"].sum(), sums["explained"])
    with torch.no_grad():
        for which, states in (("value", case.states[:1]), ("empty", case.empty)):
            assert sums[which][0] == pytest.approx(float(case.activation(states)[:, 5].mean()), rel=1e-5)


def test_prompts_and_adversarial_prefixes_may_differ_in_length(case, found):
    tokens = found[1][0]
    assert list(tokens.groupby("prompt").size()) == [4, 5]
    assert list(tokens["unit"].unique()) == ["u", "v"] and set(tokens["call"]) == {1}


def test_credit_equals_an_integral_of_plain_gradients(case, found):
    vectors, (tokens, _) = found
    pad = text.token_vectors(case.model)[case.model.tokenizer.pad_token_id]
    start, end = pad.expand_as(vectors[0])[None], vectors[0][None]
    nodes, weights = np.polynomial.legendre.leggauss(24)
    total = torch.zeros_like(end)
    for node, weight in zip(nodes, weights, strict=True):
        at = (start + (node + 1) / 2 * (end - start)).requires_grad_()
        value = case.activation(text.encode_tokens(case.model, at))[:, 5].mean()
        total += weight / 2 * torch.autograd.grad(value, at)[0]
    expected = (total * (end - start)).sum(dim=2)[0]
    assert np.allclose(tokens[tokens["prompt"] == 0]["value"], expected, rtol=1e-5, atol=1e-12)


def test_what_cannot_be_attributed_to_words_is_refused(case):
    vectors = [word_vectors(case.model, prompt) for prompt in PROMPTS]
    (update, *_) = sites.layers(case.model.unet, ["update"])
    with pytest.raises(MethodError, match="site ff"):
        drivers(case.model, update, 0, case.items, vectors)
    with pytest.raises(MethodError, match="possible: 0 to"):
        drivers(case.model, case.layers[0], case.layers[0].n_neurons, case.items, vectors)
    with pytest.raises(MethodError, match="do not pair"):
        drivers(case.model, case.layers[0], 0, case.items, vectors[:1])
