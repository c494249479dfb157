"""ESD equals its authors' loop written out, in every form; its pool leaves no pair out."""

import pytest
import torch

from tests import tiny
from workbench.diffusion import denoise as loop
from workbench.errors import MethodError
from workbench.methods.erasers import _training, esd
from workbench.models import text
from workbench.models.load import from_pipeline
from workbench.registry import method

PAIRS = [("an owl in ink style", "an owl"), ("a cat in ink style", "a cat"), ("a house in lineart style", "a house")]


@pytest.mark.parametrize(("n_asked", "n_made"), [(1, 3), (3, 3), (7, 7)])
@pytest.mark.parametrize("form", ["anchor", "erase_from"])
def test_no_pair_is_left_out(n_asked, n_made, form, monkeypatch):
    model, sampled, genuine = from_pipeline(tiny.pipeline(), "tiny"), [], loop.denoise

    def watched(model, states, *args, **kwargs):
        sampled.extend(states)
        return genuine(model, states, *args, **kwargs)

    monkeypatch.setattr(loop, "denoise", watched)
    settings = esd.Parameters(trajectories=n_asked, iterations=1, steps=2, form=form)
    esd.erase(model, PAIRS, settings)
    assert len(sampled) == n_made == esd.n_trajectories(settings, len(PAIRS))
    for state in text.encode(model, [pair[form == "erase_from"] for pair in PAIRS]):
        assert any(torch.allclose(state, other, atol=1e-5) for other in sampled)


def test_the_estimate_counts_the_pool_that_is_made():
    settings = esd.Parameters(trajectories=2, steps=5, iterations=1, batch=4)
    assert esd.passes(settings, 10) - esd.passes(settings, 2) == 8 * 5 * 2
    anew = esd.Parameters(trajectories=0, steps=50, iterations=200, batch=1)
    assert esd.passes(anew, 1) == 200 * 25 * 2 + 200 * 5.5


def noised_until(model, prompt, seed, call, given):
    """The UNet's input at a call of the base model's sampling loop for one prompt, and the timestep there."""
    scheduler = model.new_scheduler(given.steps)
    x = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(seed)).to(model.dtype) * scheduler.init_noise_sigma
    with_text, without = text.encode(model, [prompt]), text.unconditional(model)
    for t in scheduler.timesteps[:call]:
        scaled = scheduler.scale_model_input(x, t)
        cond, uncond = model.run_unet(scaled, t, with_text), model.run_unet(scaled, t, without)
        x = scheduler.step(uncond + given.guidance * (cond - uncond), t, x).prev_sample
    t = scheduler.timesteps[call]
    return scheduler.scale_model_input(x, t), t


def slow_esd(model, pairs, given):
    """ESD, one latent after the other: sample to a random step, ask the base model three times, train at c or c_from.

    Of 2024 with the forms concept and erase_from, of 2023 with empty, ours with anchor.
    """
    generator, own = torch.Generator().manual_seed(given.seed), dict(model.unet.named_parameters())
    weights = {name: own[name].detach().clone().requires_grad_(True) for name in esd.trained_names(model.unet, given.modules)}
    optimiser = torch.optim.Adam(weights.values(), lr=given.learning_rate)
    for _ in range(given.iterations):
        pair = torch.randint(len(pairs), (given.batch,), generator=generator).tolist()
        call = torch.randint(given.steps, (given.batch,), generator=generator).tolist()
        seed = torch.randint(2**31, (given.batch,), generator=generator).tolist()
        losses = []
        for row in range(given.batch):
            concept, anchor = pairs[pair[row]]
            c_from = anchor if given.form == "erase_from" else concept
            begin = {"concept": concept, "erase_from": anchor, "empty": "", "anchor": anchor}[given.form]
            away_from = anchor if given.form == "anchor" else ""
            with torch.no_grad():
                x, t = noised_until(model, c_from, seed[row], call[row], given)
                ask = lambda states, x=x, t=t: model.predict(x, t[None], states)  # noqa: E731
                start, towards, without = (ask(text.encode(model, [prompt])) for prompt in (begin, concept, away_from))
                target = start - given.eta * (towards - without)
                states = text.encode(model, [c_from])
            losses.append((model.predict(x, t[None], states, weights) - target).square().mean())
        optimiser.zero_grad()
        torch.stack(losses).mean().backward()
        optimiser.step()
    return {f"unet.{name}": weight.detach() for name, weight in weights.items()}


@pytest.mark.parametrize("form", ["concept", "erase_from", "empty", "anchor"])
@pytest.mark.parametrize("modules", ["x", "u", "x-strict", "all"])
def test_esd_is_the_authors_loop(exact, form, modules):
    model = exact
    given = esd.Parameters(form=form, modules=modules, iterations=3, steps=4, trajectories=0, batch=2, eta=2.0, seed=4)
    found, slow = esd.erase(model, PAIRS, given), slow_esd(model, PAIRS, given)
    own = {f"unet.{name}": weight for name, weight in model.unet.named_parameters()}
    assert found.keys() == slow.keys()
    assert all(torch.allclose(weight, slow[name], rtol=0, atol=1e-9) for name, weight in found.items())
    assert max((weight - own[name]).abs().max() for name, weight in found.items()) > 1e-3


def test_a_killed_training_continues_to_the_same_weights(model, monkeypatch):
    monkeypatch.setattr(_training, "KEEP_EVERY", 0.0)
    monkeypatch.setattr(_training, "KEEPING", 0.0)
    parameters, saved = esd.Parameters(iterations=4, steps=3, trajectories=3, batch=2), {}
    whole = esd.erase(model, PAIRS, parameters)

    def keep(name, state):
        saved[name] = {key: {n: v.clone() for n, v in value.items()} if key == "weights" else value for key, value in state.items()}
        if state["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        esd.erase(model, PAIRS, parameters, keep=keep)
    steps = []
    again = esd.erase(model, PAIRS, parameters, kept=saved.get, progress=lambda step, of, loss: steps.append((step, of)))
    assert all(torch.equal(again[name], value) for name, value in whole.items()) and steps == [(3, 4), (4, 4)]


def test_erasing_from_another_prompt_moves_that_prompt(model):
    """Its loss is held at the anchor: the anchor's answer moves by more than the concept's."""
    given = esd.Parameters(form="erase_from", iterations=40, steps=4, trajectories=6, batch=3, eta=1.0, learning_rate=3e-3)
    losses = []
    changed = esd.erase(model, PAIRS, given, progress=lambda step, of, loss: losses.append(loss))
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5]) and set(changed) == {f"unet.{name}" for name in esd.trained_names(model.unet, "x")}
    assert esd.Parameters().form == "anchor" and not esd.n_trajectories(esd.Parameters(trajectories=0), 3)


def test_an_anchor_to_erase_from_must_be_there(model):
    given = method("erasers", "esd").parameters(form="erase_from", iterations=1, steps=2)
    with pytest.raises(MethodError, match='the pair of "cat in ink" has none. Give the prompt to erase from'):
        esd.erase(model, [PAIRS[0], ("cat in ink", " ")], given)


def test_a_draw_without_a_pool_stops_where_it_is_asked(model, monkeypatch):
    calls, genuine = [], type(model).run_unet
    monkeypatch.setattr(
        type(model), "run_unet", lambda self, latents, *rest, **more: calls.append(len(latents)) or genuine(self, latents, *rest, **more)
    )
    _, path = loop.denoise(model, text.encode(model, ["owl"]), text.unconditional(model), [3], n_steps=5, guidance=2.0, keep=[2], last=2)
    assert len(calls) == 2 and path.calls == [2]
    whole = loop.denoise(model, text.encode(model, ["owl"]), text.unconditional(model), [3], n_steps=5, guidance=2.0, keep=[2])[1]
    assert torch.equal(whole.inputs, path.inputs) and len(calls) == 2 + 5
