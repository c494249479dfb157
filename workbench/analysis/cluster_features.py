"""What neurons are compared by when they are clustered: their contrast over conditions and calls, and their attribution.

Features           one row per neuron
features           the contrast profile and, where given, attribution, scaled within layer
level_and_spread   the zero and the scale of all profiles, from the base model alone
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas

from workbench.errors import StatisticsError

CLIP = 5.0


@dataclass(frozen=True)
class Features:
    """One row per clustered neuron.

    matrix     (neuron, feature) scaled within layer
    columns    data frame, one row per feature: variant, prompt_set, call; or attribution, the others then missing
    index      data frame, one row per neuron: layer, index, site
    position   (neuron,) row of each neuron in the index table of all recorded neurons
    left_out   how many wanted neurons never move in the base model and so have no profile
    """

    matrix: np.ndarray
    columns: pandas.DataFrame
    index: pandas.DataFrame
    position: np.ndarray
    left_out: int

    def rows(self, kept):
        """The features of some rows."""
        return replace(self, matrix=self.matrix[kept], index=self.index.iloc[kept].reset_index(drop=True), position=self.position[kept])


def features(values, index, members=None, attribution=None, weights=None, base="base", clip=CLIP):
    """Contrast profile of each neuron over conditions and calls, and its attribution, scaled within layer.

    x_i(M, P, call) = (n_M(P) - n_0(ref)) / sd_0(ref)_i            base standard deviations, pooled over calls
    feature         = (x - mean of its layer) / sd of its layer,   cut at +-clip, divided by sqrt(calls)

    so that every condition, whatever its number of calls, weighs as much as one attribution, and no layer stands out by its
    size alone. Mean and sd of a layer are those of all its neurons, not of the chosen ones.

    Shapes       values {(variant, prompt set): (unit, call, neuron)}, same units; index: one row per neuron
    members      (neuron,) bool, which neurons to cluster; default all
    attribution  {name: (neuron,)}
    weights      (unit,) summing to 1, a bootstrap resample of the units; default equal
    Raises       StatisticsError when shapes differ, base x reference or every other condition is missing, or nothing moves
    """
    _check_values(values, index, attribution, base)
    zero, spread = level_and_spread(values[base, "reference"])
    live = spread > 0
    wanted = live if members is None else live & np.asarray(members, bool)
    if not wanted.any():
        raise StatisticsError("None of the neurons ever moves in the base model's reference condition; they have no profile to compare.")
    if weights is not None:
        zero = _mean(values[base, "reference"], weights)
    blocks, columns = [], []
    for condition, array in values.items():
        if condition == (base, "reference"):
            continue
        own = _mean(array, weights)
        blocks.append((own - zero)[:, live] / spread[live])
        columns += [{"variant": condition[0], "prompt_set": condition[1], "call": call} for call in range(len(own))]
    for name, credit in (attribution or {}).items():
        blocks.append(np.asarray(credit, float)[None, live])
        columns.append({"attribution": name})
    layer = index["layer"].to_numpy()[live]
    scaled = [np.clip(_within_layer(block, layer), -clip, clip) / np.sqrt(len(block)) for block in blocks]
    matrix = np.concatenate(scaled).T[wanted[live]]
    position = np.flatnonzero(wanted)
    asked = len(index) if members is None else int(np.sum(members))
    return Features(matrix, pandas.DataFrame(columns), index.iloc[position].reset_index(drop=True), position, asked - len(position))


def level_and_spread(reference):
    """Mean (call, neuron) and standard deviation (neuron,) over units of the base reference, pooled over calls.

    A neuron that never moves has spread 0; rounding must not give it one.
    """
    level = _mean(reference, None)
    square = np.zeros(level.shape)
    for row in reference:
        square += (row - level) ** 2
    spread = np.sqrt((square / (len(reference) - 1)).mean(axis=0))
    return level, np.where(spread <= 1e-6 * np.abs(level).mean(axis=0), 0.0, spread)


def _mean(array, weights):
    """(call, neuron) weighted mean over units in float64; one unit at a time, so that order of neurons changes no bit."""
    weights = np.full(len(array), 1 / len(array)) if weights is None else weights
    total = np.zeros(array.shape[1:])
    for weight, row in zip(weights, array, strict=True):
        if weight:
            total += weight * row.astype(float)
    return total


def _within_layer(block, layer):
    """(feature, neuron) in standard deviations of its layer around the layer's mean; 0 where the layer does not vary."""
    scaled = np.zeros(block.shape)
    for name in np.unique(layer):
        here = layer == name
        middle = block[:, here] - block[:, here].mean(axis=1, keepdims=True)
        sd = middle.std(axis=1, keepdims=True)
        varies = sd > 1e-9 * np.abs(block[:, here]).max(axis=1, keepdims=True)
        scaled[:, here] = np.where(varies, middle / np.where(varies, sd, 1), 0)
    return scaled


def _check_values(values, index, attribution, base):
    shapes = {array.shape for array in values.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 3:
        raise StatisticsError(f"Conditions need equal arrays (unit, call, neuron), not {sorted(shapes)}.")
    n_units, _, n_neurons = next(iter(shapes))
    if n_units < 2:
        raise StatisticsError(f"{n_units} unit has no spread, which sets the scale of the profiles; at least 2 are needed.")
    if (base, "reference") not in values or len(values) < 2:
        raise StatisticsError(f'Profiles need ("{base}", "reference"), which is their zero, and at least one other condition.')
    if n_neurons != len(index):
        raise StatisticsError(f"{n_neurons} recorded neurons do not fit an index table of {len(index)}.")
    named = {f"activations of {c}": v for c, v in values.items()} | {f'attribution "{name}"': v for name, v in (attribution or {}).items()}
    for name, array in named.items():
        if np.shape(array)[-1] != n_neurons or not np.isfinite(array).all():
            raise StatisticsError(f"The {name} do not give {n_neurons} neurons a finite number each.")
