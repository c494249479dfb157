"""Slow, obvious versions of what masks are made from: loops over single weights, straight from SCIENCE 2.4 and 4."""

import math


def hard_concrete(u, phi, beta=0.83, zeta=1.1, gamma=-0.1):
    """One gate from one uniform number."""
    s = 1 / (1 + math.exp(-(math.log(u) - math.log(1 - u) + phi) / beta))
    return min(1.0, max(0.0, s * (zeta - gamma) + gamma))


def smallest(scores, n):
    """Indices of the n smallest of a list, earlier ones first where they tie."""
    return set(sorted(range(len(scores)), key=lambda i: (scores[i], i))[:n])


def wanda(weight, inputs):
    """|W[r, i]| times the root of the sum of squares of input i over all tokens; inputs: list of rows."""
    size = [math.sqrt(sum(row[i] ** 2 for row in inputs)) for i in range(len(weight[0]))]
    return [[abs(w) * size[i] for i, w in enumerate(row)] for row in weight]


def conceptprune(weight, target, reference, ratio, select_ratio):
    """Votes of calls; target, reference: per call the list of A."""
    votes = [[0] * len(weight[0]) for _ in weight]
    for a, b in zip(target, reference, strict=True):
        for r, row in enumerate(weight):
            mine = [abs(w) * x for w, x in zip(row, a, strict=True)]
            other = [abs(w) * x for w, x in zip(row, b, strict=True)]
            least = sorted(mine)[-max(1, round(ratio * len(row)))]
            for i in range(len(row)):
                votes[r][i] += mine[i] >= least and mine[i] > other[i]
    return [[v > select_ratio * len(target) for v in row] for row in votes]


def fia(weight, target, reference, often):
    """A of every weight; target, reference: [prompt][call][neuron]."""
    calls, rows, columns = len(target[0]), len(weight), len(weight[0])
    s = []
    for t in range(calls):
        excess = []
        for i in range(columns):
            wanted, other = [p[t][i] for p in target], [p[t][i] for p in reference]
            mean = sum(other) / len(other)
            sd = math.sqrt(sum((x - mean) ** 2 for x in other) / (len(other) - 1))
            excess.append(max(0.0, sum(wanted) / len(wanted) - mean - sd))
        s.append([[abs(weight[r][i]) * excess[i] for i in range(columns)] for r in range(rows)])
    n = min(max(1, round(often * rows * columns)), rows * columns - 1)
    tau = [sorted((x for row in one for x in row), reverse=True)[n] for one in s]
    mean = [[sum(one[r][i] for one in s) / calls for i in range(columns)] for r in range(rows)]
    top = max(x for row in mean for x in row)
    hits = [[sum(one[r][i] > tau[t] for t, one in enumerate(s)) / calls for i in range(columns)] for r in range(rows)]
    return [[mean[r][i] / top / 2 + hits[r][i] / 2 for i in range(columns)] for r in range(rows)]


def fia_fused(masks, alpha):
    """What is pruned, of 0/1 rows of C concepts; one concept prunes what it selects."""
    count = len(masks)
    result = []
    for votes in zip(*masks, strict=True):
        s = sum(votes)
        result.append(bool(s) if count == 1 else 0 < s < math.ceil(alpha * count))
    return result
