"""STEREO equals Algorithm 1 written out row by row; its vectors answer for the concept; a killed training continues; its file is read."""

import io
import math

import pytest
import torch

from tests.methods.trained import comes_back
from workbench import registry
from workbench.errors import MethodError
from workbench.methods.erasers import _pool, _stereo, _training, esd, stereo
from workbench.models import text

PAIRS = [("an owl in ink style", "an owl"), ("cat in ink", "cat"), ("a lineart, house", "a house")]
METHOD = registry.method("erasers", "stereo")
SMALL = {"rounds": 2, "erase_iterations": 2, "search_iterations": 2, "iterations": 2, "steps": 3, "images": 3, "batch": 2}


def mean_square(losses):
    return torch.stack([one.square().mean() for one in losses]).mean()


def slow_stereo(model, pairs, templates, given):
    """Algorithm 1, one latent after the other; draws in the order of the eraser's."""
    generator, own = torch.Generator().manual_seed(given.seed), dict(model.unet.named_parameters())
    images = _pool.of_images(model, pairs, given, max(given.images, len(pairs)), "concept").latents
    first = {name: own[name].detach() for name in esd.trained_names(model.unet, given.modules)}
    theta, found, losses = {name: weight.clone() for name, weight in first.items()}, [], []
    words, alphas = text.token_vectors(model).detach(), model.scheduler.alphas_cumprod.double()
    draw = lambda high, n=given.batch: torch.randint(high, (n,), generator=generator).tolist()  # noqa: E731

    def latents():
        which, t = draw(len(images)), draw(model.scheduler.config.num_train_timesteps)
        noise = torch.randn(given.batch, *model.latent_shape, generator=generator).double()
        for row in range(given.batch):
            a = alphas[t[row]]
            x = a.sqrt() * images[which[row]] + (1 - a).sqrt() * noise[row]
            yield which[row] % len(pairs), x[None], torch.tensor([t[row]]), noise[row][None]

    def with_vector(pair, vector):
        return text.encode(model, [templates[pair]], vector[None])

    def prompt(pair, side):
        return text.encode(model, [pairs[pair][0]]) if side == 0 else with_vector(pair, found[side - 1])

    def fine_tune(start, steps, target_of):
        weights = {name: weight.clone().requires_grad_(True) for name, weight in start.items()}
        optimiser = torch.optim.Adam(weights.values(), lr=given.learning_rate)
        for _ in range(steps):
            rows = list(latents())
            sides, errors = draw(len(found) + 1), []
            for side, (pair, x, t, _) in zip(sides, rows, strict=True):
                with torch.no_grad():
                    asked = prompt(pair, side)
                    target = target_of(lambda states, x=x, t=t: model.predict(x, t, states, start), asked, pair)
                errors.append(model.predict(x, t, asked, weights) - target)
            optimiser.zero_grad()
            mean_square(errors).backward()
            optimiser.step()
            losses.append(mean_square(errors).item())
        return {name: weight.detach() for name, weight in weights.items()}

    def erased(ask, asked, pair):
        empty = ask(text.unconditional(model))
        return empty - given.eta * (ask(asked) - empty)

    def composed(ask, asked, pair):
        empty = ask(text.unconditional(model))
        anchor = given.eta * (ask(text.encode(model, [pairs[pair][1]])) - empty)
        away = sum(given.eta * (ask(text.encode(model, ["<*>"], vector[None])) - empty) for vector in found) / len(found)
        return empty + anchor - away

    for _ in range(given.rounds):
        theta = fine_tune(theta, given.erase_iterations, erased)
        vector = words[draw(len(words), given.vectors)].clone().requires_grad_(True)
        optimiser = torch.optim.Adam([vector], lr=given.search_rate)
        for _ in range(given.search_iterations):
            errors = [model.predict(x, t, with_vector(pair, vector), theta) - noise for pair, x, t, noise in latents()]
            (vector.grad,) = torch.autograd.grad(mean_square(errors), [vector])
            optimiser.step()
            losses.append(mean_square(errors).item())
        found.append(vector.detach().clone())
    return fine_tune(first, given.iterations, composed), losses


@pytest.mark.parametrize("modules", ["x", "u", "x-strict", "all"])
def test_it_is_algorithm_1_row_by_row(exact, modules):
    given = METHOD.parameters(**SMALL | {"modules": modules, "eta": 2.0, "seed": 3, "vectors": 2, "erase_iterations": 3})
    log = []
    found = METHOD.call(exact, PAIRS, given, log=log)
    slow, losses = slow_stereo(exact, PAIRS, ["an owl <*>", "cat <*>", "a <*> house"], given)
    own = exact.parameters()
    assert [loss for _, loss in log] == pytest.approx(losses, rel=1e-7)
    assert found.keys() == {f"unet.{name}" for name in slow}
    assert all(torch.allclose(value, slow[name.removeprefix("unet.")], rtol=0, atol=1e-8) for name, value in found.items())
    assert max((value - own[name]).abs().max() for name, value in found.items()) > 1e-3


@pytest.mark.parametrize(
    ("prompt", "anchor", "expected"),
    [
        ("a bomb, noto", "an emoji in noto style", "<*> noto"),
        ("twitter style emoji of a bomb", "an emoji in twitter style", "twitter style emoji <*>"),
        ("an owl, ink", "an owl", "an owl, <*>"),
        ("ink style emoji of an Owl", "an owl", "<*> an Owl"),
        ("nudity", "", "<*>"),
        ("owl", "an owl", "owl <*>"),
    ],
)
def test_vectors_stand_where_the_concept_is_named(prompt, anchor, expected):
    assert _stereo.with_place(prompt, anchor) == expected


def test_the_search_finds_vectors_that_answer_for_the_concept(model):
    """On latents of its own, the noise asked for with a found vector is nearer to the truth than with the word it began with."""
    given = METHOD.parameters(**SMALL | {"rounds": 1, "search_iterations": 80, "search_rate": 0.05, "batch": 6, "learning_rate": 1e-6})
    names = esd.trained_names(model.unet, "x")
    training = _stereo.Training(model, PAIRS, names, given)
    for _ in range(given.erase_iterations):
        training.improve()
    training.improve()
    started = training.vectors.detach().clone()
    while training.stage()[0] == "search":
        training.improve()
    fresh = training.pool.draw(model, torch.Generator().manual_seed(99), 200)

    def far(vectors):
        with torch.no_grad():
            return (model.predict(fresh.noised, fresh.at, training.states_with(vectors, fresh.pair)) - fresh.noise).square().mean()

    assert len(training.found) == 1 and far(training.found[0]) < 0.999 * far(started)


def test_the_last_erasing_begins_at_the_model_and_its_loss_falls(model):
    given = METHOD.parameters(**SMALL | {"iterations": 60, "learning_rate": 5e-3, "batch": 4})
    log, before = [], model.digest()
    METHOD.call(model, PAIRS, given, log=log)
    losses = [loss for step, loss in log if step > 8]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10]) and model.digest() == before
    assert [step for step, _ in log] == list(range(1, stereo.n_steps(given) + 1)) and all(math.isfinite(loss) for _, loss in log)
    assert not any(parameter.requires_grad for parameter in model.unet.parameters())


@pytest.mark.parametrize("killed_after", [1, 2, 3, 4, 6, 8, 9])
def test_a_killed_training_continues_to_the_same_weights(model, monkeypatch, killed_after):
    """In the middle and at the end of every stage."""
    monkeypatch.setattr(_training, "KEEP_EVERY", 0.0)
    monkeypatch.setattr(_training, "KEEPING", 0.0)
    parameters, saved = METHOD.parameters(**SMALL), {}
    whole = METHOD.call(model, PAIRS, parameters)

    def keep(name, state):
        saved[name] = copied(state)
        if state["step"] == killed_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        METHOD.call(model, PAIRS, parameters, keep=keep)
    log, steps = [], []
    tell = lambda step, of, loss: steps.append((step, of, loss))  # noqa: E731
    again = METHOD.call(model, PAIRS, parameters, kept=saved.get, log=log, progress=tell)
    assert all(torch.equal(again[name], value) for name, value in whole.items())
    assert [step for step, _ in log] == list(range(1, 11)) and [one[:2] for one in steps] == [(n, 10) for n in range(killed_after + 1, 11)]


def copied(state):
    """A state as the run folder gives it back."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_what_it_wrote_comes_back(tiny_folder, tmp_path):
    comes_back(METHOD, SMALL, tiny_folder, tmp_path, least=10)


def test_the_estimate_counts_every_stage():
    given = stereo.Parameters(rounds=3, erase_iterations=5, search_iterations=7, iterations=11, batch=2, images=4, steps=10)
    assert stereo.passes(given, 6) == 6 * 10 * 2 + 2 * (3 * (5 * 4.5 + 7 * 2.5) + 11 * (5 + 2.5))


def test_what_it_cannot_train_is_refused(model):
    with pytest.raises(MethodError, match="needs prompts with the concept"):
        METHOD.call(model, [], METHOD.parameters(**SMALL))
