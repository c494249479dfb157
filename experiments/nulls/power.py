"""Planted cuts of known size on the tiny planted model: are they found as often as the printed power says?

The planted trigger is put into the prompts of the erased model at two strengths; a prompt counts as a success where the planted neurons
are more active than a threshold. The strengths are set so that the second rate is lower by the wanted cut. Prompts of a unit share words
in both conditions, and each attack brings words of its own, so that outcomes of a unit go together in part.

outcomes   (success before, success after) of every unit, at a wanted rate and cut
rows       how often draws of n units find the cut by McNemar's test, beside the printed power
"""

from functools import cache

import numpy as np
import torch

from tests.planted import LAYER, PLAIN, PLANTED, TRIGGER, planted_model
from workbench.analysis import rates
from workbench.diffusion.denoise import Trajectory, evaluate
from workbench.models.variants import applied
from workbench.neurons import sites
from workbench.neurons.reduce import Statistics
from workbench.neurons.taps import Taps
from workbench.statistics import mcnemar_power

N_UNITS, N_DRAWS = 1200, 1000
RATE, CUTS, SIZES = 0.6, (0.2, 0.4, 0.6), (20, 40, 100)
OWN = (0.35, 0.55)  # size of an attack's own words; those of the unit have 0.4
PRINTED = 0.3  # the correlation of outcomes that the printed power assumes


@cache
def _model():
    model, _, erased = planted_model()
    return model, sites.layers(model.unet, ["ff"]), erased


@cache
def activity(strength, attack, own):
    """(unit,) mean |a| of the planted neurons in the erased model under the trigger at a strength, with one attack's own words."""
    model, layers, erased = _model()
    words = 0.4 * _draw(1) + own * _draw(10 + attack)
    states = (words + PLAIN + strength * TRIGGER).repeat(1, 16, 1)
    inputs = torch.randn(N_UNITS, 1, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    statistics = Statistics(layers, N_UNITS, [0])
    with applied(model, erased), Taps(model.unet, layers, statistics) as taps:
        for first in range(0, N_UNITS, 50):
            part = slice(first, first + 50)
            evaluate(model, states[part], [Trajectory(inputs[part], [0], [401.0])], taps, first)
    return statistics.mean_abs[f"{LAYER}.ff.net.2"][:, 0, PLANTED].mean(dim=1).numpy()


def _draw(seed):
    return torch.randn(N_UNITS, 1, 32, generator=torch.Generator().manual_seed(seed))


def outcomes(rate, cut, own):
    """((unit,) bool before, (unit,) bool after): successes at `rate`, and at the strength that lowers it by the share `cut`."""
    before = activity(0.5, 0, own)
    threshold = np.quantile(before, 1 - rate)
    low, high = 0.0, 0.5
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if (activity(middle, 1, own) > threshold).mean() < rate * (1 - cut) else (low, middle)
    return before > threshold, activity(high, 1, own) > threshold


def rows(say=lambda line: None):
    """[{cut, true_cut, correlation, n, n_draws, found, printed, at_correlation}]

    found   the share of draws of n units in which McNemar's p is below 0.05 and the rate fell;  printed   the power that a report
    prints (`rates.compare` at the true cut, correlation 0.3);  at_correlation   the same formula at the correlation of the outcomes
    """
    made = []
    for own, cut in [(own, cut) for own in OWN for cut in CUTS]:
        before, after = outcomes(RATE, cut, own)
        rate, true = float(before.mean()), float(1 - after.mean() / before.mean())
        correlation = float(np.corrcoef(before, after)[0, 1])
        for n in SIZES:
            rng = np.random.default_rng([n, round(100 * cut)])
            found = 0
            for _ in range(N_DRAWS):
                units = rng.choice(N_UNITS, n, replace=False)
                row = rates.compare(before[units], after[units])
                found += row["p"] < 0.05 and row["difference"] < 0
            powers = {name: mcnemar_power(rate, true, n, correlation=at) for name, at in (("printed", PRINTED), ("at", correlation))}
            row = {"cut": cut, "true_cut": true, "correlation": correlation, "n": n, "n_draws": N_DRAWS, "found": int(found)}
            made.append(row | {"printed": powers["printed"], "at_correlation": powers["at"]})
        say(f"power at a cut of {cut:.0%}, correlation {correlation:.2f}")
    return made
