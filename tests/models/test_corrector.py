"""Our reading of Concept Corrector: what the detector is shown, which rows are corrected from which call on, and how, by loops."""

from types import SimpleNamespace

import pytest
import torch

from tests import tiny
from workbench import registry
from workbench.diffusion import denoise as loop
from workbench.diffusion import objectives
from workbench.diffusion.denoise import Trajectory
from workbench.errors import MethodError, ModelError
from workbench.models import text
from workbench.models.changes import corrector
from workbench.models.load import from_pipeline
from workbench.models.variants import Variant, applied, base_again, describe
from workbench.neurons import sites
from workbench.neurons.reduce import Statistics
from workbench.neurons.taps import Taps

PROMPTS, SEEDS, STEPS = ["an owl in ink style", "a silver church"], [3, 4], 10
GIVEN = {"detector": {"method": "emoji", "which": "steer"}, "labels": ["style:ink"]}


class Sees:
    """A detector that finds the concept in given rows, and keeps what it was shown."""

    def __init__(self, *rows):
        self.rows, self.shown, self.asked = rows, [], []

    def present(self, images, labels):
        self.shown.append(images)
        self.asked.append(labels)
        found = torch.tensor([row in self.rows for row in range(len(images))])
        return found, found.float()


def made(model, detector, **parameters):
    """The variant the eraser makes; every detector it names is this one."""
    model.detectors = lambda given: detector
    eraser = registry.method("erasers", "concept_corrector")
    given = eraser.parameters(concept="ink style", replacement="water colour", **parameters)
    return Variant("corrected", changes=(eraser.call(model, [], given, detector=GIVEN),))


def sampled(model, variant=None, keep=(), **more):
    with applied(model, variant), torch.no_grad():
        states, empty = text.encode(model, PROMPTS), text.unconditional(model)
        return loop.denoise(model, states, empty, SEEDS, n_steps=STEPS, guidance=4.0, keep=keep, **more)


def test_rows_are_corrected_from_the_call_after_the_look_on(model):
    detector = Sees(0)
    found, path = sampled(model, made(model, detector, looks=[0.2, 0.5]), keep=range(STEPS))
    plain, before = sampled(model, keep=range(STEPS))
    assert path.corrected.tolist() == [3, -1] and detector.asked == [["style:ink"]] * 2
    assert torch.equal(path.inputs[:, :4], before.inputs[:, :4]) and torch.allclose(found[1], plain[1], atol=1e-5)
    assert not torch.allclose(path.inputs[0, 4], before.inputs[0, 4], atol=1e-3)


def test_where_nothing_is_seen_no_bit_changes(model):
    found, path = sampled(model, made(model, Sees()))
    assert torch.equal(found, sampled(model)[0]) and path.corrected.tolist() == [-1, -1]
    assert sampled(model)[1].corrected is None


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_detector_is_shown_the_image_that_the_noise_predicts(kind):
    pipe = tiny.pipeline()
    pipe.scheduler.register_to_config(prediction_type=kind)
    model, detector = from_pipeline(pipe, "tiny"), Sees()
    _, path = sampled(model, made(model, detector, looks=[0.4]), keep=[4])
    inputs, at = path.inputs[:, 0], path.timesteps[0]
    abar = float(model.scheduler.alphas_cumprod[int(at)])
    with torch.no_grad():
        states, empty = text.encode(model, PROMPTS), text.unconditional(model).expand(2, -1, -1)
        without, with_text = (model.predict(inputs, torch.tensor(at), one) for one in (empty, states))
    noise = without + 4.0 * (with_text - without)
    wanted = model.decode((inputs - (1 - abar) ** 0.5 * noise) / abar**0.5)
    assert len(detector.shown) == 1 and torch.allclose(detector.shown[0], wanted, atol=1e-3)


@pytest.mark.parametrize("away", [False, True])
def test_everywhere_is_the_replacement_text_itself(model, away):
    """With mask 0 a corrected row continues as if its prompt were the replacement, and with `away` the concept its negative prompt."""
    found, path = sampled(model, made(model, Sees(0), looks=[0.2], mask=0.0, away=away))
    with torch.no_grad():
        own, other, empty = text.encode(model, PROMPTS[:1]), text.encode(model, ["water colour"]), text.unconditional(model)
        led = text.encode(model, ["ink style"]) if away else empty
        scheduler = model.new_scheduler(STEPS)
        latents = loop.initial_noise(model, SEEDS[:1]) * scheduler.init_noise_sigma
        for call, timestep in enumerate(scheduler.timesteps):
            states = own if call < path.corrected[0] else other
            beside = empty if call < path.corrected[0] else led
            without, with_text = (model.run_unet(latents, timestep, one) for one in (beside, states))
            latents = scheduler.step(without + 4.0 * (with_text - without), timestep, latents).prev_sample
    assert torch.allclose(found[:1], latents, atol=1e-4)


@pytest.mark.parametrize("mask", [0.3, 1.0])
def test_positions_that_attend_to_the_concept_read_the_replacement(model, mask):
    """One cross-attention, a position and a head at a time."""
    variant, path = made(model, Sees(), mask=mask), "mid_block.attentions.0.transformer_blocks.0.attn2"
    module = model.unet.get_submodule(path)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 5, module.to_q.in_features, generator=generator)
    states = text.encode(model, PROMPTS)
    plain = module(hidden, encoder_hidden_states=states)
    with applied(model, variant):
        model.corrector.rows, model.corrector.led_away = torch.tensor([True, False]), torch.tensor([False, False])
        found = module(hidden, encoder_hidden_states=states)
        model.corrector.rows = None
        concept, other = model.corrector.concept[0], model.corrector.replacement
    toward = module(hidden[:1], encoder_hidden_states=other)[0]
    end = text.tokenize(model.tokenizer, ["ink style"])[0].tolist().index(model.tokenizer.eos_token_id)
    size, shares = module.to_q.out_features // module.heads, []
    for position in range(5):
        total = 0.0
        for head in range(module.heads):
            part = slice(head * size, (head + 1) * size)
            query, keys = module.to_q(hidden[0, position])[part], module.to_k(concept)[:, part]
            total += float((keys @ query / size**0.5).softmax(dim=0)[1:end].sum()) / module.heads
        shares.append(total)
    chosen = [(share - min(shares)) / (max(shares) - min(shares)) >= mask for share in shares]
    assert 0 < sum(chosen) < 5
    for position, here in enumerate(chosen):
        assert torch.allclose(found[0, position], toward[position] if here else plain[0, position], atol=1e-5)
    assert torch.equal(found[1], plain[1])


def test_attacks_and_recordings_at_given_latents_do_not_see_it(model):
    variant, layers = made(model, Sees(0, 1)), sites.layers(model.unet, ["ff"])[:2]
    noised, at, states = loop.initial_noise(model, SEEDS), torch.tensor(500), text.encode(model, PROMPTS)

    def recorded(change):
        kept = Statistics(layers, 2, [4])
        with applied(model, change), torch.no_grad(), Taps(model.unet, layers, kept) as taps:
            loop.evaluate(model, states, [Trajectory(noised[:, None], [4], [500.0])], taps)
        return kept.to_tensors()

    with torch.no_grad():
        plain = objectives.seen(model, noised, at, states)
        with applied(model, variant):
            assert torch.equal(objectives.seen(model, noised, at, states), plain)
    for (name, one), other in zip(recorded(variant).items(), recorded(None).values(), strict=True):
        assert torch.equal(one.nan_to_num(), other.nan_to_num()), name


def test_the_base_model_is_not_corrected_inside_the_variant(model):
    own = {name: parameter.data for name, parameter in model.parameters().items()}
    with torch.no_grad(), applied(model, made(model, Sees(0))), base_again(model, own):
        states, empty = text.encode(model, PROMPTS), text.unconditional(model)
        found, path = loop.denoise(model, states, empty, SEEDS, n_steps=STEPS, guidance=4.0)
    assert path.corrected is None and torch.equal(found, sampled(model)[0])


def test_it_says_what_it_is_needs_a_detector_and_leaves_nothing_behind(model):
    variant, bits = made(model, Sees(0)), model.digest()
    said = 'images corrected from "ink style" to "water colour" where a detector sees the concept (our reading of Concept Corrector)'
    assert describe(model, variant)["others"] == [said]
    with pytest.raises(KeyboardInterrupt), applied(model, variant):
        raise KeyboardInterrupt
    assert model.corrector is None and model.digest() == bits
    assert not any(module._forward_hooks for module in model.unet.modules())
    with pytest.raises(ModelError, match="has a corrector already"), applied(model, variant.over(variant)):
        pass
    model.detectors = None
    with pytest.raises(ModelError, match="needs a detector of a study"), applied(model, variant):
        pass
    eraser = registry.method("erasers", "concept_corrector")
    with pytest.raises(MethodError, match="needs the detector of a study"):
        eraser.call(model, [], eraser.parameters(concept="ink", replacement="owl"))
    assert corrector.of(SimpleNamespace(corrector=None)) is corrector.NEVER
