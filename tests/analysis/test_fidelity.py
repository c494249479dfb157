"""Fidelity compares like with like, and the truth agrees with itself."""

import numpy as np
import pytest
import torch
from scipy import stats

from tests.planted import planted_model
from workbench.analysis.fidelity import agreement, by_sets, one_by_one
from workbench.analysis.gated import partitions, single
from workbench.diffusion.denoise import Trajectory
from workbench.diffusion.targets import Items, Linear
from workbench.errors import MethodError, StatisticsError
from workbench.neurons import sites


def test_agreement_is_scipys_correlation_of_the_means_over_units():
    rng = np.random.default_rng(0)
    true = rng.normal(size=(5, 30))
    predicted = true + rng.normal(size=(5, 30))
    found = agreement(predicted, true, 200)
    means = predicted.mean(axis=0), true.mean(axis=0)
    assert found["spearman"] == pytest.approx(stats.spearmanr(*means).statistic)
    assert found["pearson"] == pytest.approx(stats.pearsonr(*means).statistic)
    for name in ("spearman", "pearson"):
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]


def test_agreement_resamples_units_and_neurons_together():
    rng = np.random.default_rng(1)
    true, predicted = rng.normal(size=(2, 4, 12))
    found, resampled = agreement(predicted, true, 300, seed=5), []
    drawn, counts = np.random.default_rng(5), np.random.default_rng(5).multinomial(4, [0.25] * 4, size=300)
    for neurons, units in zip(drawn.integers(12, size=(300, 12)), counts, strict=True):
        a, b = ([sum(n * x[unit, i] for unit, n in enumerate(units)) for i in neurons] for x in (predicted, true))
        resampled.append(stats.spearmanr(a, b).statistic)
    assert [found["spearman_low"], found["spearman_high"]] == pytest.approx(np.quantile(resampled, [0.025, 0.975]))


def test_agreement_of_nothing_or_a_constant_is_refused():
    with pytest.raises(StatisticsError, match="at least 3"):
        agreement(np.ones((2, 2)), np.ones((2, 2)))
    with pytest.raises(StatisticsError, match="do not pair"):
        agreement(np.ones((2, 4)), np.ones((2, 5)))
    with pytest.raises(StatisticsError, match="same for every neuron"):
        agreement(np.ones((2, 4)), np.arange(8).reshape(2, 4))


def test_random_sets_are_disjoint_in_a_list_of_one_size_and_as_many_as_asked_for():
    lists = partitions(50, 12, 9, seed=0)
    sizes = [np.bincount(columns[columns >= 0]) for columns in lists]
    assert [len(one) for one in sizes] == [4, 4, 1] and all((one == 12).all() for one in sizes)
    with pytest.raises(MethodError, match="there are 50"):
        partitions(50, 51, 1, seed=0)
    assert single(5, [3, 1]).tolist() == [-1, 1, -1, 0, -1]


@pytest.fixture(scope="module")
def planted():
    model, states, _ = planted_model()
    layers = sites.layers(model.unet, ["ff"])
    inputs = torch.randn(2, 1, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    target, reference = (states[name].expand(2, -1, -1) for name in ("A", "plain"))
    items = Items(Trajectory(inputs, [1], [401.0]), target, ["a", "b"])
    return model, layers, items, Linear(reference, target, reference)


def test_exact_scores_agree_with_single_ablations_and_so_does_the_gradient(planted):
    table = one_by_one(*planted, {"exact": ("ablation", {}), "gradient": ("gradient", {})}, 20, 6, batch=32)
    assert list(table["where"]) == ["sample", "top"] * 2 and set(table["target"]) == {"T2 J_lin"}
    assert list(table["n_neurons"]) == [20, 6] * 2
    exact, gradient = (table[table["method"] == name] for name in ("exact", "gradient"))
    assert np.allclose(exact[["spearman", "pearson"]], 1, atol=1e-4)
    assert (gradient["passes"] == 2).all() and (gradient["pearson"] > 0.8).all() and (gradient["pearson"] < 1).all()


def test_sets_of_one_neuron_are_single_ablations_and_larger_sets_are_predicted(planted):
    methods = {"exact": ("ablation", {}), "gradient": ("gradient", {})}
    n = sum(layer.n_neurons for layer in planted[1])
    one = by_sets(*planted, methods, share=1 / n, n_sets=8, batch=32)
    assert one["pearson"][0] == pytest.approx(1, abs=1e-3) and list(one["n_sets"]) == [8, 8]
    more = by_sets(*planted, methods, share=0.1, n_sets=12, batch=32)
    assert (more["pearson"] > 0.5).all() and (more["share"] == 0.1).all()
