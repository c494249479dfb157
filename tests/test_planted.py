"""Planted truth: the neurons that carry a concept are known, so finding them can be checked."""

import torch

from tests.planted import LAYER, PLANTED, planted_model
from workbench.analysis.sensitivity import Sensitivity
from workbench.diffusion.denoise import Trajectory, evaluate
from workbench.models.variants import applied
from workbench.neurons import sites
from workbench.neurons.reduce import Statistics
from workbench.neurons.sets import index_table
from workbench.neurons.taps import Taps

N_UNITS, CALLS = 12, [0, 1]


def record(model, variant, states, seed=0):
    """(unit, neuron) mean |a| in the shared regime on random latents."""
    layers = sites.layers(model.unet, ["ff"])
    inputs = torch.randn(N_UNITS, len(CALLS), *model.latent_shape, generator=torch.Generator().manual_seed(seed))
    statistics = Statistics(layers, N_UNITS, CALLS)
    with applied(model, variant), Taps(model.unet, layers, statistics) as taps:
        evaluate(model, states.expand(N_UNITS, -1, -1), [Trajectory(inputs, CALLS, [801.0, 401.0])], taps)
    return torch.cat([statistics.mean_abs[layer.path].mean(dim=1) for layer in layers], dim=1).numpy()


def measured(eraser=True):
    model, states, erased = planted_model()
    erased = erased if eraser else None
    values = {("base", "target"): record(model, None, states["A"]), ("base", "reference"): record(model, None, states["plain"])}
    for name, token in (("target", "A"), ("reference", "plain"), ("adv", "B" if eraser else "control"), ("ctl", "control")):
        values["erased", name] = record(model, erased, states[token])
    index = index_table(sites.layers(model.unet, ["ff"]))
    truth = ((index["layer"] == f"{LAYER}.ff.net.2") & index["index"].isin(PLANTED)).to_numpy()
    return values, truth, index["layer"].to_numpy()


def test_activity_comes_out_one_zero_one_for_the_attack_and_zero_for_a_control_token():
    values, truth, layer = measured()
    found = Sensitivity(values, layer, 200)
    expected = {("base", "target"): 1, ("erased", "target"): 0, ("erased", "adv"): 1, ("erased", "ctl"): 0}
    for condition, activity in expected.items():
        assert abs(found.activity(condition, truth).value - activity) < 0.1, condition
    waking = found.effect(("erased", "adv"), ("erased", "ctl"), truth, 99)
    assert waking["low"] > 0.8 and waking["p_random"] <= 0.02


def test_a_null_plant_gives_no_deactivation_and_no_reactivation():
    values, truth, layer = measured(eraser=False)
    found = Sensitivity(values, layer, 200)
    assert abs(1 - found.activity(("erased", "target"), truth).value) < 1e-6
    assert abs(found.contrast(("erased", "adv"), ("erased", "ctl"), truth).value) < 1e-6
