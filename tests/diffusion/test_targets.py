"""Targets equal their formulas, looped; the concept direction is the base model's, whoever is looked at."""

import math

import pytest
import torch

from tests import tiny
from workbench.diffusion.denoise import Trajectory
from workbench.diffusion.objectives import add_noise
from workbench.diffusion.targets import Denoising, Detected, Items, Linear, Quadratic, detector_logit, predict
from workbench.errors import MethodError
from workbench.methods.detectors import Detector
from workbench.models import text
from workbench.models.load import from_pipeline
from workbench.models.variants import Variant, applied, base_again

CALLS, TIMESTEPS = [1, 4], [601.0, 101.0]


@pytest.fixture(scope="module")
def double():
    """A tiny model in float64 with the text states of three prompts."""
    model = from_pipeline(tiny.pipeline(), "tiny", dtype=torch.float64)
    with torch.no_grad():
        states = {
            "target": text.encode(model, ["owl in ink style", "a cat in ink style", "church in ink style"]),
            "reference": text.encode(model, ["owl in noto style", "a cat in noto style", "church in noto style"]),
            "empty": text.encode(model, [""]),
        }
    shape = (3, len(CALLS), *model.latent_shape)
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return model, states, Trajectory(inputs, CALLS, TIMESTEPS)


def batch(double, name="target", call=1):
    model, states, trajectory = double
    return list(Items(trajectory, states[name], ["a", "b", "c"]).batches([0, 1, 2]))[call]


def noise(double, part, states):
    with torch.no_grad():
        return predict(double[0], part, states)


def looped(a, b=None):
    """Sum of products over latent elements, one by one; (row,)."""
    b = a if b is None else b
    return [math.fsum(float(x) * float(y) for x, y in zip(p.flatten(), q.flatten(), strict=True)) for p, q in zip(a, b, strict=True)]


def test_t1_is_the_squared_distance_from_the_empty_prompt(double):
    part = batch(double)
    eps, null = (noise(double, part, s) for s in (part.states, double[1]["empty"].expand(3, -1, -1)))
    found = Quadratic(double[1]["empty"]).at(double[0], part).value(eps)
    assert found.tolist() == pytest.approx(looped(eps - null), rel=1e-12)


def test_t2_of_the_base_model_is_one_for_the_target_and_zero_for_the_reference(double):
    model, states, _ = double
    target = Linear(states["reference"], states["target"], states["reference"])
    for name, expected in (("target", 1.0), ("reference", 0.0)):
        part = batch(double, name)
        assert target.at(model, part).value(noise(double, part, part.states)).tolist() == pytest.approx([expected] * 3, abs=1e-12)


def test_t2_of_a_variant_is_measured_along_the_base_models_direction(double):
    model, states, _ = double
    part, own = batch(double), {name: parameter.data for name, parameter in model.parameters().items()}
    direction = noise(double, part, states["target"]) - noise(double, part, states["reference"])
    name = next(name for name in own if name.endswith("attn2.to_v.weight"))
    target = Linear(states["reference"], states["target"], states["reference"], base=lambda: base_again(model, own))
    with applied(model, Variant("changed", "base", {name: own[name] * 0.3})):
        difference = noise(double, part, states["target"]) - noise(double, part, states["reference"])
        found = target.at(model, part).value(noise(double, part, part.states))
    expected = [x / y for x, y in zip(looped(difference, direction), looped(direction), strict=True)]
    assert found.tolist() == pytest.approx(expected, rel=1e-9)
    assert not torch.allclose(found, torch.ones(3, dtype=torch.float64), atol=1e-4)


def test_t2_without_a_concept_in_the_target_prompt_is_refused(double):
    same = double[1]["reference"]
    with pytest.raises(MethodError, match="no direction"):
        Linear(same, same, same).at(double[0], batch(double))


def test_t3_is_the_denoising_error_the_prompt_saves_on_images_of_the_concept(double):
    model, states, _ = double
    generator = torch.Generator().manual_seed(1)
    clean, added = (torch.randn(3, *model.latent_shape, generator=generator, dtype=torch.float64) for _ in range(2))
    inputs = torch.stack([add_noise(model, clean, added, torch.full((3,), int(t))) for t in TIMESTEPS], dim=1)
    part = list(Items(Trajectory(inputs, CALLS, TIMESTEPS), states["target"], ["a", "b", "c"]).batches([0, 1, 2]))[0]
    eps, null = (noise(double, part, s) for s in (part.states, states["empty"].expand(3, -1, -1)))
    saved = [x - y for x, y in zip(looped(added - null), looped(added - eps), strict=True)]
    assert Denoising(added, states["empty"]).at(model, part).value(eps).tolist() == pytest.approx(saved, rel=1e-9)
    assert Denoising(added).at(model, part).value(eps).tolist() == pytest.approx([-x for x in looped(added - eps)], rel=1e-12)


def test_t4_is_the_detectors_logit_on_the_image_the_model_is_heading_for_and_has_a_gradient(double):
    model, _, _ = double
    detector = Detector("mean", "1", ["red"], {"red": 0.5}, lambda images: images[:, :1].mean(dim=(2, 3)).clamp(0.01, 0.99))
    part = batch(double)
    eps = noise(double, part, part.states).requires_grad_()
    found = Detected(detector_logit(detector, "red")).at(model, part).value(eps)
    abar = float(model.scheduler.alphas_cumprod[101])
    for row in range(3):
        clean = (part.inputs[row] - math.sqrt(1 - abar) * eps[row].detach()) / math.sqrt(abar)
        p = float(model.decode_with_gradient(clean[None]).clamp(0, 1)[0, 0].mean())
        assert float(found[row].detach()) == pytest.approx(math.log(p / (1 - p)), rel=1e-4)
    (slope,) = torch.autograd.grad(found.sum(), eps)
    assert slope.abs().sum() > 0


def test_t4_is_refused_where_there_is_only_noise_and_for_detectors_without_gradient(double):
    with pytest.raises(MethodError, match="still noise"):
        Detected(lambda images: images.mean(dim=(1, 2, 3)), least_signal=0.5).at(double[0], batch(double, call=0))
    with pytest.raises(MethodError, match="no gradient"):
        detector_logit(Detector("n", "1", ["red"], {}, lambda images: images, differentiable=False), "red")


def test_rows_may_repeat_the_batch_or_say_which_row_they_belong_to(double):
    model, states, _ = double
    part = batch(double)
    bound = Linear(states["reference"], states["target"], states["reference"]).at(model, part)
    eps = torch.randn(6, *model.latent_shape, dtype=torch.float64)
    order = torch.tensor([2, 0, 1, 2, 0, 1])
    whole = bound.value(eps)
    for row in range(6):
        assert float(whole[row]) == pytest.approx(float(bound.value(eps[row : row + 1], torch.tensor([row % 3]))[0]))
    assert torch.equal(bound.value(eps[order], order), whole[order])


def test_what_does_not_pair_is_refused(double):
    with pytest.raises(MethodError, match="do not pair"):
        Items(double[2], double[1]["target"], ["a", "b"])
