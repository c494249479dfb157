"""One-step ablations equal whole single-row passes with hooks written from the definition."""

import pytest
import torch

from tests.neurons.test_taps import hooks
from workbench.analysis.ablation import Ablation, derangement
from workbench.analysis.one_step import OneStep, Scalar, one_step, record
from workbench.diffusion.denoise import Trajectory
from workbench.diffusion.steps import steps
from workbench.diffusion.targets import Items
from workbench.errors import MethodError, RecordingMismatch
from workbench.models import text
from workbench.neurons import sites

CALLS, TIMESTEPS = [1, 3], [700.0, 200.0]
MEASURE = Scalar(lambda noise: noise[:, 0].mean(dim=(1, 2)) + noise[:, 1, 2, 3] ** 2)


def items(model, prompts=("owl in ink style", "a cat", "church"), seed=0):
    inputs = torch.randn(len(prompts), len(CALLS), *model.latent_shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return Items(Trajectory(inputs, CALLS, TIMESTEPS), text.encode(model, prompts), list(prompts))


def empty(model):
    with torch.no_grad():
        return text.encode(model, [""])


def slow(model, what, ablation, prompt, position, guidance=1.0):
    """The scalar of one prompt at one call: one whole pass per half, neurons changed token by token."""

    def half(name, state):
        handles = []
        for path, chosen in ablation.neurons.items() if ablation else ():
            works = ablation.branch in (name, "both") and (ablation.calls is None or CALLS[position] in ablation.calls)

            def change(module, args, path=path, chosen=chosen, works=works):
                changed = args[0].clone()
                for neuron in chosen if works else ():
                    value = torch.zeros(changed.shape[1])
                    if ablation.source is not None:
                        values = ablation.source.at(path, [neuron], CALLS[position], name)[..., 0]
                        from_prompt = prompt if ablation.draw is None else int(ablation.draw[prompt])
                        value = values.mean() if ablation.kind == "mean" else values[from_prompt]
                    changed[0, :, neuron] = ablation.factor * changed[0, :, neuron] + (1 - ablation.factor) * value
                return (changed,)

            handles.append(dict(model.unet.named_modules())[path].register_forward_pre_hook(change))
        at = torch.tensor(TIMESTEPS[position])
        noise = model.unet(what.trajectory.inputs[prompt, position][None], at, encoder_hidden_states=state[None]).sample
        for handle in handles:
            handle.remove()
        return noise

    noise = half("cond", what.states[prompt])
    if guidance != 1:
        without = half("uncond", empty(model)[0])
        noise = without + guidance * (noise - without)
    return float(MEASURE.function(noise))


def kinds(model, what):
    paths = [layer.path for layer in sites.layers(model.unet, ["ff"])]
    source = record(model, items(model, ("house", "planet", "bridge"), seed=7), {path: range(12) for path in paths})
    source.units = None  # other prompts on purpose
    return [
        Ablation({paths[-1]: [0, 4]}),
        Ablation({paths[0]: [1], paths[-1]: [2, 3]}, "scaled", 3.0),
        Ablation({paths[1]: [5, 6]}, "mean", source=source),
        Ablation({paths[2]: [7, 11]}, "resampled", source=source, draw=derangement(3, 0)),
        Ablation({paths[1]: [8, 9], paths[2]: [10]}, "held", 0.25, source=source),
        Ablation({paths[0]: [0, 1, 2]}, calls=frozenset({3})),
        Ablation({paths[1]: [0, 1, 2]}, calls=frozenset({0})),
    ]


@pytest.mark.parametrize(("batch", "share"), [(64, True), (4, True), (1, True), (64, False), (5, False)])
def test_every_kind_equals_the_slow_reference_in_any_batch(model, batch, share):
    what = items(model)
    ablations = kinds(model, what)
    found = one_step(model, what, ablations, MEASURE, batch=batch, share=share)
    assert found.shared is share
    for prompt in range(3):
        for position in range(2):
            assert float(found.intact[prompt, position]) == pytest.approx(slow(model, what, None, prompt, position), abs=1e-5)
            for which, ablation in enumerate(ablations):
                expected = slow(model, what, ablation, prompt, position)
                assert float(found.ablated[which, prompt, position]) == pytest.approx(expected, abs=1e-5), (which, prompt, position)
    assert torch.equal(found.ablated[6], found.intact), "its window holds none of these calls"


@pytest.mark.parametrize("share", [True, False])
def test_guidance_mixes_both_halves_each_changed_only_where_it_should_be(model, share):
    what, paths = items(model), [layer.path for layer in sites.layers(model.unet, ["ff"])]
    ablations = [
        Ablation({paths[place]: [0, 4, 9]}, "scaled", 4.0, branch=branch) for place in (0, -1) for branch in ("cond", "uncond", "both")
    ]
    found = one_step(model, what, ablations, MEASURE, guidance=5.0, empty=empty(model), batch=7, share=share)
    for which, ablation in enumerate(ablations):
        for prompt in range(3):
            expected = slow(model, what, ablation, prompt, 1, guidance=5.0)
            assert float(found.ablated[which, prompt, 1]) == pytest.approx(expected, abs=1e-4)
    assert len({round(float(value), 6) for value in found.ablated[:, 0, 1]}) == 6


def test_what_comes_before_the_first_gate_and_the_unchanged_half_is_computed_once(model):
    what, rows = items(model, ("a cat",)), {}
    last = "up_blocks.1.attentions.1.transformer_blocks.0.ff.net.2"
    watched = [step for step in steps(model.unet) if step.kind != "plain"]
    handles = [
        step.module.register_forward_pre_hook(lambda module, args, path=step.path: rows.setdefault(path, []).append(len(args[0])))
        for step in watched
    ]
    one_step(model, what, [Ablation({last: [n]}) for n in range(16)], MEASURE, guidance=5.0, empty=empty(model))
    for handle in handles:
        handle.remove()
    for step in watched:
        expected = 2 + 16 if last.startswith(step.path) else 2
        assert rows[step.path] == [expected] * len(CALLS), step.path


def test_a_unet_that_cannot_be_split_gives_the_same_numbers_by_whole_passes(model):
    what, last = items(model), sites.layers(model.unet, ["ff"])[-1].path
    ablations = [Ablation({last: [n]}) for n in range(3)]
    split = one_step(model, what, ablations, MEASURE)
    handle = model.unet.mid_block.register_forward_hook(lambda *_: None)
    whole = one_step(model, what, ablations, MEASURE)
    handle.remove()
    assert (split.shared, whole.shared) == (True, False)
    assert torch.allclose(split.ablated, whole.ablated, atol=1e-5) and torch.allclose(split.intact, whole.intact, atol=1e-5)


def test_several_prompt_sets_are_measured_under_a_variant_that_is_undone(model):
    from tests.planted import planted_model
    from tests.reference import same_bits

    planted, states, erased = planted_model()
    weights = {name: value.clone() for name, value in planted.unet.state_dict().items()}
    sets = {
        name: (Items(items(planted).trajectory, states[token].expand(3, -1, -1), ["a", "b", "b"]), MEASURE)
        for name, token in (("target", "A"), ("far", "control"))
    }
    path = sites.layers(planted.unet, ["ff"])[-1].path
    run = OneStep(planted, sets, erased)
    found = run([Ablation({path: [1, 2]})])
    assert [(one.group, one.outcome, one.units) for one in found] == [(g, "scalar", ["a", "b", "b"]) for g in ("target", "far")]
    base = OneStep(planted, sets)([Ablation({path: [1, 2]})])
    assert abs(found[0].intact - base[0].intact).max() > 1e-6 and found[0].ablated.shape == (1, 3)
    own = run.record("target", {path: [1, 2]})
    assert run([Ablation({path: [1, 2]}, "held", source=own)])[0].ablated[0] == pytest.approx(found[0].intact, abs=1e-6)
    assert same_bits(weights, planted.unet.state_dict())


def test_what_is_missing_is_said_and_no_hook_stays(model):
    what, before = items(model), hooks(model.unet)
    path = sites.layers(model.unet, ["ff"])[0].path
    with pytest.raises(MethodError, match="give the text state of the empty prompt"):
        one_step(model, what, [Ablation({path: [0]})], MEASURE, guidance=3.0)
    source = record(model, what, {path: [0]})
    with pytest.raises(RecordingMismatch, match="e.g. 1"):
        one_step(model, what, [Ablation({path: [1]}, "held", source=source)], MEASURE)
    assert hooks(model.unet) == before
