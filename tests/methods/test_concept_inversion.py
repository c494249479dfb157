"""Concept inversion learns from images, leaves its vectors behind, and goes on after a kill."""

import copy
from math import ceil

import pandas
import pytest
import torch

from tests.methods.attacked import context_of as looking
from workbench.errors import MethodError
from workbench.methods.attacks import concept_inversion
from workbench.methods.attacks._gradient import denoising
from workbench.methods.attacks._search import generator
from workbench.methods.attacks.concept_inversion import Parameters, attack, check_targets, control, halves, passes, placed
from workbench.models import text
from workbench.study.prompts import PromptSet

NAMES = ["ink", "black ink"]


def context_of(model, kept=None):
    kept = {} if kept is None else kept
    return looking(model, kept=kept.get, keep=lambda name, state: kept.update({name: copy.deepcopy(state)}))


def own_vectors(model, context, seed, half):
    words = torch.tensor(text.permitted_tokens(model, context.names))
    return text.token_vectors(model).detach()[words[torch.randint(len(words), (1,), generator=generator(seed, "start", half))]]


def test_it_lowers_its_loss_and_leaves_a_vector_for_each_half(model, targets):
    context, parameters = context_of(model), Parameters(iterations=60, step=0.1, batch=3)
    made = attack(model, targets, parameters, context)
    parts = halves(made, parameters.seed)
    assert sorted(parts[0] + parts[1]) == [0, 1, 2]
    for half, rows in enumerate(parts):
        shown = [row for row in range(3) if row not in rows]
        asked = [shown[number % len(shown)] for number in range(60)]

        @torch.no_grad()
        def log_loss(vector, asked=asked):
            draws, prompts = [generator(99, number, 0) for number in range(60)], [made.prompts[row] for row in asked]
            return denoising(model, context.clean[asked], prompts, vector.expand(60, -1, -1), draws, parameters).log().mean()

        assert log_loss(made.prefix[rows[0]]) < log_loss(own_vectors(model, context, parameters.seed, half)) - 1e-4
        learned = context.files["learned_embeds.safetensors" if half == 0 else "learned_embeds-2.safetensors"]["<ink>"]
        assert learned.shape == (1, 32) and all(torch.equal(made.prefix[row], learned) for row in rows)
    assert not torch.equal(made.prefix[parts[0][0]], made.prefix[parts[1][0]])


def test_no_prompt_is_scored_by_a_vector_that_saw_its_image(model, targets):
    """Another image of one prompt changes the vectors of the other half and none of its own."""
    parameters, context = Parameters(iterations=5, batch=3), context_of(model)
    first = attack(model, targets, parameters, context)
    parts = halves(first, 0)
    changed = context_of(model)
    changed.clean = context.clean.clone()
    changed.clean[parts[0]] += 1.0
    other = attack(model, targets, parameters, changed)
    assert torch.equal(first.prefix[parts[0]], other.prefix[parts[0]]) and not torch.equal(first.prefix[parts[1]], other.prefix[parts[1]])


def rows_of(prompts, units):
    table = pandas.DataFrame({"unit": units, "id": [str(i) for i in range(len(units))], "prompt": prompts, "seed": 0, "expect": None})
    return PromptSet("target", "target", table)


@pytest.mark.parametrize("seed", range(5))
def test_halves_divide_no_wording_and_no_unit(seed):
    prompts = ["a <*>", "a <*>", "an old <*>", "<*> at night", "a big <*>", "<*>", "a <*> here", "two <*>"]
    units = ["u0", "u1", "u1", "u2", "u3", "u3", "u4", "u5"]  # rows 0, 1, 2 hang together by wording and unit, 4 and 5 by unit
    one, other = halves(rows_of(prompts, units), seed)
    assert sorted(one + other) == list(range(8)) and one == sorted(one) and abs(len(one) - len(other)) <= 2
    for together in ([0, 1, 2], [4, 5]):
        assert {*together} <= {*one} or {*together} <= {*other}
    assert halves(rows_of(prompts, units), seed) == [one, other]


def test_the_halves_of_another_seed_are_others():
    rows = rows_of([f"<*> {i}" for i in range(12)], [f"u{i}" for i in range(12)])
    found = [halves(rows, seed) for seed in range(4)]
    assert all(len(one) == len(other) == 6 for one, other in found) and len({tuple(one) for one, _ in found}) > 1


def test_targets_that_hang_together_are_refused_and_the_plan_tells():
    with pytest.raises(MethodError, match='all 2 target prompts are one, e.g. "a <[*]>", or share their units'):
        check_targets(Parameters(), rows_of(["a church", "a chapel"], ["u0", "u1"]), ["church", "chapel"])
    check_targets(Parameters(place="prefix"), rows_of(["a church", "a chapel"], ["u0", "u1"]), ["church", "chapel"])


def test_the_budget_of_passes_and_of_seconds_ends_it(model, targets):
    context = context_of(model)
    attack(model, targets, Parameters(iterations=50, batch=3, max_passes=20), context)
    parts = halves(attack(model, targets, Parameters(iterations=1), context_of(model)), 0)
    n_shown = [3 - len(rows) for rows in parts]  # images of one step
    steps = [ceil(10 / (2.5 * n / 3)) for n in n_shown]  # half of the passes of a prompt for each half
    assert len(context.log) == sum(steps) and context.log[-1]["passes"] == pytest.approx(
        sum(2.5 * n / 3 * k for n, k in zip(n_shown, steps, strict=True))
    )
    context = context_of(model)
    attack(model, targets, Parameters(iterations=50, batch=3, max_seconds=1e-9), context)
    assert len(context.log) == 1  # both halves share the seconds
    full = Parameters(iterations=50, batch=3)
    assert passes(full, 3, 40) == 750 and passes(full.model_copy(update={"max_passes": 20}), 3, 40) == 60


@pytest.mark.parametrize(("die_at", "finished", "open_at"), [(14, 0, 10), (22, 1, None), (38, 1, 10)])
def test_it_goes_on_after_a_kill(model, targets, monkeypatch, die_at, finished, open_at):
    monkeypatch.setattr(concept_inversion, "KEEP_EVERY", 10)
    parameters, kept = Parameters(iterations=19, batch=1), {}
    whole = attack(model, targets, parameters, context_of(model))
    context = context_of(model, kept)

    def die(step, of, note):
        assert of == 38
        if step == die_at:
            raise KeyboardInterrupt

    context.progress = die
    with pytest.raises(KeyboardInterrupt):
        attack(model, targets, parameters, context)
    half = kept["attack"]["open"]
    assert len(kept["attack"]["learned"]) == finished and (half and half["iteration"]) == open_at
    context = context_of(model, kept)
    assert torch.equal(attack(model, targets, parameters, context).prefix, whole.prefix)
    assert [row["iteration"] for row in context.log] == list(range(1, 39))


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
    start = own_vectors(model, context, 5, 0)
    shown = [row for row in range(3) if row not in halves(made, 5)[0]]
    n = min(3, len(shown))
    rows = [shown[i] for i in torch.randint(n, (n,), generator=generator(5, "batch", 1)).tolist()]
    with torch.no_grad():
        alone = [
            denoising(model, context.clean[[row]], [made.prompts[row]], start[None], [generator(5, number, 1)], parameters).item()
            for number, row in enumerate(rows)
        ]
    assert context.log[0]["loss"] == pytest.approx(sum(alone) / n, abs=1e-5)
