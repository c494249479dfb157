"""All but One: its loss equals a slow reference, the uncond branch stays, a killed training continues, its file is read."""

import math

import pytest
import torch

from tests.methods.trained import comes_back, continues
from tests.reference import guided
from workbench import registry
from workbench.errors import MethodError
from workbench.methods.erasers import _pool, all_but_one, esd
from workbench.models import text

PAIRS = [("an owl in ink style", "an owl"), ("cat in ink", "")]
METHOD = registry.method("erasers", "all_but_one")
SMALL = {"iterations": 3, "steps": 3, "trajectories": 2, "batch": 2}


@pytest.mark.parametrize("modules", ["x", "u", "x-strict", "all"])
def test_it_is_its_formula_row_by_row(exact, modules):
    given = METHOD.parameters(**SMALL | {"modules": modules, "drift": 0.7, "seed": 3, "trajectories": 4})
    log = []
    found = METHOD.call(exact, PAIRS, given, log=log)
    generator, own = torch.Generator().manual_seed(given.seed), dict(exact.unet.named_parameters())
    pool = _pool.along_trajectories(exact, PAIRS, given, 4)
    weights = {name: own[name].detach().clone().requires_grad_(True) for name in esd.trained_names(exact.unet, modules)}
    optimiser, losses = torch.optim.Adam(weights.values(), lr=given.learning_rate), []
    for _ in range(given.iterations):
        loss = guided(exact, PAIRS, pool.draw(exact, generator, given.batch), weights, given.drift)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert [loss for _, loss in log] == pytest.approx(losses, rel=1e-9)
    assert found.keys() == {f"unet.{name}" for name in weights}
    assert all(torch.allclose(value, weights[name.removeprefix("unet.")], rtol=0, atol=1e-9) for name, value in found.items())
    assert max((value - exact.parameters()[name]).abs().max() for name, value in found.items()) > 1e-3


def moved(model, found, drawn):
    """How far the noise without a prompt is from the model's own."""
    own = {name.removeprefix("unet."): value for name, value in found.items()}
    states = text.unconditional(model).expand(len(drawn.pair), -1, -1)
    with torch.no_grad():
        change = model.predict(drawn.noised, drawn.at, states, own) - model.predict(drawn.noised, drawn.at, states)
    return change.square().mean().item()


def test_drift_holds_the_uncond_branch(model):
    given = METHOD.parameters(**SMALL | {"iterations": 60, "batch": 4, "modules": "u", "learning_rate": 1e-3})
    free, held = (METHOD.call(model, PAIRS, given.model_copy(update={"drift": drift})) for drift in (0.0, 10.0))
    drawn = _pool.along_trajectories(model, PAIRS, given, 2).draw(model, torch.Generator().manual_seed(9), 60)
    assert 0 < moved(model, held, drawn) < 0.5 * moved(model, free, drawn)


def test_the_loss_falls_and_the_model_stays(model):
    log, before = [], model.digest()
    given = METHOD.parameters(**SMALL | {"iterations": 60, "batch": 4, "learning_rate": 3e-3, "trajectories": 0})
    METHOD.call(model, PAIRS, given, log=log)
    losses = [loss for _, loss in log]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10]) and model.digest() == before and all(map(math.isfinite, losses))
    assert not any(parameter.requires_grad for parameter in model.unet.parameters())


def test_a_killed_training_continues_to_the_same_weights(model, monkeypatch):
    continues(monkeypatch, METHOD, model, PAIRS, METHOD.parameters(**SMALL | {"iterations": 4}))


def test_what_it_wrote_comes_back(tiny_folder, tmp_path):
    comes_back(METHOD, SMALL, tiny_folder, tmp_path, least=10)


def test_the_estimate_counts_the_pool_and_four_predictions_a_row():
    given = all_but_one.Parameters(trajectories=2, steps=5, iterations=3, batch=4)
    assert all_but_one.passes(given, 10) == 10 * 5 * 2 + 3 * 4 * 7
    assert all_but_one.passes(all_but_one.Parameters(trajectories=0, steps=50, iterations=200, batch=1), 1) == 200 * 25 * 2 + 200 * 7


def test_what_it_cannot_train_is_refused(model):
    with pytest.raises(MethodError, match="needs prompts with the concept"):
        METHOD.call(model, [], METHOD.parameters(**SMALL))
