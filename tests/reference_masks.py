"""Slow, obvious versions of what masks are made from: loops over single weights (docs/reference/definitions.md#weight-scores)."""

import math


def hard_concrete(u, phi, beta=0.83, zeta=1.1, gamma=-0.1):
    """One gate from one uniform number."""
    s = 1 / (1 + math.exp(-(math.log(u) - math.log(1 - u) + phi) / beta))
    return min(1.0, max(0.0, s * (zeta - gamma) + gamma))


def smallest(scores, n):
    """Indices of the n smallest of a list, earlier ones first where they tie."""
    return set(sorted(range(len(scores)), key=lambda i: (scores[i], i))[:n])


def fia_fused(masks, alpha):
    """What is pruned, of 0/1 rows of C concepts; one concept prunes what it selects."""
    count = len(masks)
    result = []
    for votes in zip(*masks, strict=True):
        s = sum(votes)
        result.append(bool(s) if count == 1 else 0 < s < math.ceil(alpha * count))
    return result
