"""Token maps agree with raw activations, and pictures with a loop over neurons."""

import numpy as np
import pytest
import torch

from tests.reference import KeepsEverything
from workbench.diffusion.denoise import denoise
from workbench.errors import RecordingMismatch
from workbench.models import text
from workbench.neurons import sites
from workbench.neurons.maps import Maps, TokenMaps, grid
from workbench.neurons.taps import Taps


def sample(model, layers, reducer):
    with torch.no_grad():
        states, empty = text.encode(model, ["owl in ink style", "a cat"]), text.encode(model, [""])
    with Taps(model.unet, layers, reducer) as taps:
        denoise(model, states, empty, [1, 2], n_steps=4, guidance=3.0, taps=taps)


def test_maps_equal_the_mean_over_calls_of_raw_cond_activations(model):
    layers, calls = sites.layers(model.unet, ["ff", "update"]), [1, 3]
    neurons = {layers[0].path: np.array([5, 2]), layers[-1].path: np.array([7])}
    maps, slow = Maps(layers, neurons, 2, calls), KeepsEverything()
    sample(model, layers, maps)
    sample(model, layers, slow)
    found = maps.result()
    for path, wanted in neurons.items():
        for prompt in range(2):
            total = 0
            for call in calls:
                for activation, rows in slow.raw[path, call]:
                    for row in range(len(activation)):
                        if rows.branch[row] == "cond" and int(rows.prompt[row]) == prompt:
                            total = total + activation[row][:, wanted].abs()
            assert torch.allclose(found.values[path][prompt], total / len(calls), rtol=1e-5)


def test_a_part_of_the_maps_is_what_recording_the_part_gives(model):
    layers = sites.layers(model.unet, ["ff"])
    path, other = layers[0].path, layers[1].path
    whole, part = Maps(layers, {path: [1, 4, 9], other: [0]}, 2, [0]), Maps(layers, {path: [9, 1]}, 2, [0])
    sample(model, layers, whole)
    sample(model, layers, part)
    assert torch.equal(whole.result().part({path: [9, 1]}).values[path], part.result().values[path])
    with pytest.raises(RecordingMismatch, match="No map of neuron 3"):
        whole.result().part({path: [3]})


def test_pictures_are_the_mean_over_neurons_each_in_its_own_units():
    values = {"a": torch.rand(3, 16, 4), "b": torch.rand(3, 16, 2)}
    values["a"][:, :, 1] = 0
    found = TokenMaps({"a": np.arange(4), "b": np.arange(2)}, values).images((4, 4), (4, 4))
    live = [(layer, i) for layer, n in (("a", 4), ("b", 2)) for i in range(n) if (layer, i) != ("a", 1)]
    for prompt in range(3):
        for token in range(16):
            expected = np.mean([float(values[layer][prompt, token, i] / values[layer][:, :, i].mean()) for layer, i in live])
            assert float(found[prompt, token // 4, token % 4]) == pytest.approx(expected, rel=1e-5)
    assert float(found.mean()) == pytest.approx(1, rel=1e-5)


def test_a_bright_token_of_a_coarse_layer_is_bright_at_its_place_in_the_picture():
    tokens = torch.full((1, 4, 1), 0.1)
    tokens[0, 2] = 1
    fine = torch.ones(1, 64, 1)
    picture = TokenMaps({"a": np.array([0]), "b": np.array([0])}, {"a": tokens, "b": fine}).images((8, 8), (32, 32))[0]
    row, column = divmod(int(picture.argmax()), 32)
    assert row >= 16 and column < 16 and float(picture[:16].max()) < float(picture.max())


@pytest.mark.parametrize(
    ("n_tokens", "latent", "expected"), [(4096, (64, 64), (64, 64)), (64, (64, 64), (8, 8)), (48, (64, 48), (8, 6)), (12, (7, 5), (4, 3))]
)
def test_tokens_are_the_latents_halved(n_tokens, latent, expected):
    assert grid(n_tokens, latent) == expected


@pytest.mark.parametrize("n_tokens", [77, 5000])
def test_tokens_that_are_no_grid_are_refused(n_tokens):
    with pytest.raises(RecordingMismatch, match="no grid of 64 x 64"):
        grid(n_tokens, (64, 64))


def test_maps_that_cannot_be_are_refused(model):
    layers = sites.layers(model.unet, ["ff"])
    with pytest.raises(RecordingMismatch, match="no neurons"):
        Maps(layers, {}, 1, [0])
    with pytest.raises(RecordingMismatch, match="not recorded"):
        Maps(layers, {"elsewhere": [0]}, 1, [0])
    with pytest.raises(RecordingMismatch, match="neuron 999"):
        Maps(layers, {layers[0].path: [999]}, 1, [0])
    with pytest.raises(RecordingMismatch, match="0 to 0 times"):
        Maps(layers, {layers[0].path: [0]}, 1, [0]).result()
    with pytest.raises(RecordingMismatch, match="no map to draw"):
        TokenMaps({"a": np.array([0])}, {"a": torch.zeros(1, 4, 1)}).images((2, 2), (2, 2))
