"""The learned mask: its loss falls, its share is met, it resumes bit for bit; ESD and AC on the shared pool."""

from contextlib import contextmanager, nullcontext

import pytest
import torch

from tests.reference import same_bits
from workbench.diffusion.denoise import denoise, n_calls
from workbench.diffusion.objectives import erased_target
from workbench.errors import MethodError
from workbench.methods.erasers import ac, esd, learned_mask
from workbench.methods.erasers._layers import candidates
from workbench.models import text

PAIRS = [("owl in ink style", "owl"), ("cat in ink", "cat")]
SMALL = {"steps": 3, "trajectories": 2, "batch": 2, "iterations": 6, "share": 0.1}


def settings(**given):
    return learned_mask.Parameters(**SMALL | given)


@pytest.mark.parametrize("objective", ["esd", "ac"])
@pytest.mark.parametrize("unit", ["weight", "neuron"])
def test_only_chosen_layers_are_cut_and_the_share_is_exact(model, objective, unit):
    masks = learned_mask.erase(model, PAIRS, settings(objective=objective, unit=unit, layers=["reads"], group="layer"))
    assert masks and all(name.endswith("ff.net.2.weight") for name in masks)
    own = model.parameters()
    for name, mask in masks.items():
        assert mask.dtype == torch.bool and mask.shape == own[name].shape
        n = round(0.1 * mask.numel()) if unit == "weight" else round(0.1 * mask.shape[1]) * mask.shape[0]
        assert int(mask.sum()) == n


def test_the_loss_falls_and_the_expected_share_comes_near(model):
    log, notes = [], []
    given = settings(iterations=60, learning_rate=0.3, layers=["feeds", "reads", "attention"], penalty=0.1, share=0.2)
    learned_mask.erase(model, PAIRS, given, log=log, progress=lambda step, of, note: notes.append(note))
    total = [a + given.retention * b + given.penalty * (c / given.share - 1) ** 2 for _, a, b, c in log]
    assert sum(total[-10:]) < 0.7 * sum(total[:10])
    assert log[0][3] < 0.01 and log[-1][3] == pytest.approx(0.2, abs=0.05)
    assert len(notes) == 60 and notes[-1].endswith("% pruned") and notes[-1].startswith("loss ")


@pytest.mark.parametrize("given", [{}, {"adversarial_steps": 2, "objective": "ac"}])
def test_a_killed_training_goes_on_to_the_same_mask(model, monkeypatch, given):
    monkeypatch.setattr(learned_mask, "KEEP_EVERY", 0.0)
    states, log, later = [], [], []
    whole = learned_mask.erase(model, PAIRS, settings(**given), keep=lambda name, state: states.append(copied(state)), log=log)
    assert [state["step"] for state in states] == [1, 2, 3, 4, 5, 6]
    resumed = learned_mask.erase(model, PAIRS, settings(**given), kept=lambda name: states[2], log=later)
    assert later == log and len(log) == 6 and same_bits(whole, resumed)


def copied(state):
    import io

    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_the_attack_in_the_loop_lowers_its_loss(model):
    given = settings(adversarial_steps=8, adversarial_size=0.01)
    weights = {name: weight * 0.5 for name, weight in candidates(model.unet, ["feeds"]).items()}

    def distance(steps):
        run = learned_mask._Run(model, PAIRS, given.model_copy(update={"adversarial_steps": steps}), (), no_change, weights)
        drawn = run.pool.draw(model, run.generator, 4)
        with torch.no_grad():
            wanted = model.predict(drawn.noised, drawn.at, run.pool.concept[drawn.pair])
        states = run.attacked(drawn, weights)
        with torch.no_grad():
            return (model.predict(drawn.noised, drawn.at, states, weights) - wanted).square().sum().item()

    assert distance(8) < distance(0)


@contextmanager
def no_change():
    yield


def test_the_base_model_sets_the_target_of_a_second_stage(model):
    entered = []

    @contextmanager
    def base():
        entered.append(True)
        yield

    learned_mask.erase(model, PAIRS, settings(), base=base)
    assert len(entered) == 1 + 6


@pytest.mark.parametrize("given", [{}, {"form": "concept", "retained_batch": 2}, {"retention": 0.0}, {"objective": "ac"}])
def test_sharing_a_pass_changes_nothing_but_rounding(model, given):
    given, logs = settings(**given), ([], [])
    weights = candidates(model.unet, given.layers)
    drawn = []
    for base, log in zip((nullcontext, no_change), logs, strict=True):
        run = learned_mask._Run(model, PAIRS, given, ["a dog"], base, weights)
        log += [run.improve() for _ in range(3)]
        drawn.append(run.state())
    assert torch.allclose(torch.tensor(logs[0]), torch.tensor(logs[1]), rtol=1e-4, atol=1e-7)
    assert torch.equal(drawn[0]["generator"], drawn[1]["generator"])
    for one, other in zip(drawn[0]["phi"], drawn[1]["phi"], strict=True):
        assert torch.isclose(one, other, atol=1e-3).float().mean() > 0.99


def test_no_pairs_is_refused(model):
    for one in (learned_mask, ac):
        with pytest.raises(MethodError, match="gives none"):
            one.erase(model, [], one.Parameters())


def slow_esd(model, pairs, parameters):
    """ESD written out, without the pool."""
    generator = torch.Generator().manual_seed(parameters.seed)
    with torch.no_grad():
        concept, anchor = (text.encode(model, [pair[side] for pair in pairs]) for side in (0, 1))
        empty = text.unconditional(model)
    calls = range(n_calls(model, parameters.steps))
    owner = [i % len(pairs) for i in range(parameters.trajectories)]
    seeds = [parameters.seed * 100_003 + i for i in range(len(owner))]
    _, path = denoise(model, concept[owner], empty, seeds, n_steps=parameters.steps, guidance=parameters.guidance, keep=calls)
    own = dict(model.unet.named_parameters())
    weights = {name: own[name].detach().clone().requires_grad_(True) for name in esd.trained_names(model.unet, "x")}
    optimiser = torch.optim.Adam(weights.values(), lr=parameters.learning_rate)
    for _ in range(parameters.iterations):
        row = torch.randint(len(owner), (parameters.batch,), generator=generator)
        call = torch.randint(len(calls), (parameters.batch,), generator=generator)
        pair, at = torch.tensor(owner)[row], torch.tensor(path.timesteps).long()[call]
        target = erased_target(model, path.inputs[row, call], at, concept[pair], anchor[pair], anchor[pair], parameters.eta)
        optimiser.zero_grad()
        (model.predict(path.inputs[row, call], at, concept[pair], weights) - target).square().mean().backward()
        optimiser.step()
    return {f"unet.{name}": weight.detach() for name, weight in weights.items()}


def test_esd_on_the_shared_pool_is_esd_written_out(model):
    """To rounding: the pool's latents lie otherwise in memory, so that convolutions sum in another order on several threads."""
    given = esd.Parameters(iterations=4, steps=3, trajectories=3, batch=2, seed=4)
    found, slow = esd.erase(model, PAIRS, given), slow_esd(model, PAIRS, given)
    own = {f"unet.{name}": weight for name, weight in model.unet.named_parameters()}
    assert found.keys() == slow.keys()
    for name, weight in found.items():
        assert torch.allclose(weight, slow[name], rtol=0, atol=1e-5)
        assert (weight - own[name]).abs().max() > 1e-4


def test_ac_moves_the_concept_to_its_anchor(model):
    losses = []
    given = ac.Parameters(iterations=60, steps=3, images=2, batch=4, modules="attn", learning_rate=3e-3)
    changed = ac.erase(model, PAIRS, given, progress=lambda step, of, loss: losses.append(loss))
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    assert set(changed) == {f"unet.{name}" for name, _ in model.unet.named_parameters() if ".attn1." in name or ".attn2." in name}
