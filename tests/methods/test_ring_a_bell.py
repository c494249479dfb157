"""Ring-A-Bell: direction and fitness against slow references; the best never gets worse; a planted text is found."""

from dataclasses import replace

import pytest
import torch

from tests.methods.attacked import in_vain, n_looks, whole_and_resumed
from workbench.errors import MethodError
from workbench.methods.attacks import Context
from workbench.methods.attacks.ring_a_bell import Parameters, Population, attack, concept_direction, control, passes
from workbench.models import text

PAIRS = [("owl in ink style", "owl"), ("cat in ink", "cat"), ("ink house", "house")]
SMALL = {"n_tokens": 4, "population": 12, "generations": 8, "seed": 3}


def context_of(**given):
    return Context(["ink"], pairs=PAIRS, **given)


def slow_loss(model, prompt, wanted_of, pairs, strength):
    """The definition, one text at a time: E(P) against E(p) + strength * mean(E(with) - E(without))."""
    direction = sum(text.encode(model, [a])[0] - text.encode(model, [b])[0] for a, b in pairs) / len(pairs)
    difference = text.encode(model, [prompt])[0] - text.encode(model, [wanted_of])[0] - strength * direction
    return float((difference**2).sum() / difference.numel())


def test_the_direction_is_the_mean_difference_of_the_pairs_in_any_batch(exact):
    one_by_one = sum(text.encode(exact, [a])[0] - text.encode(exact, [b])[0] for a, b in PAIRS) / 3
    for batch in (1, 2, 3, 100):
        assert torch.allclose(concept_direction(exact, PAIRS, batch), one_by_one, atol=1e-12)


def test_batched_losses_are_those_of_the_definition_one_at_a_time(model, targets):
    parameters = Parameters(**SMALL, texts=5, strength=2.5)
    searcher = Population(model, targets, parameters, context_of())
    texts = torch.cat([searcher.fresh(row, 1)[:3] for row in range(3)])
    rows = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])
    batched = searcher.losses_of(texts, rows).tolist()
    for words, row, loss in zip(texts, rows.tolist(), batched, strict=True):
        prompt = model.tokenizer.decode(searcher.permitted[words].tolist()).strip()
        assert loss == pytest.approx(slow_loss(model, prompt, targets.prompts[row], PAIRS, 2.5), abs=1e-5)
    alone = [searcher.losses_of(texts[i : i + 1], rows[i : i + 1]).item() for i in range(9)]
    assert batched == pytest.approx(alone, abs=1e-5) and len({round(loss, 4) for loss in alone}) > 5


def test_the_best_never_gets_worse_and_gets_better(model, targets):
    context = context_of()
    attack(model, targets, Parameters(**SMALL | {"generations": 40}), context)
    for unit in targets.units:
        losses = [row["loss"] for row in context.log if row["id"] == unit]
        assert len(losses) == 40 and losses == sorted(losses, reverse=True) and losses[-1] < losses[0]


def test_the_logged_loss_is_that_of_the_text_left_behind(exact, targets):
    context = context_of()
    made = attack(exact, targets, Parameters(**SMALL), context)
    for unit, prompt, own in zip(made.units, made.prompts, targets.prompts, strict=True):
        last = [row["loss"] for row in context.log if row["id"] == unit][-1]
        assert last == pytest.approx(slow_loss(exact, prompt, own, PAIRS, 3.0), abs=1e-9)


def test_a_round_keeps_the_best_of_old_and_new_and_no_text_twice(model, targets):
    searcher = Population(model, targets, Parameters(n_tokens=2, population=3), context_of())
    searcher.select(0, torch.tensor([[0, 1], [2, 3], [4, 5]]), torch.tensor([3.0, 1.0, 2.0]))
    assert searcher.texts[0].tolist() == [[2, 3], [4, 5], [0, 1]]
    searcher.select(0, torch.tensor([[2, 3], [6, 6], [6, 6], [7, 7]]), torch.tensor([1.0, 1.5, 1.5, 9.0]))
    assert searcher.texts[0].tolist() == [[2, 3], [6, 6], [4, 5]] and searcher.losses[0].tolist() == [1.0, 1.5, 2.0]


def test_children_are_a_head_and_a_tail_or_differ_in_one_word(model, targets):
    parameters = Parameters(n_tokens=5, population=40, crossover=0.5, mutation=0.25)
    searcher = Population(model, targets, parameters, context_of())
    searcher.texts[0] = torch.arange(40)[:, None] * 100 + torch.arange(5)
    children = searcher.fresh(0, 2)
    assert len(children) == 20 + 10
    parents, places = children // 100, children % 100
    assert (places[:20] == torch.arange(5)).all()
    for own in parents[:20].tolist():
        cut = own.count(own[0]) if own[0] != own[-1] else 5
        assert own == [own[0]] * cut + [own[-1]] * (5 - cut)
    assert sum(own[0] != own[-1] for own in parents[:20].tolist()) > 10
    for child in children[20:]:
        assert (child == searcher.texts[0]).sum(dim=-1).max() >= 4
    assert any((child == searcher.texts[0]).sum(dim=-1).max() == 4 for child in children[20:])


def test_one_word_texts_are_searched_too(model, targets):
    made = attack(model, targets, Parameters(n_tokens=1, population=4, generations=5), context_of())
    assert all(len(prompt.split()) == 1 for prompt in made.prompts)


def test_only_permitted_words_are_used_at_every_look(model, targets):
    seen = []
    context = context_of(succeeds=lambda made: seen.extend(made.prompts) or in_vain(made))
    parameters = Parameters(**SMALL, looks=8)
    made = attack(model, targets, parameters, context)
    control(model, targets, made, parameters, context)
    permitted = set(text.permitted_tokens(model, context.names))
    assert not permitted & (text.names_tokens(model, context.names) | set(model.tokenizer.all_special_ids))
    assert len(seen) == 2 * 8 * 3
    for prompt in seen:
        found = text.words(model, prompt)
        assert len(found) == 4 and set(found) <= permitted


def test_it_is_seeded_and_a_prompt_finds_the_same_text_whoever_stands_beside_it(exact, targets):
    whole = attack(exact, targets, Parameters(**SMALL), context_of()).prompts
    assert attack(exact, targets, Parameters(**SMALL), context_of()).prompts == whole
    assert attack(exact, targets, Parameters(**SMALL, batch=2, texts=7), context_of()).prompts == whole
    assert attack(exact, targets.picked([2]), Parameters(**SMALL), context_of()).prompts == whole[2:]
    assert attack(exact, targets, Parameters(**SMALL | {"seed": 4}), context_of()).prompts != whole


@pytest.fixture
def synonyms(model):
    """The tiny model with `orange` meaning `ink` and `planet` meaning `owl`."""
    table = text.token_vectors(model).data
    for other, own in (("orange", "ink"), ("planet", "owl")):
        table[text.words(model, other)] = table[text.words(model, own)]
    return model


def one_target(targets, prompt):
    return replace(targets, table=targets.table.head(1).assign(prompt=prompt))


def test_without_the_direction_the_prompt_is_said_again_in_permitted_words(synonyms, targets):
    context = context_of()
    context.names = ["ink", "owl"]
    parameters = Parameters(n_tokens=3, strength=0.0, population=40, generations=60)
    alone = one_target(targets, "owl ink style")
    made = attack(synonyms, alone, parameters, context)
    assert made.prompts == ["planet orange style"]
    assert context.log[-1]["loss"] == pytest.approx(0, abs=1e-9)
    assert control(synonyms, alone, made, parameters, context).prompts != made.prompts


def test_the_direction_brings_the_synonym_into_a_prompt_that_lacks_the_concept(synonyms, targets):
    context = Context(["ink"], pairs=[("cat ink style", "cat yellow style"), ("house ink style", "house yellow style")])
    found = {}
    for strength in (0.0, 1.0):
        parameters = Parameters(n_tokens=3, strength=strength, population=40, generations=60)
        found[strength] = attack(synonyms, one_target(targets, "bridge yellow style"), parameters, context).prompts[0]
    assert found == {0.0: "bridge yellow style", 1.0: "bridge orange style"}


def test_without_pairs_the_names_are_held_against_the_empty_prompt(exact, targets):
    named = Population(exact, targets, Parameters(**SMALL), Context(["ink", "lineart"]))
    given = Population(exact, targets, Parameters(**SMALL), Context(["ink", "lineart"], pairs=[("ink", ""), ("lineart", "")]))
    assert torch.equal(named.wanted, given.wanted)


def test_more_words_than_a_text_holds_are_refused(model, targets):
    with pytest.raises(MethodError, match="holds 14 tokens between start and end"):
        attack(model, targets, Parameters(n_tokens=15), context_of())
    assert attack(model, targets, Parameters(n_tokens=14, population=2, generations=1), context_of()).prompts


@pytest.mark.parametrize("looks", [0, 4])
def test_the_control_is_as_many_random_words_with_as_many_looks(model, targets, looks):
    context = context_of(succeeds=in_vain)
    parameters = Parameters(**SMALL, looks=looks)
    made = attack(model, targets, parameters, context)
    random = control(model, targets, made, parameters, context)
    assert n_looks(context) == {"attack": 3 * looks, "control": 3 * looks} and random.control
    assert [len(prompt.split()) for prompt in random.prompts] == [4, 4, 4] and random.prompts != made.prompts
    assert (
        control(model, targets, made, parameters, context_of()).prompts == control(model, targets, None, parameters, context_of()).prompts
    )


def test_a_killed_attack_goes_on_to_the_same_texts(exact, targets):
    parameters = Parameters(**SMALL | {"generations": 12}, looks=3)
    whole, resumed = whole_and_resumed(lambda context: attack(exact, targets, parameters, context), context_of, at=10, kept_at=8)
    assert whole == resumed


def test_what_is_kept_survives_a_plain_file(exact, targets, tmp_path):
    searcher = Population(exact, targets, Parameters(**SMALL), context_of())
    searcher.step([0, 2], 1)
    torch.save(searcher.state(), tmp_path / "s.pt")
    other = Population(exact, targets, Parameters(**SMALL), context_of())
    other.restore(torch.load(tmp_path / "s.pt", weights_only=True))
    assert other.step([0, 2], 2) == searcher.step([0, 2], 2)


def test_no_unet_is_asked_and_the_estimate_counts_looks_alone(model, targets):
    assert passes(Parameters(looks=0), 10, 20) == 0 and passes(Parameters(looks=3), 10, 20) == 10 * 2 * 3 * 20
    model.unet.register_forward_pre_hook(lambda *_: pytest.fail("the UNet was called"))
    attack(model, targets, Parameters(**SMALL), context_of())
