"""UCE and RECE: equal to their formulas written with loops in float64; the concept reads as its guide, what is preserved stays."""

import pytest
import torch

from workbench.errors import MethodError
from workbench.methods.erasers import _closed_form as closed
from workbench.methods.erasers import null_space, rece, uce
from workbench.models import text

PAIRS = [("owl in ink style", "owl"), ("cat in ink", "")]
RETAINED = ["a red house", "mountain in fluent style"]


def looped(weight, concepts, outputs, preserved, ridge, a, b):
    """The formula, element by element."""
    n = weight.shape[1]
    left, right = [[ridge * float(weight[r, i]) for i in range(n)] for r in range(len(weight))], torch.zeros(n, n, dtype=torch.float64)
    for i in range(n):
        right[i, i] = ridge
    for c, v in zip(concepts.double(), outputs.double(), strict=True):
        for i in range(n):
            for r in range(len(weight)):
                left[r][i] += a * float(v[r]) * float(c[i])
            for j in range(n):
                right[i, j] += a * c[i] * c[j]
    for c in preserved.double():
        answer = [sum(float(weight[r, j]) * float(c[j]) for j in range(n)) for r in range(len(weight))]
        for i in range(n):
            for r in range(len(weight)):
                left[r][i] += b * answer[r] * float(c[i])
            for j in range(n):
                right[i, j] += b * c[i] * c[j]
    return torch.tensor(left, dtype=torch.float64) @ torch.linalg.inv(right)


def edited(weight, concepts, outputs, preserved, ridge, erase_scale, preserve_scale):
    """Our edit of one weight."""
    read = closed.readings(concepts, preserved, ridge=ridge, erase_scale=erase_scale, preserve_scale=preserve_scale)
    return closed.edited(weight, concepts, outputs, read, erase_scale)


def test_the_edit_is_its_formula():
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    weight, concepts, outputs, preserved = draw(5, 4), draw(3, 4), draw(3, 5), draw(2, 4)
    found = edited(weight, concepts, outputs, preserved, 0.5, 1.5, 0.7)
    assert torch.allclose(found, looped(weight, concepts, outputs, preserved, 0.5, 1.5, 0.7), atol=1e-12)
    single = edited(weight.float(), concepts.float(), outputs.float(), preserved.float(), 0.5, 1.5, 0.7)
    assert single.dtype == torch.float32 and torch.allclose(single.double(), found, atol=1e-5)


def test_without_concepts_the_edit_changes_nothing():
    weight, none = torch.randn(5, 4), torch.zeros(0, 4)
    found = edited(weight, none, torch.zeros(0, 5), torch.randn(3, 4), 0.5, 1.0, 1.0)
    assert torch.allclose(found, weight, atol=1e-6)


@pytest.mark.parametrize("tokens", ["last", "rest"])
def test_uce_sends_the_concept_to_its_guide_and_leaves_what_is_preserved(model, tokens):
    given = uce.Parameters(tokens=tokens, ridge=1e-6, preserve_scale=1.0)
    found = uce.erase(model, PAIRS[:1], given, retained=RETAINED[:1])
    assert set(found) == {f"unet.{name}" for name in closed.edited_names(model.unet)} and found
    concepts, guides = closed.pairs_of(model, PAIRS[:1], tokens)
    preserved = closed.preserved_of(model, RETAINED[:1], tokens)
    own = dict(model.unet.named_parameters())
    if tokens == "last":
        for name, weight in found.items():
            old = own[name.removeprefix("unet.")].detach()
            assert torch.allclose(concepts @ weight.T, guides @ old.T, atol=1e-3)
            assert torch.allclose(preserved @ weight.T, preserved @ old.T, atol=1e-3)


def test_many_prompts_are_encoded_a_few_at_a_time_and_read_as_all_at_once(model, monkeypatch):
    prompts = [f"owl in ink {number}" for number in range(2 * closed.TOGETHER + 1)]
    most, kept = [], text.encode
    monkeypatch.setattr(text, "encode", lambda given, asked: most.append(len(asked)) or kept(given, asked))
    found = {tokens: closed.preserved_of(model, prompts, tokens) for tokens in ("last", "rest")}
    assert max(most) == closed.TOGETHER and sum(most) == 2 * len(prompts)
    states, places = kept(model, prompts), closed.last_tokens(model.tokenizer, prompts)
    assert torch.allclose(found["last"], states[range(len(prompts)), places], atol=1e-5)
    assert torch.allclose(found["rest"], torch.cat([one[at:] for one, at in zip(states, places, strict=True)]), atol=1e-5)


def test_the_last_word_is_the_token_before_the_end(model):
    places = closed.last_tokens(model.tokenizer, ["", "owl", "owl in ink"])
    ids = [model.tokenizer(text).input_ids for text in ("", "owl", "owl in ink")]
    assert places == [len(one) - 2 for one in ids] and places[0] == 0
    concepts, guides = closed.pairs_of(model, [("owl in ink", "")], "last")
    states = text.encode(model, ["owl in ink", ""])
    assert torch.allclose(concepts[0], states[0, places[2]], atol=1e-6) and torch.allclose(guides[0], states[1, 0], atol=1e-6)
    concepts, guides = closed.pairs_of(model, [("owl in ink", "")], "rest")
    assert len(concepts) == len(guides) == model.tokenizer.model_max_length - places[2]


def test_rece_is_uce_and_then_its_edit_of_the_worst_state(model):
    given = rece.Parameters(epochs=1, regularisation=0.1, ridge=0.5)
    found = rece.erase(model, PAIRS, given, retained=RETAINED)
    own = dict(model.unet.named_parameters())
    first = uce.erase(model, PAIRS, uce.Parameters(ridge=0.5), retained=RETAINED)
    old = {name: own[name].detach().double() for name in closed.edited_names(model.unet)}
    concepts, guides = (one.double() for one in closed.pairs_of(model, PAIRS, "last"))
    n = concepts.shape[1]
    left, right = 0.1 * torch.eye(n, dtype=torch.float64), torch.zeros(n, len(concepts), dtype=torch.float64)
    for name in old:
        new = first[f"unet.{name}"].double()
        for row in range(len(new)):
            left += torch.outer(new[row], new[row])
            right += torch.outer(new[row], concepts @ old[name][row])
    again = torch.linalg.inv(left) @ right
    preserved = closed.preserved_of(model, RETAINED, "last").double()
    for name in old:
        new = first[f"unet.{name}"].double()
        edit = edited(new, again.T, guides @ old[name].T, preserved, 0.5, 1.0, 1.0)
        assert torch.allclose(found[f"unet.{name}"].double(), edit, atol=1e-4), name


def test_more_epochs_leave_less_of_the_concept(model):
    own = dict(model.unet.named_parameters())
    old = {name: own[name].detach() for name in closed.edited_names(model.unet)}
    concepts, _ = closed.pairs_of(model, PAIRS, "last")
    left = []
    for epochs in (1, 4):
        found = rece.erase(model, PAIRS, rece.Parameters(epochs=epochs))
        new = {name: found[f"unet.{name}"] for name in old}
        again = rece.worst(new, old, concepts, 1e-3)
        left.append(sum(float((again @ new[name].double().T - concepts.double() @ old[name].double().T).norm() ** 2) for name in old))
    assert left[1] >= left[0] - 1e-9  # the concept's old outputs are harder to reach


def test_without_pairs_it_says_so(model):
    for one in (uce, rece):
        with pytest.raises(MethodError, match="needs prompts"):
            one.erase(model, [], one.Parameters())


def test_the_null_space_edit_is_its_formula(model):
    """Against W + R K^T (K K^T + lam I)^-1 with the projection written out, channel by channel."""
    given = null_space.Parameters(ridge=0.3)
    found = null_space.erase(model, PAIRS, given, retained=RETAINED)
    concepts, guides = (one.double() for one in closed.pairs_of(model, PAIRS, "last"))
    kept = closed.preserved_of(model, [*RETAINED, "owl", ""], "last").double()
    basis = []  # Gram and Schmidt: what the retained states span
    for state in kept:
        rest = state.clone()
        for one in basis:
            rest = rest - (rest @ one) * one
        if rest.norm() > 1e-6:
            basis.append(rest / rest.norm())
    channels = kept.shape[1]
    projection = torch.eye(channels, dtype=torch.float64) - sum(torch.outer(one, one) for one in basis)
    keys = projection @ concepts.T
    for name in closed.edited_names(model.unet):
        weight = dict(model.unet.named_parameters())[name].detach().double()
        rest = weight @ (guides - concepts).T
        expected = weight + rest @ keys.T @ torch.linalg.inv(keys @ keys.T + 0.3 * torch.eye(channels, dtype=torch.float64))
        assert torch.allclose(found[f"unet.{name}"].double(), expected, atol=1e-5)


def test_the_null_space_edit_leaves_retained_outputs_and_moves_the_concept(model):
    found = null_space.erase(model, PAIRS, null_space.Parameters(ridge=1e-6), retained=RETAINED)
    concepts, guides = closed.pairs_of(model, PAIRS, "last")
    kept = closed.preserved_of(model, RETAINED, "last")
    moved = 0.0
    for name in closed.edited_names(model.unet):
        before, after = dict(model.unet.named_parameters())[name].detach(), found[f"unet.{name}"]
        assert torch.allclose(kept @ after.T, kept @ before.T, atol=1e-4)
        distance = lambda weight, before=before: ((concepts @ weight.T - guides @ before.T).norm() / (guides @ before.T).norm()).item()  # noqa: E731
        assert distance(after) < 0.01 < distance(before)
        moved += (after - before).norm().item()
    assert moved > 0


def test_the_null_space_edit_says_what_it_lacks(model):
    with pytest.raises(MethodError, match="needs prompts to retain"):
        null_space.erase(model, PAIRS, null_space.Parameters())
    with pytest.raises(MethodError, match="span all"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(closed, "unread", lambda states, tolerance: states[:0])
        null_space.erase(model, PAIRS, null_space.Parameters(tokens="rest"), retained=RETAINED)
    with pytest.raises(MethodError, match="the study gives none"):
        null_space.erase(model, [], null_space.Parameters(), retained=RETAINED)
