"""Slow, obvious scores, each written from its definition with loops over prompts, calls, rows and neurons; the fast ones must agree."""

import math
import statistics

import numpy as np


def norm(raw, neuron):
    """L2 norm over tokens of one neuron; raw (token, neuron) lists."""
    return math.sqrt(sum(token[neuron] ** 2 for token in raw))


def row_norm(raw, neuron):
    """The same after each token is brought to length 1; a token of zeros stays."""
    total = 0.0
    for token in raw:
        length = math.sqrt(sum(value**2 for value in token))
        if length:
            total += (token[neuron] / length) ** 2
    return math.sqrt(total)


def welch_z(target, reference):
    """Difference of means over its standard error, neuron by neuron."""
    result = []
    for i in range(target.shape[1]):
        a, b = target[:, i].tolist(), reference[:, i].tolist()
        error = math.sqrt(statistics.variance(a) / len(a) + statistics.variance(b) / len(b))
        result.append((statistics.mean(a) - statistics.mean(b)) / error)
    return np.array(result)


def auroc(target, reference):
    """Share of pairs in which the target prompt moves the neuron more; a tie is half."""
    result = []
    for i in range(target.shape[1]):
        wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in target[:, i] for b in reference[:, i]]
        result.append(sum(wins) / len(wins))
    return np.array(result)


def by_layer(layer, weights, column):
    """Each layer's column(weight, positions of its neurons), put in place; NaN elsewhere."""
    found = np.full(len(layer), np.nan)
    for name, weight in weights.items():
        places = [i for i in range(len(layer)) if layer[i] == name]
        for place, value in zip(places, column(weight, places), strict=True):
            found[place] = value
    return found


def wanda_contrast(target, reference, layer, weights, group):
    """Mean over rows of (S_target - S_reference) / mean S of the group."""

    def column(weight, places):
        rows, width = weight.shape

        def size(array, place):
            return math.sqrt(sum(x**2 for x in array[:, :, place].ravel()))

        def s(array, r, i):
            return abs(weight[r, i]) * size(array, places[i])

        both = [[(s(target, r, i) + s(reference, r, i)) / 2 for i in range(width)] for r in range(rows)]
        every = statistics.mean(x for row in both for x in row)
        result = []
        for i in range(width):
            total = 0.0
            for r in range(rows):
                scale = {"row": statistics.mean(both[r]), "layer": every, "global": 1.0}[group]
                total += (s(target, r, i) - s(reference, r, i)) / scale
            result.append(total / rows)
        return result

    return by_layer(layer, weights, column)


def conceptprune_mask(weight, target, reference, share, n_calls, select_ratio):
    """Z_l by loops; target, reference (prompt, call, neuron) of one layer."""
    rows, width = weight.shape
    n_calls = min(n_calls, target.shape[1])
    mask = np.zeros(weight.shape, bool)
    for r in range(rows):
        votes = [0] * width
        for call in range(n_calls):
            s = [
                [abs(weight[r, i]) * math.sqrt(sum(x**2 for x in array[:, call, i])) for i in range(width)] for array in (target, reference)
            ]
            best = sorted(range(width), key=lambda i: -s[0][i])[: int(share * width)]
            for i in best:
                votes[i] += s[0][i] > s[1][i]
        for i in range(width):
            mask[r, i] = votes[i] > select_ratio * n_calls
    return mask


def conceptprune(target, reference, layer, weights, share, n_calls, select_ratio):
    """Share of rows in which a neuron's weight is in the mask."""

    def column(weight, places):
        return conceptprune_mask(weight, target[..., places], reference[..., places], share, n_calls, select_ratio).mean(axis=0)

    return by_layer(layer, weights, column)


def fia_importance(weight, target, reference, often):
    """A of FIA's code by loops over calls and weights: sd over all n prompts, tau the k-th largest, the mean over its maximum."""
    rows, width = weight.shape
    n_calls = target.shape[1]
    sizes = []
    for call in range(n_calls):
        s = np.zeros(weight.shape)
        for i in range(width):
            a, b = target[:, call, i].tolist(), reference[:, call, i].tolist()
            more = max(0.0, statistics.mean(a) - statistics.mean(b) - statistics.pstdev(b))
            for r in range(rows):
                s[r, i] = abs(weight[r, i]) * more
        sizes.append(s)
    return fia_sensitive(sizes, often, scaled=True)


def fia_sensitive(sizes, often, scaled):
    """A from S of every call, one weight after the other."""
    rows, width = sizes[0].shape
    mean = sum(sizes) / len(sizes)
    hits = np.zeros((rows, width))
    for s in sizes:
        kth = sorted(s.ravel(), reverse=True)[max(1, int(often * s.size)) - 1]
        for r in range(rows):
            for i in range(width):
                hits[r, i] += s[r, i] > kth
    return mean / (mean.max() if scaled else 1) / 2 + hits / len(sizes) / 2


def fia_signal(weight, inputs, outputs):
    """U of FIA's Eq. 1 for one prompt: |w| times the norm of the input times the cosine of input and output over tokens."""
    rows, width = weight.shape
    found = np.zeros(weight.shape)
    for r in range(rows):
        for i in range(width):
            x, y = [token[i] for token in inputs], [token[r] for token in outputs]
            size, out = math.sqrt(sum(a * a for a in x)), math.sqrt(sum(b * b for b in y))
            inner = abs(sum(a * b for a, b in zip(x, y, strict=True)))
            found[r, i] = abs(weight[r, i]) * size * inner / (size * out + 1e-8)
    return found


def fia_paper(weight, target, reference, often):
    """A of FIA's paper; target and reference [prompt][call] = (inputs (token, neuron), outputs (token, output))."""
    sizes = []
    for call in range(len(target[0])):
        s = np.zeros(weight.shape)
        sides = [[fia_signal(weight, *prompt[call]) for prompt in side] for side in (target, reference)]
        for r in range(weight.shape[0]):
            for i in range(weight.shape[1]):
                a, b = ([float(u[r, i]) for u in side] for side in sides)
                s[r, i] = max(0.0, statistics.mean(a) - statistics.mean(b) - statistics.pstdev(b))
        sizes.append(s)
    return fia_sensitive(sizes, often, scaled=False)


def fia(target, reference, layer, weights, often):
    """Mean over rows of A."""

    def column(weight, places):
        return fia_importance(weight, target[..., places], reference[..., places], often).mean(axis=0)

    return by_layer(layer, weights, column)


def fia_selected(important, share):
    """Q by sorting: weights among the first of their row and among the first of the layer, above 0."""
    rows, width = important.shape
    everywhere = sorted(((important[r, i], r, i) for r in range(rows) for i in range(width)), reverse=True)
    best = {(r, i) for _, r, i in everywhere[: max(1, int(share * important.size))]}
    mask = np.zeros(important.shape, bool)
    for r in range(rows):
        for i in sorted(range(width), key=lambda i: -important[r, i])[: max(1, int(share * width))]:
            mask[r, i] = (r, i) in best and important[r, i] > 0
    return mask
