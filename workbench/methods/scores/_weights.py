"""From weights to neurons: what the scores over single weights share.

importance        |weight| times the size of its input
through_weights   one value per neuron from each layer's weights, a stated reduction of its column
"""

import numpy as np


def importance(weight, size):
    """S[r, i] = |W[r, i]| * size_i; (output, neuron), from the size of each neuron's activation (neuron,)."""
    return np.abs(weight) * size


def through_weights(layer, weights, column):
    """(neuron,) values of column(weight, members) layer by layer; NaN where no linear layer reads the neurons directly.

    column   gets a layer's weight (output, neuron) and the boolean (neuron,) of its neurons, gives one value for each of them
    """
    layer = np.asarray(layer)
    found = np.full(len(layer), np.nan)
    for name, weight in weights.items():
        members = layer == name
        if members.any():
            found[members] = column(weight, members)
    return found
