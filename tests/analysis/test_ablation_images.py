"""Image ablations equal sampling each ablated image alone."""

import numpy as np
import pytest
import torch

from tests.neurons.test_taps import hooks
from workbench.analysis.ablation import Ablation, gating
from workbench.analysis.ablation_images import Images, Prompts
from workbench.diffusion.denoise import denoise
from workbench.models import text
from workbench.neurons import sites
from workbench.neurons.taps import Taps

STEPS, GUIDANCE = 3, 4.0


def score(images):
    return images[:, 0].mean(dim=(1, 2))


def detect(images):
    return score(images) > 0.5, score(images)


def features(images):
    return images[:, :, ::4, ::4].flatten(1)


def prompts(model, words=("owl in ink style", "a cat", "church")):
    with torch.no_grad():
        return Prompts(text.encode(model, words), [5, 6, 7][: len(words)], list(words), detect)


def empty(model):
    with torch.no_grad():
        return text.encode(model, [""])


def alone(model, given, ablation, prompt):
    """One image, sampled by itself."""
    made = gating(model.unet, [ablation] if ablation else [])
    with Taps(model.unet, made.layers, gates=made.gates, limits=made.limits, held=made.held) as taps:
        latents, _ = denoise(
            model,
            given.states[[prompt]],
            empty(model),
            [given.seeds[prompt]],
            n_steps=STEPS,
            guidance=GUIDANCE,
            taps=taps,
            prompt=torch.tensor([prompt]),
            gate=torch.tensor([1 if ablation else 0]),
        )
    return model.decode(latents)


@pytest.mark.parametrize("batch", [16, 4, 1])
def test_side_by_side_equals_one_by_one(model, batch):
    given, paths = prompts(model), [layer.path for layer in sites.layers(model.unet, ["ff"])]
    run = Images(model, {"target": given}, empty(model), n_steps=STEPS, guidance=GUIDANCE, features=features, batch=batch)
    source = run.record("target", {paths[1]: [3, 4]}, range(STEPS))
    ablations = [
        Ablation({paths[0]: range(40)}),
        Ablation({paths[-1]: range(30)}, "scaled", 5.0, calls=frozenset({1}), branch="both"),
        Ablation({paths[1]: [3, 4]}, "resampled", source=source, draw=torch.tensor([1, 2, 0])),
    ]
    found = {reading.outcome: reading for reading in run(ablations)}
    assert [r.signed for r in found.values()] == [True, True, False, False] and list(found)[2:] == ["pixel_change", "feature_change"]
    for prompt in range(3):
        intact = alone(model, given, None, prompt)
        assert found["score"].intact[prompt] == pytest.approx(float(score(intact)), abs=1e-5)
        for which, ablation in enumerate(ablations):
            image = alone(model, given, ablation, prompt)
            gap = (image - intact).double()
            expected = {
                "detected": float(score(image) > 0.5),
                "score": float(score(image)),
                "pixel_change": sum(float(x.abs()) for x in gap.flatten()) / gap.numel(),
                "feature_change": float(features(gap).square().sum().sqrt()),
            }
            for outcome, value in expected.items():
                assert found[outcome].ablated[which, prompt] == pytest.approx(value, abs=1e-4), (outcome, which, prompt)
            assert expected["pixel_change"] > 1e-5
    assert (found["pixel_change"].intact == 0).all()


def test_held_at_their_own_values_neurons_change_no_image_and_nothing_stays_behind(model):
    given, paths = prompts(model, ("owl", "a cat")), [layer.path for layer in sites.layers(model.unet, ["ff"])]
    before = hooks(model.unet)
    run = Images(model, {"target": given, "far": given}, empty(model), n_steps=STEPS, guidance=GUIDANCE, batch=2)
    own = run.record("target", {path: range(10) for path in paths}, range(STEPS))
    found = run([Ablation({path: range(10) for path in paths}, "held", source=own)])
    assert [(r.group, r.outcome) for r in found if not r.signed] == [("target", "pixel_change"), ("far", "pixel_change")]
    for reading in found:
        assert np.allclose(reading.ablated[0], reading.intact, atol=1e-6)
    assert hooks(model.unet) == before
