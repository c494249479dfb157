"""Slow, obvious re-implementations, each written from its definition; the fast ones must agree."""

import numpy as np
import torch


class KeepsEverything:
    """A reducer that stores every raw activation: {(layer, call): list of (row tensor, rows)}."""

    def __init__(self):
        self.raw = {}

    def wants(self, call):
        return True

    def add(self, layer, activation, rows):
        self.raw.setdefault((layer.path, rows.call), []).append((activation.clone(), rows))

    def mean_abs(self, layer, call, prompt):
        """Mean over tokens of |a| of the cond row of one prompt, looped."""
        for activation, rows in self.raw[layer, call]:
            for row in range(len(activation)):
                if rows.branch[row] == "cond" and int(rows.prompt[row]) == prompt:
                    total = 0.0
                    for token in range(activation.shape[1]):
                        total = total + activation[row, token].double().abs()
                    return total / activation.shape[1]
        raise AssertionError("not recorded")


def concept_activity(values, members, condition, base="base"):
    """A_M(P) by loops over neurons and units."""
    top = bottom = 0.0
    for neuron in np.flatnonzero(members):
        reference = sum(values[base, "reference"][u][neuron] for u in range(len(values[base, "reference"])))
        target = sum(values[base, "target"][u][neuron] for u in range(len(values[base, "target"])))
        own = sum(values[condition][u][neuron] for u in range(len(values[condition])))
        top += own - reference
        bottom += target - reference
    return top / bottom


def contrast(target, reference, layer):
    """Layer-scaled difference of means, neuron by neuron."""
    result = []
    for i in range(target.shape[1]):
        mine = [j for j in range(target.shape[1]) if layer[j] == layer[i]]
        size = np.mean([(target[:, j].mean() + reference[:, j].mean()) / 2 for j in mine])
        result.append((target[:, i].mean() - reference[:, i].mean()) / size)
    return np.array(result)


def z(target, reference, layer=None):
    """(mean_t - mean_r) / sd_r with n - 1, neuron by neuron."""
    return np.array(
        [
            (np.mean(target[:, i]) - np.mean(reference[:, i]))
            / np.sqrt(np.sum((reference[:, i] - np.mean(reference[:, i])) ** 2) / (len(reference) - 1))
            for i in range(target.shape[1])
        ]
    )


def correlation(target, erased):
    """Loss of mean activation from base to erased, neuron by neuron."""
    return np.array([np.mean([t[i] - e[i] for t, e in zip(target, erased, strict=True)]) for i in range(target.shape[1])])


def same_bits(a, b):
    """Whether two {name: tensor} are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name].view(torch.uint8), b[name].view(torch.uint8)) for name in a)
