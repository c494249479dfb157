"""Masks from formulas: each equals its slow reference; controls cut as many weights of each layer as what they control."""

import pytest
import torch

from tests import tiny
from workbench.errors import MethodError
from workbench.methods.erasers import _inputs, _layers, _pool, cad, fia, magnitude, random_mask, wanda
from workbench.models.load import from_pipeline
from workbench.models.variants import Variant, applied

PAIRS = [("owl in ink style", "owl"), ("cat in ink", "cat")]
SAMPLED = {"steps": 3, "calls": 2, "seeds": 1}


def test_fia_prunes_for_a_single_concept_and_refuses_to_prune_nothing(model):
    single = fia.erase(model, PAIRS, fia.Parameters(**SAMPLED))
    assert sum(int(mask.sum()) for mask in single.values()) > 0
    pairs = [*PAIRS, ("owl in lineart style", "owl"), ("cat in lineart", "cat")]
    with pytest.raises(MethodError, match="prune nothing"):
        fia.erase(model, pairs, fia.Parameters(**SAMPLED, concepts=["ink", "lineart"], alpha=0.5))
    with pytest.raises(MethodError, match="says none"):
        fia.erase(model, pairs, fia.Parameters(**SAMPLED, concepts=["ink"]))
    with pytest.raises(MethodError, match="two prompts"):
        fia.erase(model, PAIRS[:1], fia.Parameters(**SAMPLED))


def test_sizes_are_those_of_the_layer_inputs_of_the_cond_branch(model):
    name = next(iter(_layers.candidates(model.unet, ["reads"])))
    given, seen = _inputs.Sampled(**SAMPLED), []
    found = _inputs.sizes(model, ["owl", "cat"], given, [name], _inputs.norm)[name]
    layer = dict(model.unet.named_modules())[name.removesuffix(".weight")]
    handle = layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    _inputs.sizes(model, ["owl", "cat"], given, [], _inputs.norm)
    handle.remove()
    cond = [one for one in seen if len(one) == 2]
    assert found.shape[:2] == (2, 2) and len(cond) == 2
    slow = [[[sum(float(x) ** 2 for x in one[p, :, i]) ** 0.5 for i in range(3)] for one in cond] for p in range(2)]
    assert torch.allclose(found[:, :, :3], torch.tensor(slow), rtol=1e-4)
    assert not layer._forward_pre_hooks


def test_cad_is_the_slope_of_removing_a_weight():
    weights = {"a": torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)}
    losses = [lambda own, k=k: (own["a"] * torch.tensor([1.0, k, 3.0])).square().sum() for k in (1.0, 2.0)]
    alpha = cad.attribution(None, weights, losses)["a"]
    total, h = lambda w: sum(loss({"a": w}) for loss in losses), 1e-6
    for i in range(3):
        smaller = weights["a"].clone()
        smaller[i] *= 1 - h
        assert (total(weights["a"]) - total(smaller)).item() / h == pytest.approx(alpha[i].item(), rel=1e-4)


@torch.no_grad()
def loss(model, form, given):
    """J on the latents and draws that the mask was made from."""
    base, g = from_pipeline(tiny.pipeline(), "tiny"), torch.Generator().manual_seed(given.seed)
    if form == "erase":
        pool = _pool.along_trajectories(base, PAIRS, given, 2)
        total = 0.0
        for call, at in enumerate(pool.timesteps):
            target = base.predict(pool.latents[:, call], at, pool.empty.expand(2, -1, -1))
            total += (target - model.predict(pool.latents[:, call], at, pool.concept)).square().sum().item()
        return total
    pool = _pool.of_images(base, [(pair[0], pair[0]) for pair in PAIRS], given, 2)
    drawn = [pool.draw(base, g, 2) for _ in range(given.draws)]
    return sum((one.noise - model.predict(one.noised, one.at, pool.concept[one.pair])).square().sum().item() for one in drawn)


@pytest.mark.parametrize("form", ["erase", "amplify"])
def test_cad_cuts_at_most_its_share_and_lowers_its_loss(model, form):
    given = cad.Parameters(form=form, steps=3, trajectories=2, draws=3, share=0.02)
    masks = cad.erase(model, PAIRS, given)
    before = loss(model, form, given)
    with applied(model, Variant("cut", masks=masks)):
        assert loss(model, form, given) < before
    assert all(0 < int(mask.sum()) <= round(0.02 * mask.numel()) for mask in masks.values())


def test_controls_cut_as_many_weights_of_each_layer(model):
    given = {"share": 0.05}
    like = wanda.erase(model, PAIRS, wanda.Parameters(**SAMPLED, layers=["feeds", "reads"], group="global", **given))
    counts = {name: int(mask.sum()) for name, mask in like.items()}
    assert len(set(counts.values())) > 1
    for one in (magnitude, random_mask):
        mask = one.erase(model, PAIRS, one.Parameters(layers=["feeds", "reads"]), like=like)
        assert {name: int(part.sum()) for name, part in mask.items()} == counts
        with pytest.raises(MethodError, match="Set `layers`"):
            one.erase(model, PAIRS, one.Parameters(layers=["attention"]), like=like)


def test_lots_depend_on_the_seed_alone(model):
    first, again, other = (random_mask.erase(model, [], random_mask.Parameters(seed=seed)) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("group", ["row", "layer", "global"])
def test_wanda_and_cad_cut_off_where_they_count(model, group):
    """0.0275 of a row of 128 is 3.52 weights, of 64 it is 1.76."""
    width = {name: weight.shape for name, weight in _layers.candidates(model.unet, ["reads"]).items()}
    mask = wanda.erase(model, PAIRS, wanda.Parameters(**SAMPLED, share=0.0275, group=group))
    alpha = cad.erase(model, PAIRS, cad.Parameters(steps=3, trajectories=2, share=0.0275, group=group, layers=["reads"]))
    for name, (rows, columns) in width.items():
        found = mask[f"unet.{name}"]
        if group == "row":
            assert found.sum(dim=1).tolist() == [int(0.0275 * columns)] * rows and int(0.0275 * columns) < round(0.0275 * columns)
            assert alpha[f"unet.{name}"].sum(dim=1).max() <= int(0.0275 * columns)
        elif group == "layer":
            assert int(found.sum()) == int(0.0275 * rows * columns)
    if group == "global":
        assert sum(int(one.sum()) for one in mask.values()) == int(0.0275 * sum(rows * columns for rows, columns in width.values()))
