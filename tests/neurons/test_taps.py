"""Laws of taps and gates, on three schedulers."""

import diffusers
import pytest
import torch

from tests.reference import KeepsEverything, same_bits
from workbench.diffusion.denoise import denoise, n_calls
from workbench.errors import RecordingMismatch
from workbench.models import text
from workbench.neurons import sites
from workbench.neurons.reduce import Moments, Statistics
from workbench.neurons.taps import Rows, Taps

SCHEDULERS = {"DDIM": "DDIMScheduler", "PNDM": "PNDMScheduler", "Heun": "HeunDiscreteScheduler"}


def hooks(module):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


def sample(model, layers, reducer=None, gates=None, steps=5):
    with torch.no_grad():
        states, empty = text.encode(model, ["owl in ink style", "a cat", "church"]), text.encode(model, [""])
    with Taps(model.unet, layers, reducer, gates) as taps:
        return denoise(model, states, empty, [1, 2, 3], n_steps=steps, guidance=3.0, taps=taps)[0]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_recording_equals_a_slow_reference_that_keeps_every_raw_activation(model, name):
    model.scheduler = getattr(diffusers, SCHEDULERS[name]).from_config(model.scheduler.config)
    layers, calls = sites.layers(model.unet, ["ff", "update"]), range(n_calls(model, 5))
    fast, slow = Statistics(layers, 3, calls), KeepsEverything()
    sample(model, layers, fast)
    sample(model, layers, slow)
    for layer in layers:
        for prompt in range(3):
            for call in calls:
                expected = slow.mean_abs(layer.path, call, prompt)
                assert torch.allclose(fast.mean_abs[layer.path][prompt, call].double(), expected, rtol=1e-5, atol=1e-7)


def test_pndm_and_heun_call_the_unet_more_often_than_they_have_steps(model):
    assert n_calls(model, 5) == 5
    model.scheduler = diffusers.PNDMScheduler.from_config(model.scheduler.config, skip_prk_steps=True)
    assert n_calls(model, 5) == 6


def test_a_gate_of_ones_changes_no_bit(model):
    layers = sites.layers(model.unet, ["ff", "update"])
    ones = {layer.path: torch.ones(1, layer.n_neurons) for layer in layers}
    assert torch.equal(sample(model, layers), sample(model, layers, gates=ones))


def test_a_gate_of_zeros_silences_what_is_recorded_and_changes_the_image(model):
    layers = sites.layers(model.unet, ["ff"])
    zeros = {layers[0].path: torch.zeros(1, layers[0].n_neurons)}
    seen = Statistics(layers, 3, range(5))
    gated = sample(model, layers, seen, zeros)
    assert seen.mean_abs[layers[0].path].abs().max() == 0
    assert not torch.equal(gated, sample(model, layers))


def test_each_row_may_have_its_own_gate(model):
    layers = sites.layers(model.unet, ["ff"])
    gate = torch.stack([torch.ones(layers[0].n_neurons), torch.zeros(layers[0].n_neurons)])
    seen = Statistics(layers, 2, [0])
    with torch.no_grad():
        states = text.encode(model, ["owl", "owl"])
    with Taps(model.unet, layers, seen, {layers[0].path: gate}) as taps, torch.no_grad():
        taps.tell(Rows(0, 10.0, torch.tensor([0, 1]), ["cond"] * 2, torch.tensor([0, 1])))
        model.unet(torch.ones(2, *model.latent_shape), torch.tensor(10.0), encoder_hidden_states=states)
        taps.check()
    values = seen.mean_abs[layers[0].path]
    assert values[0].abs().min() > 0 and values[1].abs().max() == 0


def test_gating_a_set_does_not_depend_on_its_order(model):
    layers = sites.layers(model.unet, ["ff"])
    gates = {layer.path: torch.full((1, layer.n_neurons), 0.5) for layer in layers}
    assert torch.equal(sample(model, layers, gates=gates), sample(model, layers, gates=dict(reversed(gates.items()))))


def test_no_hook_survives_success_or_an_exception_in_the_middle(model):
    before, weights = hooks(model.unet), {k: v.clone() for k, v in model.unet.state_dict().items()}
    layers = sites.layers(model.unet, ["ff", "update"])
    sample(model, layers)
    assert hooks(model.unet) == before
    with pytest.raises(ZeroDivisionError), Taps(model.unet, layers):
        raise ZeroDivisionError
    assert hooks(model.unet) == before and same_bits(weights, model.unet.state_dict())


def test_a_hook_that_cannot_be_placed_leaves_none_behind(model):
    before = hooks(model.unet)
    ghost = sites.Layer("no.such.module", sites.SITES["ff"], 4)
    with pytest.raises(KeyError), Taps(model.unet, [*sites.layers(model.unet, ["ff"]), ghost]):
        pass
    assert hooks(model.unet) == before


def test_a_call_that_nobody_told_the_taps_about_is_refused(model):
    with Taps(model.unet, sites.layers(model.unet, ["ff"])), pytest.raises(RecordingMismatch, match="nobody told"):
        model.unet(torch.ones(1, *model.latent_shape), torch.tensor(1), encoder_hidden_states=torch.zeros(1, 16, 32))


def test_a_timestep_other_than_told_is_refused(model):
    with Taps(model.unet, sites.layers(model.unet, ["ff"])) as taps:
        taps.tell(Rows(0, 5.0, torch.tensor([0]), ["cond"]))
        with pytest.raises(RecordingMismatch, match="told 5"):
            model.unet(torch.ones(1, *model.latent_shape), torch.tensor(1), encoder_hidden_states=torch.zeros(1, 16, 32))


def test_a_layer_that_did_not_fire_is_reported(model):
    with Taps(model.unet, sites.layers(model.unet, ["ff"])) as taps:
        taps.tell(Rows(0, 5.0, torch.tensor([0]), ["cond"]))
        with pytest.raises(RecordingMismatch, match="fired 0 times"):
            taps.check()


def test_a_prompt_that_was_never_recorded_is_reported(model):
    with pytest.raises(RecordingMismatch, match="never recorded"):
        Statistics(sites.layers(model.unet, ["ff"]), 1, [0]).to_tensors()


@pytest.mark.parametrize("cut", [1, 3, 7])
def test_moments_merged_in_any_split_agree(cut):
    rows = torch.randn(10, 4, generator=torch.Generator().manual_seed(0)).abs()

    def moments(part):
        result = Moments.empty(1, 4)
        result.add(0, part, part.square(), part)
        return result

    whole, merged = moments(rows), moments(rows[:cut]).merge(moments(rows[cut:]))
    for name, value in vars(whole).items():
        assert torch.allclose(value, getattr(merged, name), atol=1e-12), name
    assert torch.allclose(whole.m2[0] / 9, rows.double().var(dim=0))
