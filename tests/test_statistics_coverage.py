"""Do nominal 95 % intervals hold the truth in 93 to 97 of 100 draws? At 8, 20 and 50 units a half, by simulation with a fixed seed."""

import numpy as np
import pytest
from scipy import stats

from workbench import statistics
from workbench.analysis import rates
from workbench.analysis.sensitivity import Sensitivity

N_DRAWS = 2500  # a coverage of 0.95 then comes out within 0.941 to 0.959
LAYER = np.array(["a"] * 6)
S = np.arange(6) < 4
SIZES = [8, 20, 50]


def measured(rng, n, erased, attacked):
    """One draw of units: the prompt of each says how strongly it excites every condition, and each condition has noise of its own."""
    strength = rng.gamma(8, 1 / 8, (n, 1))  # mean 1, skewed
    lift = S * 1.0

    def at(level):
        return 2 + level * strength * lift + 0.6 * strength + rng.normal(0, 0.25, (n, 6)) + rng.normal(0, 0.15, (n, 1))

    values = {("base", "target"): at(1), ("base", "reference"): at(0), ("e", "target"): at(erased)}
    values |= {("e", "reference"): at(0), ("e", "attack"): at(attacked), ("e", "control"): at(erased), ("p", "attack"): at(0.2)}
    return Sensitivity(values, LAYER, 1)


@pytest.mark.parametrize("n", SIZES)
def test_activity_drift_reactivation_and_differences_of_variants_are_covered(n):
    rng, erased, attacked = np.random.default_rng(n), 0.3, 0.6
    wanted = {
        "activity": (("e", "target"), ("base", "reference"), erased),
        "drift": (("e", "reference"), ("base", "reference"), 0.0),
        "reactivation": (("e", "attack"), ("e", "control"), attacked - erased),
        "target over reference": (("e", "target"), ("e", "reference"), erased),
        "difference of variants": (("p", "attack"), ("e", "attack"), 0.2 - attacked),
    }
    held = dict.fromkeys(wanted, 0)
    for _ in range(N_DRAWS):
        draw = measured(rng, n, erased, attacked)
        for name, (plus, minus, truth) in wanted.items():
            found = draw.contrast(plus, minus, S)
            held[name] += found.low <= truth <= found.high
    assert all(0.93 <= one / N_DRAWS <= 0.97 for one in held.values()), {name: one / N_DRAWS for name, one in held.items()}


@pytest.mark.parametrize("n", SIZES)
def test_the_percentile_bootstrap_that_it_replaces_covers_less_with_few_units(n):
    rng, held = np.random.default_rng(n), {"jackknife": 0, "bootstrap": 0}
    weights = statistics.unit_weights(n, 400, 0)
    for _ in range(1000):
        scale = rng.gamma(8, 1 / 8, n)
        change = 0.3 * scale + rng.normal(0, 0.3, n)
        found = statistics.jackknife(np.divide, np.arange(n), change, scale)
        low, high = np.quantile((weights @ change) / (weights @ scale), [0.025, 0.975])
        held["jackknife"] += found.low <= 0.3 <= found.high
        held["bootstrap"] += low <= 0.3 <= high
    assert held["jackknife"] / 1000 >= 0.93 and held["bootstrap"] <= held["jackknife"]
    if n == 8:
        assert held["bootstrap"] / 1000 < 0.91


def images(rng, n, n_images, rate, correlation, n_draws):
    """(draw, unit) successes of n_images a unit, beta-binomial with that correlation of the images of a unit."""
    a, b = (p * (1 - correlation) / correlation for p in (rate, 1 - rate)) if correlation else (None, None)
    own = rng.beta(a, b, (n_draws, n)) if correlation else np.full((n_draws, n), rate)
    return rng.binomial(n_images, own)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("correlation", [0.0, 0.1, 0.3, 0.6])
def test_rates_of_several_images_a_unit_are_covered(n, correlation):
    for rate in (0.3, 0.5):
        draws = images(np.random.default_rng([n, int(10 * rate)]), n, 3, rate, correlation, N_DRAWS)
        found = [statistics.wilson_by_unit(one, np.full(n, 3))[0] for one in draws]
        assert 0.93 <= np.mean([one.low <= rate <= one.high for one in found]) <= 0.97, rate


def pairs_of_images(rng, n, p_a, p_b, correlation, n_draws, n_images=3):
    """(draw, unit, image) bool of both sides: the unit, and half of what is left of an image, are common to them."""
    unit = np.sqrt(correlation) * rng.normal(size=(n_draws, n, 1))
    own = np.sqrt((1 - correlation) / 2) * rng.normal(size=(n_draws, n, n_images))

    def side(p):
        return unit + own + np.sqrt((1 - correlation) / 2) * rng.normal(size=own.shape) < stats.norm.ppf(p)

    return side(p_a), side(p_b)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("correlation", [0.1, 0.5])
def test_differences_of_rates_of_several_images_a_unit_are_covered(n, correlation):
    rng, units = np.random.default_rng(n), np.repeat(np.arange(n), 3)
    for p_a, p_b in ((0.5, 0.5), (0.6, 0.3)):
        sides = (one.reshape(N_DRAWS, -1) for one in pairs_of_images(rng, n, p_a, p_b, correlation, N_DRAWS))
        found = [statistics.paired_by_unit(a, b, units) for a, b in zip(*sides, strict=True)]
        assert 0.93 <= np.mean([one.low <= p_b - p_a <= one.high for one in found]) <= 0.97


@pytest.mark.parametrize("n", [20, 50])
def test_relative_differences_of_several_images_a_unit_are_covered(n):
    units, held = np.repeat(np.arange(n), 3), []
    sides = (one.reshape(1000, -1) for one in pairs_of_images(np.random.default_rng(n), n, 0.6, 0.3, 0.4, 1000))
    for a, b in zip(*sides, strict=True):
        low, high = rates.relative_by_unit(a, b, units)
        held.append(low <= 0.3 / 0.6 - 1 <= high)
    assert 0.93 <= np.mean(held) <= 0.98


def test_the_sign_flip_test_rejects_as_often_as_it_says_when_nothing_changes():
    rng, n = np.random.default_rng(0), 10
    p = np.array([statistics.sign_flip_p(rng.standard_t(3, n)) for _ in range(1000)])
    assert 0.03 <= (p < 0.05).mean() <= 0.07
