"""Hard concrete gates: their law, their spread over neurons, and cutting exactly."""

import pytest
import torch

from tests import reference_masks
from workbench.errors import MethodError
from workbench.methods.erasers import _gates, _layers, learned_mask


def test_gates_are_the_formula():
    phi = torch.linspace(-4, 3, 50)
    found = _gates.sample(phi, torch.Generator().manual_seed(5))
    u = torch.rand(50, generator=torch.Generator().manual_seed(5))
    slow = [reference_masks.hard_concrete(a, b) for a, b in zip(u.tolist(), phi.tolist(), strict=True)]
    assert found.tolist() == pytest.approx(slow, abs=1e-5) and ((found > 0) & (found < 1)).any()


@pytest.mark.parametrize("phi", [-3.0, -1.0, 0.0, 2.0])
def test_the_expected_pruned_share_is_that_of_many_draws(phi):
    n = 40_000
    drawn = _gates.sample(torch.full((n,), phi), torch.Generator().manual_seed(0))
    expected = _gates.prunes(torch.tensor(phi)).item()
    assert (drawn == 0).float().mean().item() == pytest.approx(expected, abs=4 * (expected * (1 - expected) / n) ** 0.5 + 1e-4)


def test_a_closed_gate_silences_a_fed_neuron_and_no_other(model):
    weights = _layers.candidates(model.unet, ["feeds"])
    gated, name = _gates.Gated(model.unet, weights, "neuron", 3.0), next(iter(weights))
    gates = {one: torch.ones_like(phi) for one, phi in gated.phi.items()}
    gates[name][2] = 0
    layer = dict(model.unet.named_modules())[name.removesuffix(".proj.weight")]
    inputs = torch.randn(3, weights[name].shape[1])
    own = {
        one.removeprefix(name.removesuffix("proj.weight")): value
        for one, value in gated.applied(gates).items()
        if one.startswith(name[:-6])
    }
    after, before = torch.func.functional_call(layer, own, (inputs,)), layer(inputs)
    others = [i for i in range(after.shape[1]) if i != 2]
    assert (after[:, 2] == 0).all() and (before[:, 2] != 0).all()
    assert torch.equal(after[:, others], before[:, others])


@pytest.mark.parametrize("group", ["row", "layer", "global"])
def test_exactly_the_smallest_are_cut_and_ties_go_by_position(group):
    torch.manual_seed(0)
    scores = {"a": torch.randint(6, (4, 10)).float(), "b": torch.randint(6, (2, 30)).float()}
    weights = {name: torch.ones_like(one) for name, one in scores.items()}
    found = _layers.cut(scores, 0.3, group, weights)
    if group == "row":
        parts = [(found[f"unet.{name}"][r], one[r]) for name, one in scores.items() for r in range(len(one))]
    elif group == "layer":
        parts = [(found[f"unet.{name}"].flatten(), one.flatten()) for name, one in scores.items()]
    else:
        parts = [(torch.cat([one.flatten() for one in found.values()]), torch.cat([one.flatten() for one in scores.values()]))]
    for mask, one in parts:
        chosen = reference_masks.smallest(one.tolist(), round(0.3 * len(one)))
        assert set(mask.nonzero().flatten().tolist()) == chosen


def test_what_is_zero_already_is_not_cut_again():
    weights = {"a": torch.tensor([[0.0, 0.0, 1.0, 2.0]])}
    mask = _layers.cut({"a": weights["a"].abs()}, 0.25, "layer", weights)["unet.a"]
    assert mask.tolist() == [[False, False, True, False]]
    with pytest.raises(MethodError, match="fewer weights left"):
        _layers.cut({"a": weights["a"].abs()}, 0.9, "layer", weights)
    with pytest.raises(MethodError, match="Nothing would be cut"):
        _layers.cut({"a": weights["a"].abs()}, 0.01, "layer", weights)


@pytest.mark.parametrize("unit", ["weight", "neuron"])
@pytest.mark.parametrize("group", ["layer", "global"])
def test_binarising_takes_the_exact_share_the_same_every_time(model, unit, group):
    weights = _layers.candidates(model.unet, ["feeds", "reads", "attention"])
    gated = _gates.Gated(model.unet, weights, unit, 3.0)
    for seed, phi in enumerate(gated.phi.values()):
        phi.data = torch.randn(phi.shape, generator=torch.Generator().manual_seed(seed)).round(decimals=1)
    first, again = (learned_mask.binarised(gated, 0.1, group) for _ in range(2))
    assert first.keys() == again.keys() and all(torch.equal(first[name], again[name]) for name in first)
    sizes = {name: phi.numel() for name, phi in gated.phi.items()}
    per_gate = {name: 1 if unit == "weight" else weights[name].numel() // phi.numel() for name, phi in gated.phi.items()}
    cut = {name: int(first[f"unet.{name}"].sum()) // per_gate[name] if f"unet.{name}" in first else 0 for name in sizes}
    if group == "layer":
        assert cut == {name: round(0.1 * size) for name, size in sizes.items()}
    assert group == "layer" or sum(cut.values()) == round(0.1 * sum(sizes.values()))
