"""From weights to neurons: a stated reduction of each neuron's column."""

import numpy as np


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
