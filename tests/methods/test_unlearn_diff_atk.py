"""UnlearnDiffAtk: projection, gradient and candidates against slow references."""

import numpy as np
import pytest
import torch

from workbench.methods.attacks import Context
from workbench.methods.attacks.unlearn_diff_atk import Parameters, SoftWords, attack, project_to_simplex
from workbench.models import load, text
from workbench.study.prompts import read_prompts


@pytest.fixture
def targets(tmp_path):
    (tmp_path / "t.csv").write_text("unit,prompt,seed\na,owl in ink style,1\nb,cat in ink style,2\nc,house in ink,3\n")
    return read_prompts(tmp_path / "t.csv", "target", "target")


@pytest.fixture
def context(model):
    generator = torch.Generator().manual_seed(0)
    return Context(["ink"], "erased", torch.randn(3, *model.latent_shape, generator=generator))


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


def test_batched_and_alone_lose_the_same_at_first(model, targets, context):
    together = SoftWords(model, targets, Parameters(), context).step([0, 1, 2], 1)
    alone = [SoftWords(model, targets, Parameters(), context).step([row], 1)[0] for row in range(3)]
    assert together == pytest.approx(alone, abs=1e-5)


def test_timesteps_rise_from_10_to_990(model, targets, context):
    searcher = SoftWords(model, targets, Parameters(), context)
    visited = [searcher.timestep(i) for i in range(1, 2001)]
    n = model.scheduler.config.num_train_timesteps
    assert visited[0] == int(0.01 * n) and visited[-1] == int(0.99 * n) and visited == sorted(visited)
    assert all(visited.count(t) == 40 for t in set(visited)) and len(set(visited)) == 50


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
