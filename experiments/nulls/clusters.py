"""Clusters of data without groups: how often are they called stable and grouped? And are planted groups still found?

KINDS      {name: (rng, neuron, feature) -> (neuron, feature)} data of one piece, also with (neuron,) the part a choice made; PLANTED groups
made       profiles that resampling the units disturbs
answer     what `choose_k` says of one draw of a kind
counted    {kind: draws, how many were called stable and grouped, how often the planted number of groups was chosen}
"""

from types import SimpleNamespace

import numpy as np

from workbench.analysis.cluster_stability import choose_k
from workbench.storage import read_json, write_json

N_UNITS, NOISE = 20, 0.2
SIZES = {"few features": (150, 5), "many features": (150, 20)}
RANGE = range(2, 6)


def _stretched(data):
    return data * np.linspace(4, 0.3, data.shape[1])


def _ball(rng, n, d):
    direction = rng.normal(size=(n, d))
    return direction / np.linalg.norm(direction, axis=1, keepdims=True) * rng.random((n, 1)) ** (1 / d)


def _chosen(rng, n, d):
    """((neuron, feature), (neuron,) part): of one cloud ten times as large the tenth with the largest first feature of either sign."""
    data = rng.normal(size=(10 * n, d)) @ rng.normal(size=(d, d)) / np.sqrt(d)
    kept = np.argsort(-np.abs(data[:, 0]))[:n]
    return data[kept], (data[kept, 0] < 0).astype(int)


def _groups(rng, n, d, k, apart):
    """Normal groups of sd 1 around centres that are all equally far apart, in a random direction."""
    turned, _ = np.linalg.qr(rng.normal(size=(d, d)))
    return (np.eye(k, d) * apart / np.sqrt(2) @ turned)[np.arange(n) % k] + rng.normal(size=(n, d))


KINDS = {
    "normal": lambda rng, n, d: rng.normal(size=(n, d)),
    "normal, stretched": lambda rng, n, d: _stretched(rng.normal(size=(n, d))),
    "uniform": lambda rng, n, d: rng.uniform(-1, 1, (n, d)),
    "uniform, stretched": lambda rng, n, d: _stretched(rng.uniform(-1, 1, (n, d))),
    "ball": _ball,
    "heavy tails (t of 3 degrees)": lambda rng, n, d: rng.normal(size=(n, d)) / np.sqrt(rng.chisquare(3, (n, 1)) / 3),
    "heavy tails in each feature": lambda rng, n, d: np.clip(rng.standard_t(3, (n, d)), -5, 5),
    "skewed (exponential)": lambda rng, n, d: np.clip(rng.exponential(size=(n, d)), 0, 5),
    "one gradient, normal": lambda rng, n, d: rng.normal(size=(n, 1)) * rng.normal(size=(1, d)) + 0.2 * rng.normal(size=(n, d)),
    "one gradient, uniform": lambda rng, n, d: rng.uniform(-1.7, 1.7, (n, 1)) * rng.normal(size=(1, d)) + 0.2 * rng.normal(size=(n, d)),
    "one gradient, skewed": lambda rng, n, d: (
        np.exp(0.7 * rng.normal(size=(n, 1))) * rng.normal(size=(1, d)) + 0.5 * rng.normal(size=(n, d))
    ),
    "chosen for a large score of either sign": lambda rng, n, d: _chosen(rng, n, d),
    "three heavy factors": lambda rng, n, d: rng.laplace(size=(n, 3)) @ rng.normal(size=(3, d)) + 0.4 * rng.normal(size=(n, d)),
}
PLANTED = {
    "3 groups, 4 sd apart": (3, lambda rng, n, d: _groups(rng, n, d, 3, 4)),
    "3 groups, 5 sd apart": (3, lambda rng, n, d: _groups(rng, n, d, 3, 5)),
    "4 groups, 6 sd apart": (4, lambda rng, n, d: _groups(rng, n, d, 4, 6)),
}


def made(data, rng, noise=NOISE, n_units=N_UNITS):
    """weights of the units -> profiles: the data in its own standard deviation, and noise that each unit adds."""
    data = data / data.std()
    units = noise * np.sqrt(n_units) * rng.normal(size=(n_units, *data.shape))

    def make(weights):
        return SimpleNamespace(matrix=data + np.tensordot(np.full(n_units, 1 / n_units) if weights is None else weights, units, 1))

    return make


def answer(kind, size, seed, choose=choose_k):
    """The chosen number of clusters of one draw of a kind, None when none is both stable and grouped."""
    rng = np.random.default_rng([seed, *kind.encode()])
    draw = PLANTED[kind][1] if kind in PLANTED else KINDS[kind]
    data = draw(rng, *SIZES[size])
    data, parts = data if isinstance(data, tuple) else (data, None)
    return choose(made(data, rng), N_UNITS, RANGE, n_resamples=10, seed=seed, parts=parts)[0]


def counted(path, n_draws, say=lambda line: None):
    """Rows of the table; every answer is kept in the file `path`, so that a stopped run resumes."""
    known = read_json(path) if path.exists() else {}
    for kind in (*KINDS, *PLANTED):
        for size in SIZES:
            for seed in range(n_draws):
                key = f"{kind}; {size}; {seed}"
                if key not in known:
                    known[key] = answer(kind, size, seed)
                    write_json(path, known)
            say(f"{kind}, {size}")
    return [
        _row(kind, size, [known[f"{kind}; {size}; {seed}"] for seed in range(n_draws)]) for kind in (*KINDS, *PLANTED) for size in SIZES
    ]


def _row(kind, size, answers):
    said = [k for k in answers if k is not None]
    right = sum(k == PLANTED[kind][0] for k in said) if kind in PLANTED else None
    return {"kind": kind, "size": size, "n": len(answers), "said": len(said), "right": right}
