"""Our reading of SAFREE: its formulas by loops, the calls at which projected words hold, what stays as it was, and gradients through it."""

import pytest
import torch

from tests import tiny, tiny_xl
from workbench import registry
from workbench.analysis.conductance import conductance
from workbench.diffusion import denoise as loop
from workbench.diffusion import objectives
from workbench.diffusion.denoise import Trajectory
from workbench.diffusion.targets import Items, Quadratic
from workbench.errors import MethodError, ModelError
from workbench.models import text
from workbench.models.changes import safree
from workbench.models.load import from_pipeline
from workbench.models.variants import Variant, applied, base_again, describe
from workbench.neurons import sites
from workbench.neurons.reduce import Statistics
from workbench.neurons.taps import Taps
from workbench.neurons.text_taps import TextTaps

PROMPTS = ["an owl in ink style", "ink", "a silver church"]
CONCEPT, SEEDS, STEPS = "ink, ink style", [3, 4, 5], 10


@pytest.fixture
def model():
    """A tiny model that is sampled with 10 steps."""
    model = from_pipeline(tiny.pipeline(), "tiny")
    model.expected_steps = STEPS
    return model


def made(model, **parameters):
    """The variant the eraser makes."""
    eraser = registry.method("erasers", "safree")
    return Variant("safe", changes=(eraser.call(model, [], eraser.parameters(concept=CONCEPT, **{"up_t": 30, **parameters})),))


def sampled(model, variant=None, **more):
    with applied(model, variant), torch.no_grad():
        return loop.denoise(model, text.encode(model, PROMPTS), text.unconditional(model), SEEDS, n_steps=STEPS, guidance=4.0, **more)[0]


def end_state(model, prompt, without=None):
    """The text state at the end token, one token left unseen; by the library alone."""
    read = model.tokenizer(prompt, padding="max_length", max_length=16, truncation=True, return_tensors="pt")
    seen = torch.ones_like(read.input_ids)
    if without is not None:
        seen[0, without] = 0
    end = read.input_ids[0].tolist().index(model.tokenizer.eos_token_id)
    return model.text_encoder(read.input_ids, attention_mask=seen).last_hidden_state[0, end].double(), end


def projector(vectors):
    """The matrix that projects on the span of rows."""
    columns = torch.stack(vectors).T
    return columns @ torch.linalg.pinv(columns, rtol=1e-4)


def by_loops(model, prompt, alpha, up_t):
    """(projected states, share of the steps) from the paper's formulas, one word at a time."""
    concept = projector([end_state(model, one.strip())[0] for one in CONCEPT.split(",")])
    whole, end = end_state(model, prompt)
    states = text.encode(model, [prompt])[0].double()
    masked = [end_state(model, prompt, place)[0] for place in range(1, end)]
    distances = [float((one - concept @ one).norm()) for one in masked]
    safe, n, similar = states.clone(), len(masked), []
    inside = projector(masked)
    out = []
    for i, distance in enumerate(distances):
        others = [other for j, other in enumerate(distances) if j != i]
        if others:
            out.append(distance > (1 + alpha) * sum(others) / len(others))
        else:
            out.append(distance < float((whole - concept @ whole).norm()))
        moved = inside @ (states[i + 1] - concept @ states[i + 1])
        similar.append(float(moved @ states[i + 1] / moved.norm() / states[i + 1].norm()))
        if out[-1]:
            safe[i + 1] = moved
    share = up_t / 50 / (1 + 2.718281828459045 ** (sum(similar) / n - 1))
    return safe.float(), share if any(out) else 0.0


@pytest.mark.parametrize("alpha", [0.0, 0.01, 0.3])
def test_projected_words_and_their_steps_are_the_formulas(model, alpha):
    with torch.no_grad():
        before = text.encode(model, PROMPTS)
        with applied(model, made(model, alpha=alpha)):
            found = text.encode(model, PROMPTS)
        moved = 0
        for row, prompt in enumerate(PROMPTS):
            safe, share = by_loops(model, prompt, alpha, 30)
            assert torch.equal(found[row, :16], before[row])
            assert torch.allclose(found[row, 16:32], safe, atol=1e-4) and abs(float(found[row, 32, 0]) - share) < 1e-5
            moved += not torch.allclose(safe, before[row], atol=1e-3)
    assert moved or alpha == 0.3


def test_the_end_token_and_padding_are_projected_on_demand(model):
    with torch.no_grad():
        plain = text.encode(model, PROMPTS)
        with applied(model, made(model)):
            words = text.encode(model, PROMPTS)
        with applied(model, made(model, ends=True)):
            found = text.encode(model, PROMPTS)
    end = text.ends(model, text.tokenize(model.tokenizer, PROMPTS))[0]
    assert torch.equal(found[0, 16 : 16 + end], words[0, 16 : 16 + end]) and torch.equal(words[0, 16 + end : 32], plain[0, end:])
    assert not torch.isclose(found[0, 16 + end : 32], plain[0, end:], atol=1e-3).all(dim=-1).any()


def test_projected_words_hold_for_the_first_calls_only(model):
    """The same images by a loop that is given other text states from some call on."""
    variant = made(model, reattention=False)
    with torch.no_grad(), applied(model, variant):
        packed = text.encode(model, PROMPTS)
    calls = (packed[:, 32, 0] * STEPS).round()
    assert 0 < calls[0] < STEPS
    scheduler, empty = model.new_scheduler(STEPS), text.unconditional(model).expand(3, -1, -1)
    latents = loop.initial_noise(model, SEEDS) * scheduler.init_noise_sigma
    with torch.no_grad():
        for call, timestep in enumerate(scheduler.timesteps):
            states = torch.stack([packed[row, 16:32] if call < calls[row] else packed[row, :16] for row in range(3)])
            without, with_text = (model.run_unet(latents, timestep, one) for one in (empty, states))
            latents = scheduler.step(without + 4.0 * (with_text - without), timestep, latents).prev_sample
    found = sampled(model, variant)
    assert torch.allclose(found, latents, atol=1e-4) and not torch.allclose(found[0], sampled(model)[0], atol=1e-2)


def test_a_prompt_whose_words_all_stay_keeps_every_bit(model):
    assert torch.equal(sampled(model, made(model, alpha=1.0)), sampled(model))


def slowly(features, others, scale):
    """One channel at a time, by shifted spectra."""
    result = torch.empty_like(features)
    for row in range(features.shape[0]):
        for channel in range(features.shape[1]):
            own, beside = (torch.fft.fftshift(torch.fft.fftn(one[row, channel])) for one in (features, others))
            middle, centre = own.shape[0] // 2, own.shape[1] // 2
            for i in (middle - 1, middle):
                for j in (centre - 1, centre):
                    if own[i, j].abs() > beside[i, j].abs():
                        own[i, j] = own[i, j] * scale
            result[row, channel] = torch.fft.ifftn(torch.fft.ifftshift(own)).real
    return result


def test_skip_features_are_weighed_by_formula(model):
    features, others = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    assert torch.allclose(safree.weighed(features, others, 0.2), slowly(features, others, 0.2), atol=1e-5)
    assert torch.allclose(safree.weighed(features, features, 0.2), features, atol=1e-5)


def test_the_unet_weighs_the_skips_of_rows_with_projected_words(model):
    """The inputs of the up blocks, with the skips of the same call under the prompt itself beside them."""
    joined, path = [], "up_blocks.1.resnets.0"
    noised, at = loop.initial_noise(model, SEEDS), torch.tensor(901)
    (n,) = [n for place, n, _ in safree._places(model.unet) if place == path]
    handle = lambda: model.unet.get_submodule(path).register_forward_pre_hook(lambda m, args: joined.append(args[0]))  # noqa: E731
    with torch.no_grad():
        with applied(model, made(model, skip_1=1.0, reattention=False)):
            packed = text.encode(model, PROMPTS)
        watched = handle()
        for states in (packed[:, :16], packed[:, 16:32]):
            model.run_unet(noised, at, states)
        watched.remove()
        with applied(model, made(model, skip_1=1.0)):
            watched = handle()
            model.run_unet(noised, at, packed)
            watched.remove()
    under, projected, found = joined
    holds = packed[:, 32, 0] > 0
    wanted = slowly(projected[:, -n:], under[:, -n:], 0.2)
    assert holds.any() and not holds.all()
    assert torch.allclose(found[holds, -n:], wanted[holds], atol=1e-4) and torch.allclose(found[:, :-n], projected[:, :-n], atol=1e-5)
    assert torch.allclose(found[~holds, -n:], under[~holds, -n:], atol=1e-5)


def test_gradients_pass_through_the_projection_and_the_base_model_does_not_see_it(model):
    noised, at, clean = loop.initial_noise(model, [3]), torch.tensor([950]), torch.randn(1, *model.latent_shape)
    vectors = text.token_vectors(model)[text.words(model, "ink")].detach()[None].clone()

    def gradient(variant):
        asked = vectors.clone().requires_grad_()
        with applied(model, variant):
            loss = objectives.denoising_loss(model, clean, noised, at, text.encode(model, ["an owl in style"], asked))
            return torch.autograd.grad(loss.sum(), asked)[0]

    aware, unaware = gradient(made(model)), gradient(None)
    assert aware.isfinite().all() and aware.abs().sum() > 0 and not torch.allclose(aware, unaware, rtol=1e-2)
    own = {name: parameter.data for name, parameter in model.parameters().items()}
    states = text.encode(model, PROMPTS)
    with applied(model, made(model)):
        packed = text.encode(model, PROMPTS)
        with base_again(model, own):
            assert torch.equal(text.encode(model, PROMPTS), states)
            seen = model.run_unet(noised.expand(3, -1, -1, -1), torch.tensor(901), packed)
    assert torch.equal(seen, model.run_unet(noised.expand(3, -1, -1, -1), torch.tensor(901), states))


def test_recordings_in_the_shared_regime_are_those_of_the_words_that_hold(model):
    layers = sites.layers(model.unet, ["ff"])[:2]
    inputs = torch.randn(3, 2, *model.latent_shape)
    trajectory = Trajectory(inputs, [0, 9], [900.0, 0.0])

    def recorded(variant, choose=lambda states: states):
        kept = Statistics(layers, 3, [0, 9])
        with applied(model, variant), torch.no_grad(), Taps(model.unet, layers, kept) as taps:
            loop.evaluate(model, choose(text.encode(model, PROMPTS)), [trajectory], taps)
        return kept.to_tensors()

    variant = made(model, reattention=False)
    found, early, late = recorded(variant), recorded(variant, lambda s: s[:, 16:32]), recorded(None)
    whole = recorded(made(model))  # with the twin's passes, which no tap sees
    for name in [name for name in found if name.endswith("|mean_abs")]:
        assert torch.equal(found[name][:, 0], early[name][:, 0]) and torch.equal(found[name][:, 1], late[name][:, 1]), name
        assert whole[name].shape == found[name].shape


def test_taps_on_the_text_encoder_see_each_prompt_once(model):
    layers = sites.layers(model.unet, ["text_mlp"], model.text_encoder)
    with applied(model, made(model)), torch.no_grad():
        kept = Statistics(layers, 3, [0])
        with TextTaps(model.text_encoder, layers, kept) as taps:
            taps.encode(model, PROMPTS)
    plain = Statistics(layers, 3, [0])
    with torch.no_grad(), TextTaps(model.text_encoder, layers, plain) as taps:
        taps.encode(model, PROMPTS)
    for name, value in plain.to_tensors().items():
        assert torch.equal(kept.to_tensors()[name], value), name


def test_conductance_adds_up_under_the_transform():
    model = from_pipeline(tiny.pipeline(), "tiny", dtype=torch.float64)
    model.expected_steps = STEPS
    layers = sites.layers(model.unet, ["ff"])
    with applied(model, made(model, reattention=False)):  # what re-attention compares jumps along the line
        with torch.no_grad():
            states, empty = text.encode(model, PROMPTS), text.unconditional(model)
        items = Items(Trajectory(torch.randn(3, 1, *model.latent_shape, dtype=torch.float64), [0], [901.0]), states, ["a", "b", "c"])
        found = conductance(model, layers, items, Quadratic(empty), empty, n_steps=64, batch=3)
    assert (found.items["delta"].abs() < 0.01 * found.items["value"].abs().max()).all()


def test_two_encoders_are_read_too():
    model = from_pipeline(tiny_xl.xl_pipeline(), "tiny-xl")
    model.expected_steps = STEPS
    variant = made(model)
    with torch.no_grad(), applied(model, variant):
        packed = text.encode(model, PROMPTS)
        assert packed.shape[1] == 2 * text.length(model) + 1 and (packed[:, -1, 0] > 0).any()
        with_it = loop.denoise(model, packed, text.unconditional(model), SEEDS, n_steps=STEPS, guidance=4.0)[0]
    with torch.no_grad():
        without = loop.denoise(model, text.encode(model, PROMPTS), text.unconditional(model), SEEDS, n_steps=STEPS, guidance=4.0)[0]
    assert not torch.allclose(with_it, without, atol=1e-3)


def test_it_says_what_it_is_and_leaves_nothing_behind(model):
    variant, bits = made(model), model.digest()
    said = describe(model, variant)
    assert said["others"] == ['prompt transform away from "ink, ink style" (our reading of SAFREE)'] and said["parameters_changed"] == 0
    with pytest.raises(KeyboardInterrupt), applied(model, variant):
        raise KeyboardInterrupt
    assert model.transform is None and model.digest() == bits
    assert not any(module._forward_pre_hooks for module in model.unet.modules())
    with pytest.raises(ModelError, match="two of them do not add up"), applied(model, made(model).over(variant)):
        pass
    assert model.transform is None
    eraser = registry.method("erasers", "safree")
    with pytest.raises(MethodError, match="names nothing"):
        eraser.call(model, [], eraser.parameters(concept=" , "))
