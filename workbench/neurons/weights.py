"""Formulas over the single weights that read neurons: what scores and pruning share. Arrays in, arrays out.

importance       |weight| times the size of its input (Wanda)
skilled, voted   ConceptPrune's rule at one call, and over calls
signal           FIA's Eq. 1 of one prompt, as its paper writes it
above, sensitive   FIA's Eq. 2 and 3;  excess: both in the form of its code
leading, fused   FIA's mask of one concept, and of several

The authors of ConceptPrune and FIA count a share of n weights as int(share * n): they cut off, they do not round.
"""

import math

import numpy as np


def importance(weight, size):
    """S[r, i] = |W[r, i]| * size_i; (output, neuron), from the size of each neuron's activation (neuron,)."""
    return np.abs(weight) * size


def skilled(weight, target, reference, share):
    """Z of one call: S_target[r, i] is among the top int(share * width) of row r, and S_target[r, i] > S_reference[r, i].

    S[r, i] = |W[r, i]| * A_i,  A_i = sqrt(sum over token rows of ahat_i^2),  ahat the token row brought to length 1

    A share of less than one weight of a row names none. Equal weights at the end of the top are all in it.

    Shapes   weight, returns    (output, neuron); True = skilled
             target, reference  (neuron,) A
    Source   arXiv 2405.19237; the count and the order as in its public code
    """
    wanted, other = importance(weight, target), importance(weight, reference)
    n = int(share * wanted.shape[1])
    if n == 0:
        return np.zeros(weight.shape, bool)
    least = np.partition(wanted, -n, axis=1)[:, -n, None]
    return (wanted >= least) & (wanted > other)


def voted(weight, target, reference, share, select_ratio):
    """Weights skilled at more than `select_ratio` of the calls; (output, neuron), True = to prune; target, reference (call, neuron)."""
    votes = sum(skilled(weight, *sides, share).astype(int) for sides in zip(target, reference, strict=True))
    return votes > select_ratio * len(target)


def signal(weight, inputs, outputs):
    """U[r, i] = |W[r, i]| ||X_i|| |<X_i, Y_r>| / (||X_i|| ||Y_r|| + 1e-8), over the tokens of one prompt at one call.

    Shapes   weight   (output, neuron)
             inputs   (token, neuron) X, what the layer reads;  outputs  (token, output) Y, what it writes
             returns  (output, neuron); arrays or tensors, as they are given
    Source   arXiv 2601.06163, Eq. 1. The size of its small constant is not stated
    """
    sizes, out = (inputs**2).sum(0) ** 0.5, (outputs**2).sum(0) ** 0.5
    return abs(weight) * sizes * abs(outputs.T @ inputs) / (out[:, None] * sizes + 1e-8)


def above(target, reference):
    """max(0, mean_target - mean_reference - sd_reference) over the first axis, sd divided by n; arXiv 2601.06163, Eq. 2."""
    return np.maximum(0, target.mean(axis=0) - reference.mean(axis=0) - reference.std(axis=0))


def sensitive(saliency, often, scaled=True):
    """A = mean_t S / (2 max mean_t S) + mean_t 1[S > tau_t] / 2, tau_t the k-th largest S of the layer at call t.

    k = max(1, int(often * weights of the layer)), so that k - 1 of them lie above tau_t.

    saliency   S, an iterable over calls of (output, neuron)
    scaled     whether mean_t S is divided by its maximum, as in the authors' code; the paper has mean_t S / 2
    returns    (output, neuron); scaled, in [0, 1]
    Source     arXiv 2601.06163, Eq. 3, and its public code for k and the maximum
    """
    total = hits = n_calls = 0
    for one in saliency:
        k = max(1, int(often * one.size))
        total, hits, n_calls = total + one, hits + (one > np.partition(one, -k, axis=None)[-k]), n_calls + 1
    mean = total / n_calls
    return mean / (2 * (mean.max() or 1 if scaled else 1)) + hits / (2 * n_calls)


def excess(weight, target, reference, often):
    """`sensitive` of S_t[r, i] = |W[r, i]| * above(||X_i||): the form of FIA's code.

    Its code measures row norms (each token row brought to length 1) in place of Eq. 1's norm times cosine.

    Shapes   target, reference  (prompt, call, neuron) row norms over tokens
             returns            (output, neuron) in [0, 1]
    Source   public code of arXiv 2601.06163
    """
    return sensitive((importance(weight, one) for one in above(target, reference)), often)


def leading(important, share):
    """Q of one concept: among the top max(1, int(share * n)) of its row and of its layer, and above 0; (output, neuron) bool."""
    rows, all_of_it = (max(1, int(share * n)) for n in (important.shape[1], important.size))
    in_row = np.partition(important, -rows, axis=1)[:, -rows, None]
    in_layer = np.partition(important, -all_of_it, axis=None)[-all_of_it]
    return (important >= in_row) & (important >= in_layer) & (important > 0)


def fused(masks, alpha):
    """What 1 to ceil(alpha C) - 1 of C concepts name; with C = 1 what that one names. (output, neuron) bool; may be empty.

    One concept is a case apart: by the general rule every weight it names would count as shared, and nothing be pruned, which
    is what the authors' script for one concept does.
    """
    named = sum(mask.astype(int) for mask in masks)
    return named > 0 if len(masks) == 1 else (named > 0) & (named < math.ceil(alpha * len(masks) - 1e-9))
