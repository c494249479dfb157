"""SalUn: mask and loss equal slow references, nothing outside the mask moves, a killed training continues, its file is read."""

import math

import pytest
import torch

from tests.methods.trained import comes_back, continues
from workbench import registry
from workbench.errors import MethodError
from workbench.methods.erasers import _pool, _saliency, salun
from workbench.models import text

PAIRS = [("an owl in ink style", "an owl"), ("cat in ink", "cat")]
RETAINED = ["red house", "a garden"]
METHOD = registry.method("erasers", "salun")
SMALL = {"iterations": 3, "steps": 3, "images": 3, "batch": 2}


def noised(model, image, t, noise):
    a = model.scheduler.alphas_cumprod.double()[t]
    return (a.sqrt() * image + (1 - a).sqrt() * noise)[None]


def drawn(model, generator, images, batch):
    """(which image, x_t, t, noise) of every row of a step, in the order of the pool's draws."""
    which = torch.randint(len(images), (batch,), generator=generator).tolist()
    at = torch.randint(model.scheduler.config.num_train_timesteps, (batch,), generator=generator)
    noise = torch.randn(batch, *model.latent_shape, generator=generator).double()
    for row in range(batch):
        yield which[row], noised(model, images[which[row]], at[row], noise[row]), at[row][None], noise[row][None]


def slow_salun(model, given):
    """({name: weight}, {name: mask}): one row after the other, weights ranked one by one."""
    generator, own = torch.Generator().manual_seed(given.seed), dict(model.unet.named_parameters())
    names = [name for name in own if given.modules == "full" or ".attn2." in name]
    weights = {name: own[name].detach().clone().requires_grad_(True) for name in names}
    images = _pool.of_images(model, PAIRS, given, given.images, "concept").latents
    others = _pool.of_images(model, [(one, one) for one in RETAINED], given, given.images).latents
    ask = lambda x, t, prompt: model.predict(x, t, text.encode(model, [prompt]), weights)  # noqa: E731

    sums = [torch.zeros_like(weight) for weight in weights.values()]
    for first in range(0, len(images), given.batch):
        rows = range(first, min(first + given.batch, len(images)))
        at = torch.randint(model.scheduler.config.num_train_timesteps, (len(rows),), generator=generator)
        noise = torch.randn(len(rows), *model.latent_shape, generator=generator).double()
        for place, row in enumerate(rows):
            x, t = noised(model, images[row], at[place], noise[place]), at[place][None]
            predicted = 8.5 * ask(x, t, PAIRS[row % 2][0]) - 7.5 * ask(x, t, "")
            loss = -((noise[place] - predicted) ** 2).mean() / len(rows)
            for total, gradient in zip(sums, torch.autograd.grad(loss, list(weights.values())), strict=True):
                total += gradient
    flat = torch.cat([total.abs().flatten() for total in sums])
    edge = sorted(flat.tolist(), reverse=True)[int(given.share * len(flat)) - 1]
    masks = {name: total.abs() >= edge for name, total in zip(names, sums, strict=True)}

    optimiser = torch.optim.Adam(weights.values(), lr=given.learning_rate)
    for _ in range(given.iterations):
        forgotten = [
            (ask(x, t, PAIRS[which % 2][0]) - ask(x, t, PAIRS[which % 2][1]).detach()).square().mean()
            for which, x, t, _ in drawn(model, generator, images, given.batch)
        ]
        held = [(ask(x, t, RETAINED[w % 2]) - noise).square().mean() for w, x, t, noise in drawn(model, generator, others, given.batch)]
        loss = torch.stack(forgotten).mean() + given.retention * torch.stack(held).mean()
        optimiser.zero_grad()
        loss.backward()
        for name, weight in weights.items():
            weight.grad *= masks[name]
        optimiser.step()
    return {name: weight.detach() for name, weight in weights.items()}, masks


@pytest.mark.parametrize(("modules", "share"), [("full", 0.5), ("x", 0.3)])
def test_it_is_its_formula_row_by_row(exact, modules, share):
    given = METHOD.parameters(**SMALL | {"modules": modules, "share": share, "seed": 3})
    found, (slow, masks) = METHOD.call(exact, PAIRS, given, retained=RETAINED), slow_salun(exact, given)
    own = {name.removeprefix("unet."): value for name, value in exact.parameters().items()}
    assert found.keys() == {f"unet.{name}" for name in slow}
    # Adam's first step has the size of the rate whatever the gradient, so that its sign must agree and not its last digits
    assert all(torch.allclose(found[f"unet.{name}"], slow[name], rtol=0, atol=1e-6) for name in slow)
    for name, mask in masks.items():
        assert torch.equal(found[f"unet.{name}"][~mask], own[name][~mask])
    n = sum(mask.numel() for mask in masks.values())
    moved = sum(int((found[f"unet.{name}"] != own[name]).sum()) for name in masks)
    assert sum(int(mask.sum()) for mask in masks.values()) == int(share * n) and 0.9 * int(share * n) < moved <= int(share * n)


def test_the_mask_is_the_largest_share_over_all_layers_and_ties_are_broken_by_position():
    still = _saliency.outside({"a": torch.tensor([[1.0, 5.0], [2.0, 4.0]]), "b": torch.tensor([3.0, 0.0])}, 0.5)
    assert still["a"].tolist() == [[True, False], [True, False]] and still["b"].tolist() == [False, True]
    assert _saliency.outside({"a": torch.ones(5)}, 0.5)["a"].tolist() == [False, False, True, True, True]
    assert not _saliency.outside({"a": torch.ones(5)}, 1.0)["a"].any()


def test_the_loss_falls_and_the_model_stays(model):
    log, before = [], model.digest()
    given = METHOD.parameters(**SMALL | {"iterations": 60, "batch": 4, "learning_rate": 3e-3, "retention": 0.0})
    METHOD.call(model, PAIRS, given, log=log)
    losses = [loss for _, loss in log]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10]) and model.digest() == before and all(map(math.isfinite, losses))
    assert not any(parameter.requires_grad for parameter in model.unet.parameters())


def test_a_killed_training_continues_to_the_same_weights(model, monkeypatch):
    continues(monkeypatch, METHOD, model, PAIRS, METHOD.parameters(**SMALL | {"iterations": 4}), retained=RETAINED)


def test_what_it_wrote_comes_back(tiny_folder, tmp_path):
    comes_back(METHOD, SMALL, tiny_folder, tmp_path, least=100)


def test_the_estimate_counts_both_sets_of_images_the_mask_and_the_steps():
    given = salun.Parameters(images=4, steps=5, iterations=3, batch=2)
    assert salun.passes(given, 6) == (6 + 4) * 5 * 2 + 6 * 5 + 3 * 2 * 6
    assert salun.passes(given.model_copy(update={"retention": 0.0}), 6) == 100 + 30 + 3 * 2 * 3.5


def test_what_it_cannot_train_is_refused(model):
    with pytest.raises(MethodError, match="needs prompts with the concept"):
        METHOD.call(model, [], METHOD.parameters(**SMALL))
    with pytest.raises(MethodError, match="No weight would be trained"):
        METHOD.call(model, PAIRS, METHOD.parameters(**SMALL | {"share": 1e-9}))
