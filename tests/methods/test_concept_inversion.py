"""Concept inversion learns from images, leaves its vectors behind, and goes on after a kill."""

import copy

import pytest
import torch

from tests.methods.attacked import context_of as looking
from workbench.errors import MethodError
from workbench.methods.attacks._gradient import denoising
from workbench.methods.attacks._search import generator
from workbench.methods.attacks.concept_inversion import Parameters, attack, control, passes, placed
from workbench.models import text

NAMES = ["ink", "black ink"]


def context_of(model, kept=None):
    kept = {} if kept is None else kept
    return looking(model, kept=kept.get, keep=lambda name, state: kept.update({name: copy.deepcopy(state)}))


def first_vector(model, context, seed):
    """The random permitted word that an attack starts from; (1, channel)."""
    words = torch.tensor(text.permitted_tokens(model, context.names))
    return text.token_vectors(model).detach()[words[torch.randint(len(words), (1,), generator=generator(seed, "start", 0))]]


def test_it_lowers_its_loss_and_leaves_one_vector_for_all_prompts(model, targets):
    context, parameters = context_of(model), Parameters(iterations=150, step=0.1, batch=3)
    made = attack(model, targets, parameters, context)
    rows = [number % 3 for number in range(60)]

    @torch.no_grad()
    def log_loss(vector):
        draws, prompts = [generator(99, number, 0) for number in range(60)], [made.prompts[row] for row in rows]
        return denoising(model, context.clean[rows], prompts, vector.expand(60, -1, -1), draws, parameters).log().mean()

    assert log_loss(made.prefix[0]) < log_loss(first_vector(model, context, parameters.seed)) - 1e-4
    learned = context.files["learned_embeds.safetensors"]["<ink>"]
    assert learned.shape == (1, 32) and all(torch.equal(prefix, learned) for prefix in made.prefix)


def test_the_budget_of_passes_and_of_seconds_ends_it(model, targets):
    context = context_of(model)
    attack(model, targets, Parameters(iterations=50, batch=3, max_passes=20), context)
    assert len(context.log) == 8 and context.log[-1]["passes"] == 20  # 2.5 passes a step and prompt
    context = context_of(model)
    attack(model, targets, Parameters(iterations=50, batch=3, max_seconds=1e-9), context)
    assert len(context.log) == 1
    assert (
        passes(Parameters(iterations=50, batch=3), 3, 40) == 375 and passes(Parameters(iterations=50, batch=3, max_passes=20), 3, 40) == 60
    )


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


def test_the_longest_name_is_replaced_once_and_a_prompt_without_one_stays():
    prompts = ["owl in Black Ink style", "ink, then ink again", "inky owl", "ink"]
    assert placed(prompts, NAMES) == ["owl in <*> style", "<*> , then again", "inky owl", "<*>"]
    with pytest.raises(MethodError, match=r'holds a name of the concept \(ink, black ink\), e.g. "inky owl".*place = "prefix"'):
        placed(["inky owl"], NAMES)


@pytest.mark.parametrize(("place", "first"), [("name", "owl in <*> style"), ("prefix", "owl in ink style")])
def test_the_vectors_stand_in_their_place_and_so_do_the_controls(model, targets, place, first):
    context, parameters = context_of(model), Parameters(iterations=2, place=place)
    made = attack(model, targets, parameters, context)
    random = control(model, targets, made, parameters, context)
    assert made.prompts[0] == first and random.prompts == made.prompts and made.units == targets.units
    assert torch.allclose(made.prefix.norm(dim=-1), random.prefix.norm(dim=-1)) and not torch.equal(made.prefix, random.prefix)


def test_the_vector_of_a_name_in_its_place_gives_the_prompts_own_state(model):
    vector = text.token_vectors(model).detach()[text.words(model, "ink")]
    whole = ["owl in ink style", "ink", "a cat in black ink"]
    given = [*(prompt.replace("ink", text.HERE) for prompt in whole), "style"]
    read = text.encode(model, given, vector.expand(4, 1, -1))
    assert torch.allclose(read, text.encode(model, [*whole, "ink style"]), atol=1e-6)


def test_two_vectors_past_the_context_still_stand_in_the_text(model):
    long = " ".join(["owl"] * 30) + f" {text.HERE}"
    vectors = torch.randn(1, 2, 32, generator=torch.Generator().manual_seed(1)).requires_grad_(True)
    text.encode(model, [long], vectors).square().sum().backward()
    assert (vectors.grad.abs().amax(dim=-1) > 0).all() and text.starts(model.tokenizer, [long], 2) == [13]
    assert text.n_cut(model, [long], 2) == text.n_cut(model, [" ".join(["owl"] * 30)], 2)


@pytest.mark.parametrize("place", ["name", "prefix"])
def test_the_loss_of_a_batch_is_the_mean_of_its_images_one_at_a_time(model, targets, place):
    context, parameters = context_of(model), Parameters(iterations=1, place=place, batch=3, seed=5)
    made = attack(model, targets, parameters, context)
    start = first_vector(model, context, 5)
    rows = torch.randint(3, (3,), generator=generator(5, "batch", 1)).tolist()
    with torch.no_grad():
        alone = [
            denoising(model, context.clean[[row]], [made.prompts[row]], start[None], [generator(5, number, 1)], parameters).item()
            for number, row in enumerate(rows)
        ]
    assert context.log[0]["loss"] == pytest.approx(sum(alone) / 3, abs=1e-5) and len(set(alone)) == 3
