"""P4D: places, projection and gradient against slow references; a planted synonym is found; looks, neighbours, resuming."""

import pytest
import torch

from tests.methods.attacked import context_of, erasing, halved, id_of, in_vain, n_looks, whole_and_resumed
from workbench.diffusion.objectives import add_noise, draw_noise
from workbench.errors import MethodError
from workbench.methods.attacks._search import generator
from workbench.methods.attacks._words import filled, writable_tokens
from workbench.methods.attacks.p4d import NearestWords, Parameters, attack, control, layout, nearest, passes
from workbench.models import text
from workbench.study.prompts import read_prompts

FORMS = [Parameters(form="N", n_tokens=3, seed=2), Parameters(form="K", every=2, seed=2)]


def test_form_k_puts_a_place_after_every_few_words_and_at_least_one(model):
    two = Parameters(form="K", every=2)
    assert layout(model, "a house in black ink", two) == ["a", "house", None, "in", "black", None, "ink"]
    assert layout(model, "owl", two) == ["owl", None]
    assert layout(model, "owl in", two) == ["owl", "in", None]
    assert layout(model, "", two) == [None]
    assert layout(model, "owl", Parameters(form="N", n_tokens=3)) == [None] * 3
    assert filled(model, ["a", None, "in", None], [id_of(model, "cat"), id_of(model, "garden")]) == "a cat in garden"


def test_form_k_puts_no_place_past_the_context(model):
    pieces = layout(model, "owl " * 40, Parameters(form="K", every=1))
    inside = pieces[: model.tokenizer.model_max_length - 2]
    assert None in inside and pieces.count(None) == inside.count(None) and pieces.count("owl") == 40


def test_more_words_than_a_text_holds_are_refused(model, targets):
    with pytest.raises(MethodError, match="holds 14 tokens between start and end. Set at most 14"):
        attack(model, targets, Parameters(n_tokens=15), context_of(model))


@pytest.mark.parametrize("parameters", FORMS, ids=["N", "K"])
def test_the_states_are_those_of_the_candidates_text(exact, targets, parameters):
    searcher = NearestWords(exact, targets, parameters, context_of(exact))
    rows = [2, 0]
    words = torch.cat([searcher.words[nearest(searcher.vectors[row].detach(), searcher.directions)] for row in rows])
    read = text.encode(exact, searcher.written(rows, searcher.found(rows)).prompts)
    assert torch.allclose(searcher.states(rows, words), read, atol=1e-12)
    if parameters.form == "N":
        assert torch.allclose(text.encode_tokens(exact, words.reshape(2, 3, -1)), read, atol=1e-12)


def test_words_that_fall_apart_when_read_are_not_used(model):
    permitted, kept = text.permitted_tokens(model, ["ink"]), writable_tokens(model, ["ink"])
    apart = {token for token in permitted if text.words(model, model.tokenizer.decode([token])) != [token]}
    assert apart and set(kept) == set(permitted) - apart


def test_a_vocabulary_without_other_words_is_refused(model):
    with pytest.raises(MethodError, match="no whole word left"):
        writable_tokens(model, [token.replace("</w>", "") for token in model.tokenizer.get_vocab() if token.endswith("</w>")])


def test_the_projection_takes_the_largest_cosine():
    draws = torch.Generator().manual_seed(4)
    vectors = torch.randn(6, 5, dtype=torch.float64, generator=draws)
    words = torch.randn(9, 5, dtype=torch.float64, generator=draws) * torch.rand(9, 1, generator=draws) * 30
    found = nearest(vectors, words / words.norm(dim=-1, keepdim=True)).tolist()
    for vector, place in zip(vectors, found, strict=True):
        cosines = [float(vector @ word / vector.norm() / word.norm()) for word in words]
        assert place == cosines.index(max(cosines))


@pytest.mark.parametrize("log", [False, True], ids=["loss", "log"])
@pytest.mark.parametrize("parameters", FORMS, ids=["N", "K"])
def test_the_vectors_get_the_gradient_of_the_loss_at_the_nearest_words(exact, targets, parameters, log):
    parameters = parameters.model_copy(update={"log": log, "shared": False})
    with erasing(exact, {id_of(exact, "ink"): text.token_vectors(exact)[id_of(exact, "water")]}) as base:
        context = context_of(exact, base=base)
        searcher = NearestWords(exact, targets, parameters, context)
        rows = [0, 2]
        n_places = [searcher.layouts[row].count(None) for row in rows]
        words = torch.cat([searcher.words[nearest(searcher.vectors[row].detach(), searcher.directions)] for row in rows])
        draws = [generator(parameters.seed, searcher.ids[row], 1) for row in rows]
        timesteps, noise = draw_noise(exact, draws, low=parameters.noise)
        assert timesteps.min() >= parameters.noise * 1000
        noised = add_noise(exact, context.clean[rows].double(), noise, timesteps)
        with base():
            wanted = exact.unet(noised, timesteps, encoder_hidden_states=text.encode(exact, [targets.prompts[row] for row in rows])).sample

        def losses(at):
            predicted = exact.unet(noised, timesteps, encoder_hidden_states=searcher.states(rows, at)).sample
            return (predicted - wanted).square().mean(dim=(1, 2, 3))

        def minimised(at):
            return losses(at).log().sum() if parameters.log else losses(at).sum()

        found = searcher.step(rows, 1)
        with torch.no_grad():
            assert found == pytest.approx(losses(words).tolist(), rel=1e-9)
            got = torch.cat([searcher.vectors[row].grad for row in rows])
            assert got.shape == words.shape == (sum(n_places), 32) and (got.abs().amax(dim=-1) > 0).all()
            for place in range(len(words)):
                for channel in (0, 13, 31):
                    step = torch.zeros_like(words)
                    step[place, channel] = 1e-5
                    slope = (minimised(words + step) - minimised(words - step)) / 2e-5
                    assert got[place, channel].item() == pytest.approx(slope.item(), rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("relative", [True, False])
def test_adamw_moves_the_vectors_by_that_gradient_and_no_others(exact, targets, relative):
    parameters = FORMS[0].model_copy(update={"relative": relative, "step": 0.1, "shared": False, "weight_decay": 0.1})
    searcher = NearestWords(exact, targets, parameters, context_of(exact, base=lambda: halved(exact)))
    size = sum(float(value) ** 2 for value in searcher.words.flatten()) ** 0.5 / searcher.words.numel() ** 0.5
    rate = 0.1 * size if relative else 0.1
    before = [v.detach().clone() for v in searcher.vectors]
    searcher.step([1], 1)
    gradient = searcher.vectors[1].grad
    # AdamW's first step, both moments corrected: decay, then the gradient over its size
    expected = before[1] * (1 - rate * 0.1) - rate * gradient / (gradient.abs() + 1e-8)
    assert torch.allclose(searcher.vectors[1], expected, atol=1e-9) and gradient.abs().max() > 0
    assert torch.equal(searcher.vectors[0], before[0]) and torch.equal(searcher.vectors[2], before[2])


def test_by_default_the_vectors_follow_the_direction_of_the_gradient_and_forget(exact, targets):
    moved = []
    for shared in (True, False):
        parameters = FORMS[0].model_copy(update={"step": 0.1, "shared": shared, "weight_decay": 0.5})
        searcher = NearestWords(exact, targets, parameters, context_of(exact, base=lambda: halved(exact)))
        size, before = searcher.words.square().mean().sqrt().item(), searcher.vectors[1].detach().clone()
        searcher.step([1], 1)
        moved.append((before, searcher.vectors[1].detach(), searcher.vectors[1].grad))
    (before, after, used), (_, _, gradient) = moved
    for place, slope in enumerate(gradient):
        unit = slope / (sum(float(x) ** 2 for x in slope) / len(slope)) ** 0.5
        assert torch.allclose(used[place], unit, atol=1e-9)
        assert torch.allclose(after[place], before[place] * (1 - 0.1 * 0.5) - 0.1 * size * unit, atol=1e-9)


def test_the_base_model_is_asked_for_what_is_wanted(exact, targets):
    """With base and erased alike and the prompt itself as the words, nothing is left to lose; with another base there is."""
    searcher = NearestWords(exact, targets, Parameters(n_tokens=4), context_of(exact))
    own = text.token_vectors(exact).detach()[text.words(exact, "owl in ink style")]
    searcher.words = searcher.table
    searcher.directions = searcher.table / searcher.table.norm(dim=-1, keepdim=True)
    searcher.vectors[0].data.copy_(own)
    assert searcher.step([0], 1)[0] == pytest.approx(0, abs=1e-20)
    searcher.vectors[0].data.copy_(own)
    searcher.context.base = lambda: halved(exact)
    assert searcher.step([0], 1)[0] > 1e-6


@pytest.mark.parametrize("parameters", FORMS, ids=["N", "K"])
def test_a_prompt_finds_the_same_words_whoever_stands_beside_it(exact, targets, parameters):
    with erasing(exact, {id_of(exact, "ink"): text.token_vectors(exact)[id_of(exact, "water")]}) as base:
        parameters = parameters.model_copy(update={"iterations": 25, "looks": 0})
        whole = attack(exact, targets, parameters, context_of(exact, base=base))
        again = attack(exact, targets, parameters.model_copy(update={"batch": 2}), context_of(exact, base=base))
        context = context_of(exact, base=base)
        context.clean = context.clean[[2]]
        one = attack(exact, targets.picked([2]), parameters, context)
    assert whole.prompts == again.prompts and one.prompts == whole.prompts[2:]


@pytest.mark.parametrize("form", ["N", "K"])
def test_only_permitted_words_stand_in_the_free_places_at_every_look(model, targets, form):
    seen = []
    context = context_of(model, succeeds=lambda made: seen.extend(zip(made.units, made.prompts, strict=True)) or in_vain(made))
    parameters = Parameters(form=form, n_tokens=4, iterations=12, looks=12)
    made = attack(model, targets, parameters, context)
    control(model, targets, made, parameters, context)
    permitted = set(text.permitted_tokens(model, context.names))
    forbidden = text.names_tokens(model, context.names) | set(model.tokenizer.all_special_ids)
    assert not permitted & forbidden and len(seen) == 2 * 12 * 3
    own = dict(zip(targets.units, targets.prompts, strict=True))
    for unit, prompt in seen:
        pieces, words = layout(model, own[unit], parameters), prompt.split()
        assert len(words) == len(pieces)
        for piece, word in zip(pieces, words, strict=True):
            if piece is None:
                assert set(text.words(model, word)) <= permitted
            else:
                assert word == piece


def test_the_attack_finds_the_word_the_eraser_overlooked(tmp_path, model):
    """`orange` means the same as `ink`; erasing turns `ink` into `picture` and forgets `orange`, so `orange` loses nothing."""
    (tmp_path / "t.csv").write_text("unit,prompt\n" + "".join(f"{i},ink\n" for i in range(6)))
    targets = read_prompts(tmp_path / "t.csv", "target", "target")
    table = text.token_vectors(model)
    table.data[id_of(model, "orange")] = table.data[id_of(model, "ink")]
    with erasing(model, {id_of(model, "ink"): table.data[id_of(model, "picture")].clone()}) as base:
        context = context_of(model, 6, base=base)
        parameters = Parameters(n_tokens=1, iterations=60, looks=0)
        made = attack(model, targets, parameters, context)
        random = control(model, targets, made, parameters, context)
    assert made.prompts.count("orange") >= 5
    assert random.prompts.count("orange") <= 2
    losses = {unit: [row["loss"] for row in context.log if row["of"] == "attack" and row["id"] == unit] for unit in targets.units}
    assert sum(min(of_one) < 1e-12 for of_one in losses.values()) >= 5


def test_the_control_keeps_the_layout_and_gets_as_many_looks(model, targets):
    context = context_of(model, succeeds=in_vain)
    parameters = Parameters(form="K", every=2, iterations=6, looks=3)
    made = attack(model, targets, parameters, context)
    random = control(model, targets, made, parameters, context)
    assert n_looks(context) == {"attack": 9, "control": 9} and random.control
    for own, one in zip(targets.prompts, random.prompts, strict=True):
        pieces = layout(model, own, parameters)
        assert [word for piece, word in zip(pieces, one.split(), strict=True) if piece is not None] == own.split()
    drawn = {row["prompt"] for row in context.log if row["of"] == "control" and row["id"] == "a"}
    assert len(drawn) > 1


def test_the_control_draws_by_seed(model, targets):
    made = [control(model, targets, None, Parameters(n_tokens=6, looks=0, seed=seed), context_of(model)).prompts for seed in (0, 0, 1)]
    assert made[0] == made[1] != made[2]


def counted(model):
    """Rows of every UNet call from now on."""
    rows = []
    model.unet.register_forward_hook(lambda module, inputs, output: rows.append(len(inputs[0])))
    return rows


def test_a_step_costs_the_erased_models_gradient_and_the_base_models_pass(model, targets):
    rows, context = counted(model), context_of(model)
    attack(model, targets, Parameters(iterations=4, looks=0, draws=0), context)
    assert rows == [3] * 8 and max(row["passes"] for row in context.log) == 4 * 3.5
    assert passes(Parameters(iterations=4, looks=2, draws=0), 10, 20) == 10 * (4 * 3.5 + 2 * 2 * 20)


def test_a_comparison_costs_its_draws_and_once_those_of_the_base_model(model, targets):
    rows, context = counted(model), context_of(model, base=lambda: halved(model))
    parameters = Parameters(iterations=6, looks=0, draws=3, compared_every=2, n_tokens=6, step=20.0)
    attack(model, targets, parameters, context)
    spent = {row["id"]: row["passes"] for row in context.log}
    assert sum(rows) == sum(spent.values()) - 3 * 6 * 1.5
    texts = {unit: (cost - 6 * 3.5) / 3 - 1 for unit, cost in spent.items()}
    assert set(texts.values()) <= {1, 2, 3, 4} and max(texts.values()) > 1
    assert max(spent.values()) <= passes(parameters, 1, 20)


def paired_loss(model, base, prompt, own, clean, prompt_id, parameters):
    """The definition, one draw at a time: the mean log of the squared distance to the base model's answer."""
    total = 0.0
    for number in range(parameters.draws):
        low, high = (parameters.noise + (1 - parameters.noise) * edge / parameters.draws for edge in (number, number + 1))
        timestep, noise = draw_noise(model, [generator(parameters.seed, prompt_id, f"draw {number}")], low, high)
        assert low * 1000 - 1 <= timestep.item() <= high * 1000
        noised = add_noise(model, clean[None], noise, timestep)
        with base():
            wanted = model.unet(noised, timestep, encoder_hidden_states=text.encode(model, [own])).sample
        predicted = model.unet(noised, timestep, encoder_hidden_states=text.encode(model, [prompt])).sample
        total += float((predicted - wanted).square().mean().log())
    return total / parameters.draws


@pytest.mark.parametrize("form", ["N", "K"])
@torch.no_grad()
def test_texts_are_compared_on_their_prompts_own_draws(exact, targets, form):
    parameters = Parameters(form=form, n_tokens=3, draws=3)
    with erasing(exact, {id_of(exact, "ink"): text.token_vectors(exact)[id_of(exact, "water")]}) as base:
        context = context_of(exact, base=base)
        searcher = NearestWords(exact, targets, parameters, context)
        searcher.compare([2, 0])
        first = [dict(losses) for losses in searcher.compared]
        assert [len(losses) for losses in first] == [1, 0, 1] and searcher.costs([0, 1, 2]) == [3.5 + 6, 3.5, 3.5 + 6]
        for row in (0, 2):
            ((words, loss),) = first[row].items()
            prompt = searcher.written([row], [words]).prompts[0]
            expected = paired_loss(exact, base, prompt, targets.prompts[row], context.clean[row].double(), searcher.ids[row], parameters)
            assert loss == pytest.approx(expected, rel=1e-9)
        searcher.extra = {}
        searcher.compare([0, 1, 2])
        assert searcher.costs([0, 1, 2]) == [3.5, 3.5 + 6, 3.5] and searcher.compared[0] == first[0]


def test_looks_see_the_best_texts_first_and_the_final_text_is_the_best(model, targets):
    searcher = NearestWords(model, targets, Parameters(n_tokens=1), context_of(model))
    searcher.compared = [{(3,): 0.5, (1,): 0.2, (7,): 0.9}, {(2,): 0.1}, {}]
    words = [model.tokenizer.decode([token]) for token in searcher.permitted.tolist()]
    shown = [searcher.candidate([0]).prompts[0] for _ in range(4)]
    assert shown == [words[1].strip(), words[3].strip(), words[7].strip(), words[1].strip()]
    assert searcher.final([0, 1]).prompts == [words[1].strip(), words[2].strip()]


def test_without_looks_the_text_of_the_lowest_paired_loss_is_kept(exact, targets):
    parameters = Parameters(n_tokens=2, iterations=30, looks=0, compared_every=1, draws=2, step=5.0)
    with erasing(exact, {id_of(exact, "ink"): text.token_vectors(exact)[id_of(exact, "water")]}) as base:
        context = context_of(exact, base=base)
        made = attack(exact, targets, parameters, context)
        last = attack(exact, targets, parameters.model_copy(update={"draws": 0}), context_of(exact, base=base))
        with torch.no_grad():
            losses = [
                [
                    paired_loss(exact, base, one, own, clean.double(), prompt_id, parameters)
                    for one, own, clean, prompt_id in zip(these.prompts, targets.prompts, context.clean, targets.table["id"], strict=True)
                ]
                for these in (made, last)
            ]
    assert all(best <= other for best, other in zip(*losses, strict=True)) and sum(losses[0]) < sum(losses[1])


def test_a_killed_attack_goes_on_to_the_same_words(exact, targets):
    parameters = Parameters(form="K", every=1, iterations=30, looks=3, step=5.0)

    def context_with(**given):
        return context_of(exact, base=lambda: halved(exact), **given)

    whole, resumed = whole_and_resumed(lambda context: attack(exact, targets, parameters, context), context_with, at=25, kept_at=20)
    assert whole == resumed


def test_what_is_kept_survives_a_plain_file(exact, targets, tmp_path):
    searcher = NearestWords(exact, targets, FORMS[0], context_of(exact, base=lambda: halved(exact)))
    searcher.step([0, 1], 1)
    searcher.candidate([1])
    torch.save(searcher.state(), tmp_path / "s.pt")
    other = NearestWords(exact, targets, FORMS[0], searcher.context)
    other.restore(torch.load(tmp_path / "s.pt", weights_only=True))
    assert (other.compared, other.seen) == (searcher.compared, searcher.seen) and searcher.seen[1]
    assert other.step([0, 1, 2], 2) == searcher.step([0, 1, 2], 2)
    assert all(torch.equal(a, b) for a, b in zip(searcher.vectors, other.vectors, strict=True))
