"""Activations with known groups of neurons, spread over layers of very different size."""

import numpy as np
import pandas

CONDITIONS = [("base", "target"), ("erased", "target"), ("erased", "adv"), ("erased", "ctl"), ("base", "retained")]
# how far each group is from the reference in each condition, in standard deviations
EFFECTS = np.array([[6, 0, 5, 0, 0], [6, 6, 6, 6, 0], [0, 0, 0, 0, 6.0]])
SIZE = {"down.ff": 0.1, "mid.ff": 1.0, "up.ff": 30.0}


def index_table(n):
    """(n,) neurons over three layers, as even as can be."""
    layer = np.array(list(SIZE))[np.arange(n) * len(SIZE) // n]
    within = pandas.Series(layer).groupby(layer).cumcount()
    return pandas.DataFrame({"layer": layer, "index": within, "site": "ff"})


def recorded(n=90, n_units=12, n_calls=3, effects=EFFECTS, seed=0):
    """(values, index, group): {condition: (unit, call, neuron)} float32; group None without effects."""
    rng = np.random.default_rng(seed)
    index = index_table(n)
    size = index["layer"].map(SIZE).to_numpy()
    group = np.random.default_rng(99).permutation(np.arange(n) % 3)
    values = {("base", "reference"): rng.normal(20, 1, (n_units, n_calls, n)) * size}
    for place, condition in enumerate(CONDITIONS):
        rise = 0 if effects is None else effects[group, place]
        values[condition] = (rng.normal(20, 1, (n_units, n_calls, n)) + rise) * size
    return {condition: array.astype(np.float32) for condition, array in values.items()}, index, None if effects is None else group
