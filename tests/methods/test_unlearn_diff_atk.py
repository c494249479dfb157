"""UnlearnDiffAtk: projection, gradient and candidates against slow references."""

import numpy as np
import pytest
import torch

from tests.methods.attacked import context_of
from workbench.diffusion.objectives import denoising_loss, draw_noise
from workbench.methods.attacks._search import generator
from workbench.methods.attacks.unlearn_diff_atk import PUBLISHED, Parameters, SoftWords, attack, project_to_simplex
from workbench.models import load, text


@pytest.fixture
def context(model):
    return context_of(model)


def bisection(row):
    """The projection by the definition: the shift at which the clipped row sums to 1, halved 200 times."""
    low, high = row.min() - 1, row.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(row - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(row - low, 0)


def test_the_projection_is_that_of_bisection():
    rows = torch.randn(20, 3, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = np.apply_along_axis(bisection, -1, rows.numpy())
    assert np.allclose(project_to_simplex(rows).numpy(), expected, atol=1e-9)
    inside = torch.full((2, 4), 0.25)
    assert torch.equal(project_to_simplex(inside), inside)


def test_probabilities_stay_on_the_simplex_and_move(model, targets, context):
    searcher = SoftWords(model, targets, Parameters(timesteps=2, iterations=3), context)
    before = [c.detach().clone() for c in searcher.chances]
    searcher.step([0, 2], 1)
    for row in (0, 2):
        assert torch.allclose(searcher.chances[row].sum(-1), torch.ones(3), atol=1e-5) and (searcher.chances[row] >= 0).all()
        assert not torch.equal(searcher.chances[row], before[row])
    assert torch.equal(searcher.chances[1], before[1])


@pytest.mark.parametrize("shared", [False, True], ids=["adam", "direction"])
@pytest.mark.parametrize("log", [False, True], ids=["loss", "log"])
def test_the_probabilities_get_the_gradient_at_the_drawn_words(exact, targets, log, shared):
    """Straight through: the slope of what is minimised when a drawn one-hot row is moved towards another word."""
    context, parameters = context_of(exact), Parameters(n_tokens=2, log=log, shared=shared, weight_decay=0.0, seed=4)
    searcher = SoftWords(exact, targets, parameters, context)
    chances, draws = searcher.chances[2].detach().clone(), generator(4, "c", 1)
    words = torch.multinomial(chances, 1, generator=draws)[:, 0]
    drawn = torch.zeros_like(chances).scatter(1, words[:, None], 1.0).double()
    timesteps, (_, noise) = torch.tensor([searcher.timestep(1)]), draw_noise(exact, [draws])

    def minimised(rows):
        states = text.encode(exact, [targets.prompts[2]], (rows @ searcher.vectors)[None])
        loss = denoising_loss(exact, context.clean[[2]].double(), noise, timesteps, states).sum()
        return loss.log() if log else loss

    found = searcher.step([2], 1)
    with torch.no_grad():
        loss = minimised(drawn)
        assert found == pytest.approx([float(loss.exp() if log else loss)], rel=1e-9)
        slopes = torch.zeros_like(drawn)
        for place in range(2):
            for word in range(drawn.shape[1]):
                step = torch.zeros_like(drawn)
                step[place, word] = 1e-4
                slopes[place, word] = float(minimised(drawn + step) - minimised(drawn - step)) / 2e-4
        size = slopes.square().mean(dim=-1, keepdim=True).sqrt() if shared else 1
        assert torch.allclose(searcher.chances[2].grad.double(), slopes / size, rtol=2e-3, atol=1e-8 if not shared else 1e-4)


def test_timesteps_rise_from_10_to_990_when_nothing_is_left_out(model, targets, context):
    searcher = SoftWords(model, targets, Parameters(timesteps=50, iterations=40, noise=0.0), context)
    visited = [searcher.timestep(i) for i in range(1, 2001)]
    assert list(dict.fromkeys(visited)) == list(range(10, 1000, 20))
    assert all(visited.count(t) == 40 for t in set(visited))


def test_the_quiet_end_of_the_schedule_may_be_left_out(model, targets, context):
    searcher = SoftWords(model, targets, Parameters(timesteps=3, iterations=2, noise=0.4), context)
    assert [searcher.timestep(i) for i in range(1, 7)] == [500, 500, 700, 700, 900, 900]


def test_candidates_are_permitted_words_before_the_prompt(model, targets, context):
    made = attack(model, targets, Parameters(timesteps=2, iterations=3, looks=0), context)
    permitted = {model.tokenizer.convert_ids_to_tokens(i) for i in text.permitted_tokens(model, context.names)}
    for prompt, own in zip(made.prompts, targets.prompts, strict=True):
        assert prompt.endswith(f" {own}")
        words = prompt.removesuffix(own).split()
        assert len(words) == 3 and {f"{word}</w>" for word in words} <= permitted


def test_every_permitted_word_of_the_emoji_model_survives_being_text():
    emoji = load.load("emoji")
    for index in text.permitted_tokens(emoji, ["ink"]):
        assert emoji.tokenizer(emoji.tokenizer.decode([index]), add_special_tokens=False).input_ids == [index]


@torch.no_grad()
def slow_encoded(model, latents):
    """One image after the other, as a PNG would hold it, encoded by its mean and scaled."""
    found = []
    for one in latents:
        image = (model.vae.decode(one[None] / model.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)
        png = torch.tensor([[[round(float(pixel) * 255) for pixel in row] for row in channel] for channel in image[0]]) / 255
        found.append(model.vae.encode(((png - 0.5) / 0.5)[None].to(model.vae.dtype)).latent_dist.mean[0] * model.vae.config.scaling_factor)
    return torch.stack(found)


def test_the_image_is_encoded_as_the_authors_do_or_its_own_latents_are_taken(model, targets, context):
    encoded = SoftWords(model, targets, Parameters(x0="encoded"), context)
    slow = slow_encoded(model, context.clean)  # a pixel on the edge of two values may be rounded otherwise
    assert (encoded.clean - slow).norm() < 0.003 * slow.norm() and encoded.clean.shape == context.clean.shape
    sampled = SoftWords(model, targets, Parameters(), context)
    assert sampled.clean is context.clean and (encoded.clean - context.clean).norm() > 0.01 * context.clean.norm()
    assert encoded.step([0, 1, 2], 1) != sampled.step([0, 1, 2], 1)
    assert Parameters(**PUBLISHED).x0 == "encoded" and Parameters().x0 == "sampled"


def test_the_choice_enters_a_key_only_where_it_is_made():
    assert "x0" not in Parameters().model_dump() and Parameters(x0="encoded").model_dump()["x0"] == "encoded"
    assert set(Parameters().model_dump()) == set(Parameters.model_fields) - {"x0"}
