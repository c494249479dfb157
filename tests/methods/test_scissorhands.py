"""Scissorhands: what is reinitialised and the training equal slow references, a killed training continues, what it wrote is read."""

import math

import pytest
import torch

from tests.methods.test_salun import PAIRS, RETAINED, drawn, noised
from tests.methods.trained import comes_back, continues
from workbench import registry
from workbench.errors import MethodError
from workbench.methods.erasers import _pool, scissorhands
from workbench.models import text

METHOD = registry.method("erasers", "scissorhands")
SMALL = {"iterations": 3, "rounds": 2, "steps": 3, "images": 3, "batch": 2, "share": 0.2}


def slow(model, given):
    """({name: weight}, {name: mask of what is reinitialised}): one row after the other, weights ranked one by one."""
    generator, own = torch.Generator().manual_seed(given.seed), dict(model.unet.named_parameters())
    weights = {name: value.detach().clone().requires_grad_(True) for name, value in own.items()}
    images = _pool.of_images(model, PAIRS, given, given.images, "concept").latents
    others = _pool.of_images(model, [(one, one) for one in RETAINED], given, given.images).latents
    ask = lambda x, t, prompt: model.predict(x, t, text.encode(model, [prompt]), weights)  # noqa: E731

    sizes = [torch.zeros_like(weight) for weight in weights.values()]
    g = given.mask_guidance
    for _ in range(given.rounds):
        rows = torch.randint(len(images), (given.batch,), generator=generator).tolist()
        at = torch.randint(model.scheduler.config.num_train_timesteps, (given.batch,), generator=generator)
        noise = torch.randn(given.batch, *model.latent_shape, generator=generator).double()
        loss = 0
        for place, row in enumerate(rows):
            x, t = noised(model, images[row], at[place], noise[place]), at[place][None]
            predicted = (1 + g) * ask(x, t, PAIRS[row % 2][0]) - (g * ask(x, t, "") if g else 0)
            loss = loss + ((noise[place] - predicted) ** 2).mean() / given.batch
        for size, gradient in zip(sizes, torch.autograd.grad(loss, list(weights.values())), strict=True):
            size += gradient.abs()
    sizes = [size * weight.detach().abs() for size, weight in zip(sizes, weights.values(), strict=True)]
    flat = torch.cat([size.flatten() for size in sizes])
    edge = sorted(flat.tolist(), reverse=True)[int(given.share * len(flat)) - 1]
    masks = {}
    for (name, weight), size in zip(weights.items(), sizes, strict=True):
        mask = size >= edge
        if ".attn1." not in name or not mask.any():
            continue
        masks[name], fresh = mask, torch.zeros(weight.shape)
        if name.endswith("weight") and given.fresh == "kaiming":
            fresh.uniform_(-math.sqrt(6 / weight.shape[1]), math.sqrt(6 / weight.shape[1]), generator=generator)
        elif name.endswith("weight"):
            torch.nn.init.trunc_normal_(fresh, std=0.02, generator=generator)
        with torch.no_grad():
            weight[mask] = fresh.double()[mask]

    optimiser = torch.optim.Adam(weights.values(), lr=given.learning_rate)
    for _ in range(given.iterations):
        held = [(ask(x, t, RETAINED[w % 2]) - noise).square().mean() for w, x, t, noise in drawn(model, generator, others, given.batch)]
        forgotten = []
        for which, x, t, noise in drawn(model, generator, images, given.batch):
            answer = ask(x, t, PAIRS[which % 2][0])
            wanted = noise if given.form == "ascent" else ask(x, t, PAIRS[which % 2][1]).detach()
            forgotten.append((-1 if given.form == "ascent" else 1) * (answer - wanted).square().mean())
        loss = torch.stack(held).mean() + given.forgetting * torch.stack(forgotten).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return {name: weight.detach() for name, weight in weights.items()}, masks


@pytest.mark.parametrize(
    "more", [{"form": "anchor", "fresh": "kaiming"}, {"form": "ascent", "fresh": "normal", "mask_guidance": 0.0, "forgetting": 0.1}]
)
def test_it_is_its_formula_row_by_row(exact, more):
    given = METHOD.parameters(**SMALL | more | {"seed": 3})
    found, (by_hand, masks) = METHOD.call(exact, PAIRS, given, retained=RETAINED), slow(exact, given)
    assert found.keys() == {f"unet.{name}" for name in by_hand} and masks
    # Adam's first step has the size of the rate whatever the gradient, so that its sign must agree and not its last digits
    assert all(torch.allclose(found[f"unet.{name}"], value, rtol=0, atol=1e-6) for name, value in by_hand.items())


def test_without_training_only_what_may_be_reinitialised_has_changed(model):
    given = METHOD.parameters(**SMALL | {"iterations": 1, "learning_rate": 1e-30})
    found, own = METHOD.call(model, PAIRS, given, retained=RETAINED), model.parameters()
    places = {name: (found[name] - own[name]).abs() > 1e-20 for name in found}  # the one step moves what is 0 by the rate
    changed = {name: mask for name, mask in places.items() if mask.any()}
    assert changed and all(".attn1." in name for name in changed)
    assert 0 < sum(int(mask.sum()) for mask in changed.values()) <= int(0.2 * sum(value.numel() for value in own.values()))
    bound = max(math.sqrt(6 / value.shape[1]) for value in own.values() if value.dim() == 2)
    assert all(float(found[name][mask].abs().max()) <= bound for name, mask in changed.items())


def test_the_places_of_the_published_code_are_in_the_names_of_diffusers():
    yes = "up_blocks.1.attentions.1.transformer_blocks.0.attn1.to_q.weight"
    assert scissorhands.may_be_reinitialised(yes, "published") and scissorhands.may_be_reinitialised(yes, "self")
    for no in (yes.replace("attn1", "attn2"), yes.replace("attentions.1", "attentions.0"), yes.replace("up_blocks.1", "up_blocks.3")):
        assert not scissorhands.may_be_reinitialised(no, "published") and scissorhands.may_be_reinitialised(no, "full")


def test_a_whole_network_that_is_reinitialised_has_norms_of_one_and_biases_of_zero(model):
    given = METHOD.parameters(**SMALL | {"trimmed": "full", "share": 1.0})
    sizes = {name: torch.ones_like(weight) for name, weight in model.unet.named_parameters()}
    found = scissorhands.trim(model, sizes, given, torch.Generator().manual_seed(0))
    assert found.keys() == sizes.keys()
    flat = {name: value for name, value in found.items() if value.dim() == 1}
    assert all(bool((value == float(name.endswith(".weight"))).all()) for name, value in flat.items()) and flat


def test_the_loss_falls_and_the_model_stays(model):
    log, before = [], model.digest()
    given = METHOD.parameters(**SMALL | {"iterations": 60, "batch": 4, "learning_rate": 3e-3})
    METHOD.call(model, PAIRS, given, log=log)
    losses = [loss for _, loss in log]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10]) and model.digest() == before and all(map(math.isfinite, losses))
    assert not any(parameter.requires_grad for parameter in model.unet.parameters())


def test_a_killed_training_continues_to_the_same_weights(model, monkeypatch):
    continues(monkeypatch, METHOD, model, PAIRS, METHOD.parameters(**SMALL | {"iterations": 4}), retained=RETAINED)


def test_what_it_wrote_comes_back(tiny_folder, tmp_path):
    comes_back(METHOD, SMALL, tiny_folder, tmp_path, least=100)


def test_the_estimate_counts_both_sets_of_images_the_rounds_and_the_steps():
    given = scissorhands.Parameters(images=4, steps=5, iterations=3, batch=2, rounds=3)
    assert scissorhands.passes(given, 6) == (6 + 4) * 5 * 2 + 3 * 2 * 5 + 3 * 2 * 6
    assert scissorhands.passes(given.model_copy(update={"form": "ascent", "mask_guidance": 0.0}), 6) == 100 + 15 + 3 * 2 * 5
    assert scissorhands.passes(given.model_copy(update={"forgetting": 0.0}), 6) == 100 + 30 + 3 * 2 * 2.5


def test_what_it_cannot_train_is_refused(model):
    with pytest.raises(MethodError, match="needs prompts with the concept"):
        METHOD.call(model, [], METHOD.parameters(**SMALL))
    with pytest.raises(MethodError, match="none is reinitialised"):
        METHOD.call(model, PAIRS, METHOD.parameters(**SMALL | {"share": 1e-9}))
