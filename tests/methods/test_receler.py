"""Receler: its loss equals slow references, a killed training continues to the same modules, and its files come back."""

import math

import pytest
import torch

from tests.reference import attention_to, away_from
from workbench import registry
from workbench.diffusion import denoise as loop
from workbench.errors import MethodError, ModelError
from workbench.methods.erasers import _receler
from workbench.models import text
from workbench.models.changes import adapter, receler_files
from workbench.models.variants import Variant, applied
from workbench.storage import write_json

PAIRS = [("an owl in ink style", "an owl"), ("cat in ink", "cat")]
METHOD = registry.method("erasers", "receler")
SMALL = {"iterations": 3, "steps": 3, "trajectories": 2, "batch": 2, "adversarial_steps": 2, "adversarial_tokens": 3, "rank": 2}


def test_it_begins_as_the_model_itself_and_then_changes_what_is_predicted(model):
    states, noised, at = text.encode(model, [PAIRS[0][0]]), loop.initial_noise(model, [1]), torch.tensor(500)
    before = model.predict(noised, at, states)
    training = _receler.Training(model, PAIRS, METHOD.parameters(**SMALL))
    with applied(model, Variant("v", changes=(training.change,))):
        assert torch.equal(model.predict(noised, at, states), before)
    log = []
    change = METHOD.call(model, PAIRS, METHOD.parameters(**SMALL), log=log)
    assert [step for step, _ in log] == [1, 2, 3] and all(math.isfinite(loss) for _, loss in log)
    with applied(model, Variant("v", changes=(change,))):
        assert not torch.equal(model.predict(noised, at, states), before)
    assert torch.equal(model.predict(noised, at, states), before)


def test_the_loss_falls_and_steers_away_from_the_concept(model):
    log = []
    METHOD.call(model, PAIRS[:1], METHOD.parameters(**SMALL | {"iterations": 60, "learning_rate": 0.01, "locality": 0.0}), log=log)
    losses = [loss for _, loss in log]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_maps_are_the_attention_of_every_head_and_the_mask_is_its_reference(model):
    states, noised = text.encode(model, [prompt for prompt, _ in PAIRS]), loop.initial_noise(model, [1, 2])
    seen, handles = {}, []
    for path, module in _receler.attentions(model.unet).items():
        handles.append(
            module.register_forward_pre_hook(lambda m, a, k, path=path: seen.__setitem__(path, (a[0].clone(), k)), with_kwargs=True)
        )
    with _receler.Maps(model.unet) as maps, torch.no_grad():
        model.predict(noised, torch.tensor(500), states)
    for handle in handles:
        handle.remove()
    for path, module in _receler.attentions(model.unet).items():
        assert not module.to_q._forward_hooks and not module._forward_hooks
        expected = attention_to(module, seen[path][0], states)
        assert torch.allclose(maps.of[path], expected, atol=1e-5)
    words = [_receler.concept_places(model, *pair) for pair in PAIRS]
    assert words == [[3, 4, 5], [2, 3]]  # after the start token: "in ink style", "in ink"
    inside = _receler.where(maps.of, words, 4, 0.3)
    sides = {path: math.isqrt(one.shape[1]) for path, one in maps.of.items()}
    chosen = [path for path, side in sides.items() if side == 4]
    assert chosen and len(set(sides.values())) > 1
    for row, places in enumerate(words):
        mean = sum(maps.of[path][row][:, places].mean(-1) for path in chosen) / len(chosen)
        share = (mean - mean.min()) / (mean.max() - mean.min())
        for path, side in sides.items():
            for position in range(side * side):
                y, x = position // side * 4 // side, position % side * 4 // side
                assert bool(inside[path][row][position]) == bool(share[4 * y + x] >= 0.3), (path, position)


def test_what_is_added_outside_the_mask_is_its_reference():
    generator = torch.Generator().manual_seed(0)
    added = {name: torch.randn(2, 16, 3, generator=generator) for name in "ab"}
    inside = {"a": torch.rand(2, 16, generator=generator) > 0.5, "b": torch.ones(2, 16, dtype=torch.bool)}
    assert _receler.outside(added, inside).item() == pytest.approx(away_from(added, inside), rel=1e-5)


def test_adversarial_states_stand_behind_the_words_and_nowhere_else(model):
    training = _receler.Training(model, PAIRS, METHOD.parameters(**SMALL))
    pair = torch.tensor([1, 0])
    found, plain = training.adversarial(pair), training.pool.concept[pair]
    for row, one in enumerate(pair.tolist()):
        first = 1 + len(text.words(model, PAIRS[one][0]))
        assert torch.equal(found[row, first : first + 3], training.vectors[one])
        kept = [place for place in range(found.shape[1]) if not first <= place < first + 3]
        assert torch.equal(found[row, kept], plain[row, kept])


def test_a_killed_training_continues_to_the_same_modules(model, monkeypatch):
    from workbench.methods.erasers import _training

    monkeypatch.setattr(_training, "KEEP_EVERY", 0.0)
    monkeypatch.setattr(_training, "KEEPING", 0.0)
    parameters, saved, log = METHOD.parameters(**SMALL | {"iterations": 4}), {}, []
    whole = METHOD.call(model, PAIRS, parameters)

    def keep(name, state):
        saved[name] = state
        if state["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        METHOD.call(model, PAIRS, parameters, keep=keep)
    again = METHOD.call(model, PAIRS, parameters, kept=saved.get, log=log)
    assert again.digest == whole.digest and [step for step, _ in log] == [1, 2, 3, 4]


def test_without_a_pool_every_latent_is_sampled_by_the_model_in_training(model):
    change = METHOD.call(model, PAIRS, METHOD.parameters(**SMALL | {"trajectories": 0}))
    assert all(value.isfinite().all() for value in change.tensors.values())


def test_its_files_come_back_and_are_a_variant(model, tmp_path):
    change = METHOD.call(model, PAIRS, METHOD.parameters(**SMALL))
    folder = receler_files.write(change, tmp_path / "files")
    assert receler_files.is_one(folder) and receler_files.read(folder, model).digest == change.digest
    known = torch.load(folder / "eraser_weights.pt", weights_only=True)
    assert set(known["mid_block.attentions.0"]) == set(adapter.PARTS)
    checkpoint = registry.method("erasers", "from_checkpoint")
    read = checkpoint.call(model, [], checkpoint.parameters(path=str(folder)), folder=tmp_path)
    assert read.digest == change.digest
    checkpoint.check(checkpoint.parameters(path=str(folder)), model)
    assert checkpoint.files(checkpoint.parameters(path=str(folder)), tmp_path)


@pytest.mark.parametrize(
    "spoil, said",
    [
        (lambda content: content.clear(), "holds no added modules"),
        (lambda content: content["mid_block.attentions.0"].pop("up.bias"), "has no up.bias"),
        (lambda content: content["mid_block.attentions.0"]["up.bias"].fill_(torch.nan), "not finite"),
        (lambda content: content.update({"mid_block.attentions.7": content.pop("mid_block.attentions.0")}), "does not have"),
        (lambda content: content["mid_block.attentions.0"].update({"down.bias": torch.zeros(9)}), "differ in width"),
    ],
)
def test_files_that_do_not_fit_are_refused(model, tmp_path, spoil, said):
    folder = receler_files.write(METHOD.call(model, PAIRS, METHOD.parameters(**SMALL | {"iterations": 1})), tmp_path / "files")
    content = torch.load(folder / "eraser_weights.pt", weights_only=True)
    spoil(content)
    torch.save(content, folder / "eraser_weights.pt")
    with pytest.raises(ModelError, match=said):
        receler_files.read(folder, model)
    write_json(folder / "eraser_config.json", {"eraser_type": "lora"})
    with pytest.raises(ModelError, match="eraser_type 'lora'"):
        receler_files.read(folder, model)


def test_pairs_it_cannot_learn_from_are_refused(model):
    with pytest.raises(MethodError, match="needs prompts with the concept"):
        METHOD.call(model, [], METHOD.parameters(**SMALL))
    with pytest.raises(MethodError, match="fills the context"):
        METHOD.call(model, [("owl " * 40, "cat")], METHOD.parameters(**SMALL))
