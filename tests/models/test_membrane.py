"""SPM's membranes: what a layer adds, the strength of each prompt, SPM's own files, and the loss they are trained by."""

import pytest
import torch

from workbench import registry
from workbench.diffusion import denoise as loop
from workbench.diffusion import objectives
from workbench.errors import MethodError, ModelError
from workbench.methods.erasers import _spm
from workbench.models import formats, text
from workbench.models.changes import Change, membrane, spm_files
from workbench.models.variants import Variant, applied, base_again, describe
from workbench.storage import write_arrays

PROMPTS, SEEDS = ["an owl in ink style", "ink style", "a silver church"], [3, 4, 5]
CONCEPT = ["ink style", "black outline"]


def made(model, rank=2, alpha=1.0, prompts=CONCEPT):
    """Random membranes."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(value.shape, generator=generator) * 0.3 for name, value in _spm.started(model.unet, rank, generator).items()
    }
    return spm_files.made(model, prompts, rank, alpha, tensors)


def strengths(model, prompts):
    """m of each prompt by its definition, one prompt of the concept at a time."""
    found, special = [], set(model.tokenizer.all_special_ids)
    for prompt in prompts:
        own = text.encode(model, [prompt])[0].flatten()
        tokens, best = set(model.tokenizer(prompt).input_ids) - special, -1.0
        for concept in CONCEPT:
            other, said = text.encode(model, [concept])[0].flatten(), set(model.tokenizer(concept).input_ids) - special
            best = max(best, float(own @ other / own.norm() / other.norm()), len(tokens & said) / len(said))
        found.append(best)
    return found


def test_every_prompt_has_the_strength_of_the_definition(model):
    with torch.no_grad():
        plain = text.encode(model, PROMPTS)
        with applied(model, Variant("v", changes=(made(model),))):
            packed = text.encode(model, PROMPTS)
    assert torch.equal(packed[:, :16], plain)
    assert torch.allclose(packed[:, 16, 0], torch.tensor(strengths(model, PROMPTS)), atol=1e-5)
    assert packed[1, 16, 0] == 1 and packed[2, 16, 0] < 1


def test_at_full_strength_it_is_the_merged_adaptor(model, tmp_path):
    """SPM's file, merged into the weights by the reader of LoRA files."""
    change = made(model, alpha=1.5)
    path = spm_files.write(change, tmp_path / "owl")
    assert path.name == "owl_last.safetensors" and spm_files.is_one(path)
    merged = Variant("merged", weights=formats.read(path, model).changed(model))
    noised, at, states = loop.initial_noise(model, SEEDS[:1]), torch.tensor(500), text.encode(model, ["ink style"])
    with torch.no_grad():
        base = model.predict(noised, at, states)
        with applied(model, merged):
            wanted = model.predict(noised, at, states)
        with applied(model, Variant("v", changes=(change,))):
            found = model.predict(noised, at, text.encode(model, ["ink style"]))
    assert torch.allclose(found, wanted, atol=1e-4) and not torch.allclose(found, base, atol=1e-2)


def test_rows_of_one_call_have_strengths_of_their_own(model):
    change, noised, at = made(model), loop.initial_noise(model, SEEDS), torch.tensor(500)
    with torch.no_grad():
        states, base = text.encode(model, PROMPTS), model.predict(noised, at, text.encode(model, PROMPTS))
        with applied(model, Variant("v", changes=(change,))):
            found = model.predict(noised, at, text.encode(model, PROMPTS))
            own = {name: parameter.data for name, parameter in model.parameters().items()}
            with base_again(model, own):
                assert torch.equal(model.predict(noised, at, text.encode(model, PROMPTS)), base)
        for row, share in enumerate(strengths(model, PROMPTS)):
            with membrane.added(model, change, lambda share=share: share):
                alone = model.predict(noised[row : row + 1], at, states[row : row + 1])
            assert torch.allclose(found[row], alone[0], atol=1e-4)
    assert not any(module._forward_hooks for module in model.unet.modules()) and model.transform is None


def test_an_attack_passes_through_the_strength(model):
    noised, at, clean = loop.initial_noise(model, [3]), torch.tensor([500]), torch.randn(1, *model.latent_shape)
    vectors = text.token_vectors(model)[text.words(model, "ink")].detach()[None].clone()

    def gradient(detached):
        asked = vectors.clone().requires_grad_()
        with applied(model, Variant("v", changes=(made(model),))):
            states = text.encode(model, ["an owl"], asked)
            if detached:
                states = torch.cat([states[:, :-1], states[:, -1:].detach()], dim=1)
            return torch.autograd.grad(objectives.denoising_loss(model, clean, noised, at, states).sum(), asked)[0]

    through, beside = gradient(False), gradient(True)
    assert through.isfinite().all() and not torch.allclose(through, beside, rtol=1e-3)


def test_files_come_back_and_what_does_not_fit_is_refused(model, tmp_path):
    change = made(model)
    path = spm_files.write(change, tmp_path / "out")
    assert spm_files.read(path, model).digest == change.digest
    eraser = registry.method("erasers", "from_checkpoint")
    given = eraser.parameters(path=str(path), transport=True)
    assert eraser.call(model, [], given).digest == change.digest
    assert not isinstance(eraser.call(model, [], eraser.parameters(path=str(path))), Change)
    with pytest.raises(ModelError, match="no file of SPM's"):
        eraser.call(model, [], eraser.parameters(path=str(write(tmp_path / "x.safetensors", {})), transport=True))
    strange = {"lora_unet_nothing.lora_down.weight": torch.ones(1, 2)}
    with pytest.raises(ModelError, match="does not fit the model: lora_unet_nothing"):
        spm_files.read(write(tmp_path / "y.safetensors", strange), model)
    with pytest.raises(ModelError, match="no place for adapter"):
        spm_files.write(Change("adapter", {"rank": 1}), tmp_path / "z")
    with pytest.raises(ModelError, match="there are none"):
        made(model, prompts=[])
    moved = {name.replace("attn1", "attn9"): value for name, value in change.tensors.items()}
    with (
        pytest.raises(ModelError, match="no layer of an attention block"),
        applied(model, Variant("v", changes=(replaced(change, moved),))),
    ):
        pass
    with pytest.raises(ModelError, match="two of them do not add up"), applied(model, Variant("v", changes=(change, change))):
        pass


def write(path, tensors):
    """A file with SPM's header, or, without tensors, with none."""
    header = {"prompts": "ink", "rank": "1", "alpha": "1.0"} if tensors else {}
    write_arrays(path, tensors or {"a": torch.ones(1)}, header)
    return path


def replaced(change, tensors):
    return Change(change.kind, change.settings, tensors)


def test_it_is_described(model):
    said = describe(model, Variant("v", changes=(made(model),)))
    n = len(membrane.layers(model.unet))
    assert said["others"] == [f'membranes of rank 2 in {n} layers, as strong as a prompt is close to "ink style", "black outline" (SPM)']
    assert made(model).n_parameters > 0


def test_a_step_is_the_loss_of_the_paper(model):
    """The second step's loss by hand: membranes at full strength, the target and the anchor by the model itself."""
    eraser = registry.method("erasers", "spm")
    given = eraser.parameters(form="empty", iterations=2, steps=3, trajectories=2, batch=3, eta=0.7, anchoring=5.0)
    training = _spm.Training(model, [("owl in ink style", "owl"), ("cat in ink", "cat")], given, ["orange window", "a bridge"])
    training.improve()
    state = training.generator.get_state()
    before = {name: value.clone() for name, value in training.state()["tensors"].items()}
    change = Change("membrane", training.change.settings, before)
    found = training.improve()
    training.generator.set_state(state)
    drawn = training.pool.draw(model, training.generator, 3)
    picked = torch.randint(2, (3,), generator=training.generator)
    total = []
    with torch.no_grad():
        others, empty = text.encode(model, ["orange window", "a bridge"]), text.unconditional(model)
        for row in range(3):
            inputs, at = drawn.noised[row : row + 1], drawn.at[row : row + 1]
            concept, other = training.pool.concept[drawn.pair[row]][None], others[picked[row]][None]
            without, with_it, kept = (model.predict(inputs, at, states) for states in (empty, concept, other))
            with membrane.added(model, change, lambda: 1.0):
                erased, beside = (model.predict(inputs, at, states) for states in (concept, other))
            target = without - 0.7 * (with_it - without)
            total.append(float((erased - target).square().mean() + 5.0 * (beside - kept).square().mean()))
    assert found == pytest.approx(sum(total) / 3, rel=1e-4)


def test_training_lowers_its_loss_goes_on_after_a_kill_and_needs_pairs(model):
    eraser, losses, states = registry.method("erasers", "spm"), [], {}
    pairs, given = [("owl in ink style", "owl")], {"steps": 3, "trajectories": 2, "batch": 2, "learning_rate": 0.01}
    whole = eraser.call(model, pairs, eraser.parameters(iterations=30, **given), progress=lambda step, of, loss: losses.append(loss))
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    first = _spm.Training(model, pairs, eraser.parameters(iterations=30, **given), ["owl"])
    for _ in range(10):
        first.improve()
    states["membranes"] = {**first.state(), "log": []}
    again = eraser.call(model, pairs, eraser.parameters(iterations=30, **given), kept=states.get)
    for name in membrane.places(whole.tensors):
        assert torch.allclose(whole.tensors[f"{name}.up"], again.tensors[f"{name}.up"], atol=1e-5)
    with pytest.raises(MethodError, match="the study gives none"):
        eraser.call(model, [], eraser.parameters())
    with pytest.raises(MethodError, match="separates prompts by commas"):
        eraser.call(model, pairs, eraser.parameters(prompts=["ink, style"]))
