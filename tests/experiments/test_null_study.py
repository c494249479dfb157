"""A planted null study, on a toy: where erasing took something else and the attack is a second draw of its control, the words must say so.

The planted model is recorded once, on many units; each of 40 resamples draws units, chooses neurons on one half of them by the
contrast of the base model, and reads the verdict's words from the other half. The same with a real eraser, and with a real
trigger, so that the words are not simply constant.
"""

from collections import Counter
from functools import cache

import numpy as np
import pytest
import torch

from tests.planted import CONCEPT, LAYER, PLAIN, TRIGGER, planted_model
from workbench.analysis.rules import deactivation_outcome, reactivation_outcome
from workbench.analysis.sensitivity import Sensitivity
from workbench.diffusion.denoise import Trajectory, evaluate
from workbench.methods.scores.contrast import score as contrast
from workbench.models.variants import Variant, applied
from workbench.neurons import sites
from workbench.neurons.reduce import Statistics
from workbench.neurons.sets import index_table, top
from workbench.neurons.taps import Taps
from workbench.statistics import split_halves

N_UNITS, N_DRAWN, N_RESAMPLES, SHARE = 400, 200, 40, 0.02
NOT_REACTIVATED = "not reactivated by these attacks"


def prompts(seed, part):
    """(unit, token, channel): a fixed part, and words drawn at random for each unit, which now and then resemble the concept."""
    words = torch.randn(N_UNITS, 1, 32, generator=torch.Generator().manual_seed(seed)) * 0.4
    return (words + part).repeat(1, 16, 1)


@cache
def recordings():
    """({(variant, prompt set): (unit, neuron) mean |a|}, (neuron,) layer names) of base, sham and truly erased model."""
    model, _, erased = planted_model()
    layers = sites.layers(model.unet, ["ff"])
    name = f"unet.{LAYER}.attn2.to_v.weight"
    sham = model.parameters()[name].detach().clone()
    sham[:, 5] = sham[:, 6]
    sham += 0.003 * torch.randn(sham.shape, generator=torch.Generator().manual_seed(8))
    variants = {"base": None, "sham": Variant("sham", "base", {name: sham}), "erased": erased}
    texts = {"target": prompts(1, CONCEPT), "reference": prompts(1, PLAIN), "trigger": prompts(2, TRIGGER)}
    texts |= {"control": prompts(2, PLAIN), "again": prompts(3, PLAIN)}
    inputs = torch.randn(N_UNITS, 1, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    values = {}
    for variant, change in variants.items():
        for which in list(texts) if change else [name for name in texts if name != "trigger"]:
            statistics = Statistics(layers, N_UNITS, [0])
            with applied(model, change), Taps(model.unet, layers, statistics) as taps:
                for first in range(0, N_UNITS, 50):
                    part = slice(first, first + 50)
                    evaluate(model, texts[which][part], [Trajectory(inputs[part], [0], [401.0])], taps, first)
            values[variant, which] = torch.cat([statistics.mean_abs[layer.path][:, 0] for layer in layers], dim=1).numpy()
    return values, index_table(layers)["layer"].to_numpy()


def words(variant, attack, resample):
    """(outcome of the deactivation, of the reactivation) of one resample; wording in the base model: one draw of words against another."""
    values, layer = recordings()
    drawn = np.random.default_rng([1, resample]).choice(N_UNITS, N_DRAWN, replace=False)
    half = split_halves(drawn.tolist(), resample)
    here = {condition: array[drawn] for condition, array in values.items() if condition[0] in ("base", variant)}
    a, b = ({condition: array[rows] for condition, array in here.items()} for rows in (half, ~half))
    score = contrast(a["base", "target"], a["base", "reference"], layer=layer)
    chosen = top(score, SHARE, np.ones(len(layer), bool))
    found = Sensitivity(b, layer, 500, resample)
    activity, drift, attacked = (vars(found.activity((variant, name), chosen)) for name in ("target", "reference", attack))
    effect = found.effect((variant, attack), (variant, "control"), chosen, 99)
    effect |= found.wording_null([("again against the control", ("base", "again"), ("base", "control"))], chosen)
    above = vars(found.contrast((variant, "target"), (variant, "reference"), chosen))
    outcome = deactivation_outcome(activity, drift, above)
    return outcome, reactivation_outcome(effect, attacked, activity, outcome)


@pytest.mark.parametrize(
    "variant, attack, expected",
    [
        ("sham", "again", ("not deactivated", NOT_REACTIVATED)),
        ("erased", "again", ("deactivated", NOT_REACTIVATED)),
        ("erased", "trigger", ("deactivated", "reactivated")),
    ],
)
def test_95_of_100_resamples_say_what_was_done(variant, attack, expected):
    found = Counter(words(variant, attack, resample) for resample in range(N_RESAMPLES))
    assert found[expected] >= 0.95 * N_RESAMPLES, found
