"""The second-order score, on functions whose second derivatives are known."""

import numpy as np
import pytest
import torch

from workbench.analysis.attribution import METHODS, ByUnit


class Bowl:
    """J(g) = b g + g H g / 2 of four gates, standing in for a model; its gradient is b + H g."""

    def __init__(self, hessian, slope, n_rows):
        self.hessian, self.slope, self.n_rows = hessian, slope, n_rows

    def ones(self):
        return torch.ones(self.n_rows, len(self.slope), dtype=torch.float64)

    def gradient(self, gates):
        return self.slope + gates @ self.hessian

    def value(self, gates):
        return float(self.slope @ gates + gates @ self.hessian @ gates / 2)

    def lost(self):
        """(gate,) exact: J(1) - J(1 - e_i), one by one."""
        ones, eye = torch.ones(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)
        return np.array([self.value(ones) - self.value(ones - eye[i]) for i in range(4)])


def bowl(own, cross, n_rows=400):
    noise = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * cross
    hessian = (noise + noise.T) / 2
    hessian[range(4), range(4)] = torch.tensor(own, dtype=torch.float64)
    return Bowl(hessian, torch.tensor([1.0, 0.5, -0.3, 0.1], dtype=torch.float64), n_rows)


def scores(function, paired=False):
    parts = METHODS["curvature"].call(function, 8, torch.Generator().manual_seed(1), size=0.5, paired=paired).numpy()
    kept = ByUnit(2, 4, [])
    for row in range(function.n_rows):
        kept.add(str(row), parts[:, row])
    return kept.result()[0]


@pytest.mark.parametrize("paired", [False, True])
def test_without_interactions_the_score_is_the_exact_loss(paired):
    function = bowl([2.0, -1.0, 0.5, 0.0], 0.0)
    assert np.allclose(scores(function, paired)["value"], function.lost(), atol=1e-12)


@pytest.mark.parametrize("paired", [False, True])
def test_with_interactions_the_score_comes_closer_than_the_gradient(paired):
    function = bowl([2.0, -1.0, 0.5, 0.0], 1.0)
    exact, plain = function.lost(), function.gradient(function.ones())[0].numpy()
    found = scores(function, paired)
    assert np.abs(found["value"] - exact).max() < 0.2 * np.abs(plain - exact).max()
    assert ((found["low"] <= exact) & (exact <= found["high"])).all()


def test_a_correction_that_is_only_noise_is_shrunk_towards_the_gradient():
    function = bowl([0.0] * 4, 3.0, n_rows=40)
    plain = function.gradient(function.ones())[0].numpy()
    raw = METHODS["curvature"].call(function, 8, torch.Generator().manual_seed(1), size=0.5, paired=False)[1].mean(dim=0).numpy()
    assert np.linalg.norm(scores(function)["value"] - plain) < 0.7 * np.linalg.norm(raw)
