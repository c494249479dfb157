"""Which sets of players a Shapley value is made of, and with which weights.

Definitions: docs/reference/definitions.md#ablation.

weights    the coalitions to measure, and how much each counts for each player
n_sets     how many coalitions that is at most
"""

from math import comb

import numpy as np

EXACT = 6
N_ORDERS = 40


def weights(n, seed=0):
    """Coalitions of n players and their weights: phi[player] = sum over coalitions of weight[coalition, player] v(coalition), v(none) = 0.

    All orders up to EXACT players; beyond, N_ORDERS drawn orders, every second the reverse of the one before. Either way the values
    add up to v(all).

    returns   (coalition, player) bool, (coalition, player) weights, number of drawn orders or None
    """
    if n <= EXACT:
        taken = (np.arange(1, 2**n)[:, None] >> np.arange(n)) % 2 == 1
        size = taken.sum(axis=1, keepdims=True)
        first = np.array([[1 / (n * comb(n - 1, max(0, int(s) - 1))), 1 / (n * comb(n - 1, min(n - 1, int(s))))] for (s,) in size])
        return taken, np.where(taken, first[:, :1], -first[:, 1:]), None
    rng, orders = np.random.default_rng([seed, n]), []
    for _ in range(N_ORDERS // 2):
        drawn = rng.permutation(n)
        orders += [drawn, drawn[::-1]]
    weight = {}
    for order in orders:
        inside = np.zeros(n, bool)
        for player in order:
            if inside.any():
                weight.setdefault(inside.tobytes(), np.zeros(n))[player] -= 1 / len(orders)
            inside[player] = True
            weight.setdefault(inside.tobytes(), np.zeros(n))[player] += 1 / len(orders)
    return np.array([np.frombuffer(key, bool) for key in weight]), np.array(list(weight.values())), len(orders)


def n_sets(n):
    """The largest number of coalitions that weights() asks to measure."""
    return 2**n - 1 if n <= EXACT else min(2**n - 1, N_ORDERS * (n - 1) + 1)
