"""Method by planting: what each method says of neurons whose part in the concept is known. 20 plantings of each kind."""

from functools import cache

import numpy as np
import pytest
import torch

from tests.planting_answers import CALLED, EXPECTED, PLANTINGS, measured
from tests.plantings import CONCEPT, KINDS, PLAIN, TIMESTEPS, planting
from workbench.statistics import wilson

N = 20
CELLS = [(m, p) for m, row in EXPECTED.items() for p in PLANTINGS if p in KINDS or m in ("set", "shapley")]


@cache
def answers(kind):
    """Answers about one of KINDS, by method and planting."""
    return measured(N, [kind]).set_index(["method", "planting"])


@torch.no_grad()
def left(made, off):
    """(unit,) what is left of the concept when neurons (neuron,) bool write nothing: T2 by plain passes, weights set to 0."""
    at, n = torch.tensor(TIMESTEPS[-1]), len(made.inputs)
    plain, whole = (made.model.predict(made.inputs[:, -1], at, states.expand(n, -1, -1)).flatten(1) for states in (PLAIN, CONCEPT))
    weights = {layer.path: made.model.unet.get_submodule(layer.path).weight for layer in made.layers}
    kept = {path: weight.clone() for path, weight in weights.items()}
    for path, neuron in made.index.loc[off, ["layer", "index"]].itertuples(index=False):
        weights[path][:, neuron] = 0
    changed = made.model.predict(made.inputs[:, -1], at, CONCEPT.expand(n, -1, -1)).flatten(1)
    for path, weight in weights.items():
        weight.copy_(kept[path])
    return ((changed - plain) * (whole - plain)).sum(dim=1) / (whole - plain).square().sum(dim=1)


def only(n, neurons):
    """(n,) bool, true at these neurons."""
    return np.isin(np.arange(n), neurons)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 7, 13])
def test_a_planting_is_what_it_says(kind, seed):
    made = planting(kind, seed)
    n, causal = len(made.causal), np.flatnonzero(made.causal)
    assert left(made, made.causal).mean().abs() < 0.25, "without its neurons hardly anything of the concept is left"
    for neuron in causal:
        alone = left(made, only(n, [neuron])).mean()
        others = left(made, only(n, np.setdiff1d(causal, neuron))).mean()
        if kind == "copies":
            assert alone > 0.98 and others > 0.9, "one copy more or less makes no difference, and one suffices"
        else:
            assert alone < 0.95
    if made.bystander.any():
        assert (left(made, made.bystander) - 1).abs().max() < 1e-3
    hears = made.recorded(CONCEPT).mean(axis=0) > 5 * made.recorded(PLAIN).mean(axis=0)
    assert hears[made.causal | made.bystander].all()
    assert (made.index["layer"][made.causal].nunique() >= 2) == (kind == "layers")


@pytest.mark.parametrize("kind", KINDS)
def test_no_other_neuron_matters(kind):
    made = planting(kind, 3)
    others = np.random.default_rng(3).choice(np.flatnonzero(~made.causal), 40, replace=False)
    assert max(abs(left(made, only(len(made.causal), [neuron])).mean() - 1) for neuron in others) < CALLED / 2


def test_plantings_differ_by_seed_and_are_the_same_for_the_same():
    first, again, other = planting("layers", 1), planting("layers", 1), planting("layers", 2)
    assert (first.causal == again.causal).all() and first.model.digest() == again.model.digest()
    assert not (first.causal == other.causal).all()


@pytest.mark.parametrize("method, kind", CELLS)
def test_answers_are_as_expected_in_most_of_20_plantings(method, kind):
    row, expected = answers("copies" if kind == "split copies" else kind).loc[(method, kind)], EXPECTED[method][kind]
    assert row["n"] == N
    if method in ("set", "shapley") and expected == "right":
        assert row["right"] == N
    else:
        assert wilson(row[expected], N).low > 0.5, row.to_dict()
    if expected != "right":
        assert wilson(row["right"], N).high < 0.5, row.to_dict()
