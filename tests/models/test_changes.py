"""Changes that are no weights: rules of guidance equal diffusers' pipelines, added modules equal their formula, and all go away again."""

import pytest
import torch

from tests import tiny
from workbench import registry
from workbench.diffusion import denoise as loop
from workbench.diffusion import objectives
from workbench.errors import ModelError
from workbench.methods.erasers.sld import STRENGTHS
from workbench.models import changes, text
from workbench.models.changes import Change, guidance
from workbench.models.variants import Variant, applied, base_again, describe
from workbench.neurons import sites
from workbench.neurons.reduce import Statistics
from workbench.neurons.taps import Taps

PROMPT, CONCEPT, SEEDS = "an owl in ink style", "ink style", [3, 4]


def sampled(model, variant=None, **more):
    """Latents of the prompt under a variant."""
    with applied(model, variant), torch.no_grad():
        states = text.encode(model, [PROMPT] * len(SEEDS))
        return loop.denoise(model, states, text.unconditional(model), SEEDS, n_steps=5, guidance=4.0, **more)[0]


def made(model, method, **parameters):
    """The variant an eraser makes of a rule of guidance."""
    eraser = registry.method("erasers", method)
    return Variant(method, changes=(eraser.call(model, [], eraser.parameters(**parameters)),))


def adapter(model, path="mid_block.attentions.0.transformer_blocks.0.attn2", scale=1.0):
    """A random added module behind one cross-attention."""
    generator, channels = torch.Generator().manual_seed(0), model.unet.get_submodule(path).to_out[0].out_features
    shapes = {"down.weight": (2, channels), "down.bias": (2,), "up.weight": (channels, 2), "up.bias": (channels,)}
    return Change("adapter", {"rank": 2}, {f"{path}.{n}": scale * torch.randn(s, generator=generator) for n, s in shapes.items()})


def test_a_negative_prompt_is_that_of_diffusers(model):
    pipe = tiny.pipeline()
    pipe.set_progress_bar_config(disable=True)
    given = {"num_inference_steps": 5, "guidance_scale": 4.0, "output_type": "latent", "latents": loop.initial_noise(model, SEEDS)}
    theirs = pipe([PROMPT] * 2, negative_prompt=[CONCEPT] * 2, **given).images
    ours = sampled(model, made(model, "negative_prompt", prompt=CONCEPT))
    assert torch.allclose(ours, theirs, atol=1e-4) and not torch.allclose(ours, sampled(model), atol=1e-2)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_sld_is_that_of_diffusers(model, strength):
    from diffusers.pipelines.deprecated.stable_diffusion_safe import StableDiffusionPipelineSafe

    parts = {name: getattr(tiny.pipeline(), name) for name in ("vae", "text_encoder", "tokenizer", "unet", "scheduler")}
    pipe = StableDiffusionPipelineSafe(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    pipe.safety_concept = CONCEPT
    scale, warmup, threshold, momentum_scale, momentum = STRENGTHS[strength]
    warmup = min(warmup, 2)
    theirs = pipe(
        [PROMPT] * 2,
        num_inference_steps=5,
        guidance_scale=4.0,
        output_type="np",
        latents=loop.initial_noise(model, SEEDS),
        sld_guidance_scale=scale,
        sld_warmup_steps=warmup,
        sld_threshold=threshold,
        sld_momentum_scale=momentum_scale,
        sld_mom_beta=momentum,
    ).images
    settings = {"scale": scale, "warmup": warmup, "threshold": threshold, "momentum_scale": momentum_scale, "momentum": momentum}
    ours = sampled(model, made(model, "sld", concept=CONCEPT, **settings))
    images = model.decode(ours).permute(0, 2, 3, 1)
    assert torch.allclose(images, torch.as_tensor(theirs), atol=1e-3) and not torch.allclose(ours, sampled(model), atol=1e-2)


def test_the_published_strengths_are_presets():
    from workbench.study import published

    assert published.settings("sld", "published:max", "style") == dict(
        zip(("scale", "warmup", "threshold", "momentum_scale", "momentum"), STRENGTHS["max"], strict=True)
    )


def test_a_rule_that_never_acts_changes_no_bit(model):
    never = made(model, "sld", concept=CONCEPT, threshold=-10.0, momentum_scale=0.0)
    assert torch.allclose(sampled(model, never), sampled(model), atol=1e-5)
    late = made(model, "sld", concept=CONCEPT, warmup=5)
    assert torch.allclose(sampled(model, late), sampled(model), atol=1e-5)


@pytest.mark.parametrize(
    "method, settings",
    [("negative_prompt", {"prompt": CONCEPT}), ("sld", {"concept": CONCEPT, "momentum_scale": 0.0, "threshold": 10.0, "scale": 5.0})],
)
def test_what_an_attack_sees_takes_the_step_that_the_rule_takes(model, method, settings):
    """Ordinary guidance with the seen noise instead of eps_c is the rule's own step; gradients reach the text states through it."""
    variant, scale = made(model, method, **settings), 4.0
    model.expected_guidance = scale
    noised, at = loop.initial_noise(model, SEEDS), torch.tensor(500)
    with applied(model, variant):
        rule = guidance.of(model)
        states, empty = text.encode(model, [PROMPT] * 2).detach().requires_grad_(), text.unconditional(model).expand(2, -1, -1)
        seen = objectives.seen(model, noised, at, states)
        with_text, without = (model.predict(noised, at, one) for one in (states, empty))
        beside = rule.uncond(empty[:1]) if rule.further is None else rule.further
        other = model.predict(noised, at, beside.expand(2, -1, -1))
        parts = (other, with_text, None) if rule.further is None else (without, with_text, other)
        step = rule.start()(10_000, scale, *parts)
        assert torch.allclose(without + scale * (seen - without), step, atol=1e-4)
        (gradient,) = torch.autograd.grad((seen - noised).square().sum(), states)
        (unaware,) = torch.autograd.grad((model.predict(noised, at, states) - noised).square().sum(), states)
        assert gradient.isfinite().all() and gradient.abs().sum() > 0 and not torch.allclose(gradient, unaware, rtol=1e-3)
        own = {name: parameter.data for name, parameter in model.parameters().items()}
        with base_again(model, own):
            assert torch.equal(objectives.seen(model, noised, at, states), model.predict(noised, at, states))


def test_rows_that_are_computed_in_part_are_as_computed_whole(model):
    states, told = text.encode(model, [PROMPT, ""]), []
    empty, seeds = text.unconditional(model), [3, 4]
    how = {"n_steps": 5, "guidance": 4.0, "keep": [0, 2, 3]}
    whole, path = loop.denoise(model, states, empty, seeds, **how)
    short = loop.Short([False, True], [False, True], 3, lambda rows: told.append(rows.tolist()))
    part, found = loop.denoise(model, states, empty, seeds, **how, short=short)
    assert torch.allclose(found.inputs, path.inputs, atol=1e-5) and torch.allclose(part[0], whole[0], atol=1e-5)
    assert told == [[0, 0, 1]] * 3 + [[0, 0]] * 2  # uncond of the first; cond of both, later of the first


def test_rows_are_not_computed_in_part_under_a_rule(model):
    with pytest.raises(ValueError, match="ordinary guidance"):
        sampled(model, made(model, "sld", concept=CONCEPT), short=loop.Short([True, False], [False, False], 3))


def test_an_added_module_is_its_formula_and_goes_away(model):
    path = "mid_block.attentions.0.transformer_blocks.0.attn2"
    change, attention = adapter(model, path), model.unet.get_submodule(path)
    seen = {}
    noised, states, at = loop.initial_noise(model, SEEDS), text.encode(model, [PROMPT] * 2), torch.tensor(500)
    before = model.predict(noised, at, states)
    handle = attention.register_forward_hook(lambda module, inputs, output: seen.update(before=output.clone()))
    with applied(model, Variant("added", changes=(change,))):
        after_handle = attention.register_forward_hook(lambda module, inputs, output: seen.update(after=output.clone()))
        changed = model.predict(noised, at, states)
        after_handle.remove()
        with base_again(model, {}):
            assert torch.equal(model.predict(noised, at, states), before)
    handle.remove()
    down, down_bias, up, up_bias = (change.tensors[f"{path}.{part}"] for part in ("down.weight", "down.bias", "up.weight", "up.bias"))
    hidden = torch.nn.functional.gelu(seen["before"] @ down.T + down_bias)
    assert torch.allclose(seen["after"], seen["before"] + hidden @ up.T + up_bias, atol=1e-5)
    assert not torch.allclose(changed, before, atol=1e-3) and torch.equal(model.predict(noised, at, states), before)
    assert not attention._forward_hooks
    with applied(model, Variant("nothing", changes=(adapter(model, path, scale=0.0),))):
        assert torch.equal(model.predict(noised, at, states), before)


def test_changes_leave_nothing_behind_after_an_error(model):
    bits = model.digest()
    for change in (adapter(model), Change("negative_prompt", {"prompt": "x"}, {"states": text.encode(model, ["ink"])})):
        with pytest.raises(KeyboardInterrupt), applied(model, Variant("v", changes=(change,))):
            raise KeyboardInterrupt
    assert model.guidance is None and model.digest() == bits
    assert not any(module._forward_hooks for module in model.unet.modules())


def test_what_does_not_fit_is_refused(model):
    rule = Change("negative_prompt", {"prompt": "x"}, {"states": text.encode(model, ["ink"])})
    with pytest.raises(ModelError, match="two of them do not add up"), applied(model, Variant("v", changes=(rule, rule))):
        pass
    assert model.guidance is None
    strange = adapter(model)
    moved = Change("adapter", {"rank": 2}, {name.replace("mid_block", "no_block"): value for name, value in strange.tensors.items()})
    with pytest.raises(ModelError, match="no_block"), applied(model, Variant("v", changes=(moved,))):
        pass
    narrow = Change("adapter", {"rank": 2}, {name: value[..., :1] for name, value in strange.tensors.items()})
    with pytest.raises(ModelError, match="channels"), applied(model, Variant("v", changes=(narrow,))):
        pass
    with pytest.raises(ModelError, match='No kind of change is called "adaptor"'):
        Change("adaptor")


def test_a_change_is_saved_described_and_added_to_those_of_a_parent(model, tmp_path):
    change = made(model, "sld", concept=CONCEPT).changes[0]
    changes.save(tmp_path / "change.safetensors", change, {"study": "tiny"})
    read = changes.load(tmp_path / "change.safetensors")
    assert read.digest == change.digest and read.settings == change.settings
    name = "unet.conv_in.bias"
    parent = Variant("parent", weights={name: torch.ones_like(model.parameters()[name])})
    both = Variant("child", "parent", changes=(adapter(model),)).over(Variant("own", "base", changes=(read,)).over(parent))
    assert [one.kind for one in both.changes] == ["sld", "adapter"] and list(both.weights) == [name]
    said = describe(model, both)
    assert said["parameters_changed"] == 1 and len(said["others"]) == 2 and 'away from "ink style" (SLD)' in said["others"][0]
    assert said["digest"] != describe(model, parent)["digest"]


def test_taps_record_the_branches_of_the_prompt_and_none_of_a_further_one(model):
    layers = sites.layers(model.unet, ["ff"])[:2]

    def recorded(variant):
        kept = Statistics(layers, len(SEEDS), [0])
        with applied(model, variant), torch.no_grad(), Taps(model.unet, layers, kept) as taps:
            states = text.encode(model, [PROMPT] * len(SEEDS))
            loop.denoise(model, states, text.unconditional(model), SEEDS, n_steps=2, guidance=4.0, taps=taps)
        return kept.to_tensors()

    plain, led = recorded(None), recorded(made(model, "sld", concept=CONCEPT))
    assert plain.keys() == led.keys()
    for name, value in plain.items():  # the first call sees the same latents under both
        assert torch.allclose(value.float(), led[name].float(), rtol=1e-4, atol=1e-5), name
