"""Concept inversion learns from images, leaves its vectors behind, and goes on after a kill."""

import copy

import pytest
import torch

from workbench.methods.attacks import Context
from workbench.methods.attacks.concept_inversion import Parameters, attack
from workbench.study.prompts import read_prompts


@pytest.fixture
def targets(tmp_path):
    (tmp_path / "t.csv").write_text("unit,prompt,seed\na,owl in ink style,1\nb,cat in ink style,2\nc,house in ink,3\n")
    return read_prompts(tmp_path / "t.csv", "target", "target")


def context_of(model, kept=None):
    clean = torch.randn(3, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    kept = {} if kept is None else kept
    return Context(["ink"], "erased", clean, kept=kept.get, keep=lambda name, state: kept.update({name: copy.deepcopy(state)}))


def test_it_lowers_its_loss_and_leaves_one_vector_for_all_prompts(model, targets):
    context = context_of(model)
    made = attack(model, targets, Parameters(iterations=150, step=0.1, batch=3), context)
    losses = [row["loss"] for row in context.log]
    assert sum(losses[-50:]) < sum(losses[:50])
    learned = context.files["learned_embeds.safetensors"]["<ink>"]
    assert learned.shape == (1, 32) and all(torch.equal(prefix, learned) for prefix in made.prefix)


def test_it_goes_on_after_a_kill(model, targets):
    parameters, kept = Parameters(iterations=250, batch=1), {}
    whole = attack(model, targets, parameters, context_of(model))
    context = context_of(model, kept)

    def die(step, of, note):
        if step == 220:
            raise KeyboardInterrupt

    context.progress = die
    with pytest.raises(KeyboardInterrupt):
        attack(model, targets, parameters, context)
    assert kept["attack"]["iteration"] == 200
    context = context_of(model, kept)
    assert torch.equal(attack(model, targets, parameters, context).prefix, whole.prefix)
    assert [row["iteration"] for row in context.log] == list(range(1, 251))
