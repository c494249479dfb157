"""Formulas over the single weights that read neurons: what scores and pruning share. Arrays in, arrays out.

importance       |weight| times the size of its input (Wanda)
skilled, voted   ConceptPrune's rule at one call, and over calls
excess           FIA's importance;  leading, fused: its mask of one concept, and of several
"""

import math

import numpy as np


def importance(weight, size):
    """S[r, i] = |W[r, i]| * size_i; (output, neuron), from the size of each neuron's activation (neuron,)."""
    return np.abs(weight) * size


def skilled(weight, target, reference, share):
    """Z of one call: S_target[r, i] is among the top `share` of row r, and S_target[r, i] > S_reference[r, i].

    S[r, i] = |W[r, i]| * A_i,  A_i = sqrt(sum over token rows of ahat_i^2),  ahat the token row brought to length 1

    Shapes   weight, returns    (output, neuron); True = skilled. At least one weight of a row is its top
             target, reference  (neuron,) A
    Source   arXiv 2405.19237, public code (SCIENCE 2.4)
    """
    wanted, other = importance(weight, target), importance(weight, reference)
    n = max(1, round(share * wanted.shape[1]))
    least = np.partition(wanted, -n, axis=1)[:, -n, None]
    return (wanted >= least) & (wanted > other)


def voted(weight, target, reference, share, select_ratio):
    """Weights skilled at more than `select_ratio` of the calls; (output, neuron), True = to prune; target, reference (call, neuron)."""
    votes = sum(skilled(weight, *sides, share).astype(int) for sides in zip(target, reference, strict=True))
    return votes > select_ratio * len(target)


def excess(weight, target, reference, often):
    """A = mean_t S / (2 max mean_t S) + mean_t 1[S > tau_t] / 2, tau_t such that the top `often` of the layer's S lie above it

    S_t[r, i] = |W[r, i]| * max(0, mean_target ||X_i|| - mean_reference ||X_i|| - sd_reference ||X_i||), over prompts

    This is the form of the authors' code. The paper has a cosine of input and output in S and no division by the maximum.

    Shapes   target, reference  (prompt, call, neuron) L2 norms over tokens, at least two prompts
             returns            (output, neuron) in [0, 1]
    Source   arXiv 2601.06163 second-hand, public code (SCIENCE 2.4)
    """
    above = np.maximum(0, target.mean(axis=0) - reference.mean(axis=0) - reference.std(axis=0, ddof=1))
    mean, hits = importance(weight, above.mean(axis=0)), np.zeros(weight.shape)
    n = min(max(1, round(often * weight.size)), weight.size - 1)
    for one in above:
        size = importance(weight, one)
        hits += size > np.partition(size, -n - 1, axis=None)[-n - 1]
    return mean / (2 * mean.max() or 1) + hits / (2 * len(above))


def leading(important, share):
    """Q of one concept: in the top `share` of its row and of its layer, and above 0; (output, neuron) bool."""
    rows, all_of_it = (max(1, round(share * n)) for n in (important.shape[1], important.size))
    in_row = np.partition(important, -rows, axis=1)[:, -rows, None]
    in_layer = np.partition(important, -all_of_it, axis=None)[-all_of_it]
    return (important >= in_row) & (important >= in_layer) & (important > 0)


def fused(masks, alpha):
    """What 1 to ceil(alpha C) - 1 of C concepts name; with C = 1 what that one names. (output, neuron) bool; may be empty.

    One concept is a case apart: by the general rule every weight it names would count as shared, and nothing be pruned, as
    happens in the authors' script (SCIENCE 2.4).
    """
    named = sum(mask.astype(int) for mask in masks)
    return named > 0 if len(masks) == 1 else (named > 0) & (named < math.ceil(alpha * len(masks) - 1e-9))
