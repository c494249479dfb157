"""Fine-tuning by Adam in the backward pass is plain Adam, bit for bit, and never holds all gradients."""

import gc
import weakref
from types import SimpleNamespace

import pytest
import torch

from tests import tiny
from workbench.methods.erasers import esd
from workbench.methods.erasers._training import InBackward, fine_tuned
from workbench.models.load import from_pipeline

GIVEN = SimpleNamespace(iterations=4, learning_rate=1e-2)


@pytest.fixture(scope="module")
def model():
    return from_pipeline(tiny.pipeline(), "tiny")


def loss_with(model):
    """A loss of the UNet's weights on inputs that change from step to step."""
    generator = torch.Generator().manual_seed(3)

    def loss_of(weights):
        x, states = torch.randn(2, *model.latent_shape, generator=generator), torch.randn(2, 16, 32, generator=generator)
        return (model.predict(x, torch.tensor([10, 700]), states, weights) - 1).square().mean()

    return loss_of


def plain_adam(model, names, still):
    """All gradients, then one step of Adam over all weights; (weights, the optimiser)."""
    own, loss_of = dict(model.unet.named_parameters()), loss_with(model)
    weights = {name: own[name].detach().clone().requires_grad_(True) for name in names}
    optimiser = torch.optim.Adam(weights.values(), lr=GIVEN.learning_rate)
    for _ in range(GIVEN.iterations):
        optimiser.zero_grad()
        loss_of(weights).backward()
        for name, places in still.items():
            weights[name].grad[places] = 0
        optimiser.step()
    return {f"unet.{name}": weight.detach() for name, weight in weights.items()}, optimiser


@pytest.mark.parametrize("modules", ["x", "u", "all"])
def test_the_weights_are_those_of_plain_adam(model, modules):
    names = esd.trained_names(model.unet, modules)
    still = {name: torch.rand(dict(model.unet.named_parameters())[name].shape) < 0.5 for name in names[:3]}
    before = model.digest()
    expected, _ = plain_adam(model, names, still)
    found = fine_tuned(model, names, GIVEN, loss_with(model), still=still)
    assert set(found) == set(expected) and all(torch.equal(found[name], value) for name, value in expected.items())
    own = model.parameters()
    assert any(not torch.equal(found[name], own[name]) for name in found) and model.digest() == before


def test_gradients_are_dropped_as_they_come(model):
    names, most = esd.trained_names(model.unet, "all"), []
    own, loss_of = dict(model.unet.named_parameters()), loss_with(model)
    weights = {name: own[name].detach().clone().requires_grad_(True) for name in names}
    with InBackward(weights, 1e-2, {}):
        for weight in weights.values():
            weight.register_post_accumulate_grad_hook(lambda _: most.append(sum(one.grad is not None for one in weights.values())))
        loss_of(weights).backward()
    assert len(most) == len(names) and max(most) == 0


def test_two_of_them_share_weights_by_turns(model):
    """Each moves the weights only while it is entered, and with its own moments: as two Adams after whole backward passes do."""
    name = "conv_out.weight"
    start, loss_of = dict(model.unet.named_parameters())[name].detach(), lambda weight, step: ((weight - step) ** 2 * (1 + step)).sum()
    weight, plain = (start.clone().requires_grad_(True) for _ in range(2))
    both = [InBackward({name: weight}, rate, {}) for rate in (1e-2, 3e-2)]
    adams = [torch.optim.Adam([plain], lr=rate) for rate in (1e-2, 3e-2)]
    for step in range(5):
        with both[step % 2]:
            loss_of(weight, step).backward()
        adams[step % 2].zero_grad()
        loss_of(plain, step).backward()
        adams[step % 2].step()
    assert torch.equal(weight, plain) and weight.grad is None
    loss_of(weight, 1).backward()
    assert torch.equal(weight, plain) and weight.grad is not None


def test_nothing_of_the_training_is_left_without_a_collection_of_garbage(model, monkeypatch):
    names, made, genuine = esd.trained_names(model.unet, "x"), [], torch.optim.Adam
    monkeypatch.setattr(torch.optim, "Adam", lambda *given, **more: (one := genuine(*given, **more), made.append(weakref.ref(one)))[0])
    gc.collect()
    gc.disable()
    try:
        found = fine_tuned(model, names, GIVEN, loss_with(model))
        assert len(made) == len(names) and not any(one() for one in made)
        with pytest.raises(ZeroDivisionError):
            fine_tuned(model, names, GIVEN, lambda weights: 1 / 0)
        assert len(made) == 2 * len(names)
    finally:
        gc.enable()
    assert not any(value.requires_grad or value._post_accumulate_grad_hooks for value in found.values())


def test_its_state_is_that_of_one_adam_and_either_goes_on_from_the_others(model):
    names = esd.trained_names(model.unet, "x")
    expected, adam = plain_adam(model, names, {})
    weights = {name: torch.zeros_like(expected[f"unet.{name}"], requires_grad=True) for name in names}
    ours = InBackward(weights, GIVEN.learning_rate, {})
    ours.load_state_dict(adam.state_dict())
    found = ours.state_dict()
    assert found["param_groups"] == adam.state_dict()["param_groups"]
    for place, state in adam.state_dict()["state"].items():
        assert set(state) == set(found["state"][place]) and all(torch.equal(state[key], found["state"][place][key]) for key in state)
    adam.load_state_dict(found)
    assert InBackward(weights, 1e-2, {}).state_dict()["state"] == {}
