"""Sets of other neurons that are like a set: what an effect on the set is compared with.

Definitions: docs/reference/definitions.md#is-it-these-neurons.

A random set mixes neurons that rise and neurons that fall with the concept; on the set's own scale such sums cancel, so that any
set looks special beside them. A comparable set has, for every neuron of the set, one of the same layer, with the same sign of
kappa and nearly the same |kappa|, and stands on its own base scale.

partners            the neurons outside the set that are like each of its neurons
Partners.sets       comparable sets, one partner of each neuron;  exchanged   sets with some neurons of the set itself among them
of_another_concept  a set chosen by the same rule for another concept, and the study's own, both without the neurons in both
outcome             more, no more, cannot tell
"""

from dataclasses import dataclass

import numpy as np

from workbench.errors import StatisticsError

ROUNDS = 2  # more partners are less alike: of a set at the top of its layers each round has a smaller contrast
MORE, NO_MORE, CANNOT_TELL = "more", "no more", "cannot tell"


@dataclass(frozen=True)
class Partners:
    """For each neuron of a set, the neurons that are like it.

    members    (neuron of the set,) positions
    positions  (neuron of the set, round) positions of its partners
    n_neurons  how many neurons there are in all
    nearness   mean |kappa| of the partners over that of the set, on the half of the units that chose it
    """

    members: np.ndarray
    positions: np.ndarray
    n_neurons: int
    nearness: float

    @property
    def weights(self):
        """(neuron,) how often a neuron is in a comparable set on average; values @ weights is the mean over all comparable sets."""
        weights = np.zeros(self.n_neurons)
        weights[self.positions] = 1 / self.positions.shape[1]
        return weights

    def sets(self, n_sets, seed):
        """(set, neuron) bool: one partner of each neuron, drawn at random."""
        return self._drawn(self.positions, n_sets, [seed, 0])

    def exchanged(self, n_sets, seed):
        """(set, neuron) bool: of each neuron and its partners one, drawn at random. If which of them is in the set is chance, the set
        itself is such a draw: their values are the null of an exact permutation test."""
        return self._drawn(np.column_stack([self.members, self.positions]), n_sets, [seed, 1])

    def _drawn(self, choices, n_sets, seed):
        drawn = np.zeros((n_sets, self.n_neurons), bool)
        places = np.random.default_rng(seed).integers(choices.shape[1], size=(n_sets, len(choices)))
        for row, place in zip(drawn, places, strict=True):
            row[choices[np.arange(len(choices)), place]] = True
        return drawn


def partners(chosen, kappa, layer, exclude=None, rounds=ROUNDS):
    """The Partners of a set: outside it and `exclude`, same layer, same sign of kappa, nearest in |kappa|, no neuron twice.

    In each of `rounds` rounds every neuron of the set, the one with the largest |kappa| first, takes the nearest neuron that is
    still free.

    Shapes   chosen, exclude (neuron,) bool;  kappa (neuron,) base contrast on the half of the units that chose the set;  layer (neuron,)
    Raises   StatisticsError for an empty set, kappa 0 or NaN in it, and a layer that has too few other neurons
    """
    chosen, kappa, layer = np.asarray(chosen, bool), np.asarray(kappa, float), np.asarray(layer)
    if not chosen.any():
        raise StatisticsError("The neuron set is empty.")
    if not (np.abs(kappa[chosen]) > 0).all():
        raise StatisticsError("A neuron of the set has no contrast in the base model, so no neuron is comparable to it.")
    free = ~chosen if exclude is None else ~(chosen | np.asarray(exclude, bool))
    members, found = [], []
    for name in np.unique(layer[chosen]):
        for sign in (1, -1):
            side = (layer == name) & (np.sign(kappa) == sign)
            own, pool = np.flatnonzero(chosen & side), np.flatnonzero(free & side)
            if not len(own):
                continue
            if len(pool) < rounds * len(own):
                raise StatisticsError(
                    f'Layer "{name}" has {len(pool)} neurons outside the set whose contrast has the same sign as that of {len(own)} in it; '
                    f"comparable sets need {rounds * len(own)}. Choose a smaller share"
                )
            own = own[np.argsort(-np.abs(kappa[own]), kind="stable")]
            taken, size = np.empty((len(own), rounds), int), np.abs(kappa[pool])
            for at in range(rounds):
                for place, neuron in enumerate(own):
                    nearest = int(np.argmin(np.abs(size - abs(kappa[neuron]))))
                    taken[place, at], size[nearest] = pool[nearest], np.inf
            members.append(own)
            found.append(taken)
    members, found = np.concatenate(members), np.concatenate(found)
    return Partners(members, found, len(chosen), float(np.abs(kappa[found]).mean() / np.abs(kappa[members]).mean()))


def of_another_concept(choose, other, chosen, layer=None):
    """(own, other), (neuron,) bool each: what the study's rule chose for its concept, and what it chooses for another one.

    choose   (neuron,) scores -> (neuron,) bool, the rule of the study
    other    (neuron,) scores of the other concept, on the selection half
    chosen   (neuron,) bool of this concept. Shared neurons say nothing about either concept, so they are in neither set
    layer    (neuron,) names, when the other set is to have no layer in which this concept has no neuron
    Raises   StatisticsError when nothing is left of one of them
    """
    chosen, found = np.asarray(chosen, bool), np.asarray(choose(other), bool)
    own, found = chosen & ~found, found & ~chosen
    if layer is not None:
        found &= np.isin(np.asarray(layer), np.unique(np.asarray(layer)[chosen]))
    if not found.any() or not own.any():
        raise StatisticsError("The rule chooses the same neurons for both concepts, so it cannot distinguish them.")
    return own, found


def outcome(value, low, high, p, margin, alpha=0.05):
    """more | no more | cannot tell: does the effect happen on this set more than on comparable ones?

    value       the effect on the set; its sign says what "more" means
    low, high   interval over units of the value minus the mean of comparable sets
    p           of the exchange of the set's neurons with their partners, two-sided
    more        the interval lies beyond 0 on the side of the value, and p < alpha: over units and over neurons
    no more     the interval ends before `margin` on that side
    """
    if value < 0:
        low, high = -high, -low
    if low > 0 and p < alpha:
        return MORE
    return NO_MORE if high < margin else CANNOT_TELL
