"""How far neuron sets are the same, layer by layer, beside sets that lie by lot.

overlaps   every pair of some sets, in each layer and in all
"""

import numpy as np
import pandas
from scipy.stats import hypergeom

from workbench.analysis.selection import stability
from workbench.errors import ModelError

ALL = "all layers"


def overlaps(sets, widths, n_random=999, seed=0):
    """Overlap of every pair of neuron sets, beside that of random sets with the same count in every layer.

    iou = both / (first + second - both)
    In one layer `both` of random sets is hypergeometric: chance is its expected overlap, the band its 2.5 to 97.5 % quantiles, p the
    probability of at least as much. In all layers together the same of n_random drawn pairs of sets.

    sets      {label: NeuronSet};  widths   {layer: neurons}
    returns   data frame: first, second, layer (ALL last), n (neurons there), n_first, n_second, both, iou, chance, chance_low,
              chance_high, p_random, n_random (missing where exact), reason: why there is no chance
    Raises    ModelError for fewer than two sets, or an empty one
    """
    if len(sets) < 2:
        raise ModelError(f"{len(sets)} set has nothing to be compared with; give at least 2.")
    for label, one in sets.items():
        if not len(one):
            raise ModelError(f'The set "{label}" is empty; its overlap says nothing.')
    labels, rows = list(sets), []
    for place, first in enumerate(labels):
        for second in labels[place + 1 :]:
            rows += _pair(first, second, sets[first].neurons, sets[second].neurons, widths, n_random, seed)
    return pandas.DataFrame(rows)


def _pair(first, second, a, b, widths, n_random, seed):
    rows, layers = [], sorted({*a, *b})
    for layer in layers:
        one, other = a.get(layer, ()), b.get(layer, ())
        counts = {"n": widths.get(layer), "n_first": len(one), "n_second": len(other), "both": len(np.intersect1d(one, other))}
        rows.append({"first": first, "second": second, "layer": layer} | counts | _by_lot(**counts))
    unknown = [layer for layer in layers if layer not in widths]
    known = {key: sum(row[key] for row in rows) for key in ("n_first", "n_second", "both")}
    total = {"n": None if unknown else sum(widths[layer] for layer in layers)} | known
    by_lot = _by_lot(**total) | {"n_random": None}
    if not unknown:
        layer = np.repeat(layers, [widths[name] for name in layers])
        chosen = {
            label: np.concatenate([np.isin(np.arange(widths[name]), neurons.get(name, ())) for name in layers])
            for label, neurons in (("first", a), ("second", b))
        }
        by_lot |= stability(chosen, layer, n_random=n_random, seed=seed).iloc[0][list(by_lot.keys() - {"reason"})].to_dict()
    else:
        by_lot["reason"] = f'how wide the layer "{unknown[0]}" is, is not known'
    return [*({**row, "n_random": None} for row in rows), {"first": first, "second": second, "layer": ALL} | total | by_lot]


def _by_lot(n, n_first, n_second, both):
    """iou, and what it would be by lot in one layer of n neurons."""
    row = {"iou": _iou(n_first, n_second, both)} | dict.fromkeys(("chance", "chance_low", "chance_high", "p_random"))
    if n is None:
        return row | {"reason": "how wide the layer is, is not known"}
    if not n_first or not n_second:
        return row | {"reason": "only one of the sets has neurons here"}
    law, low, high = hypergeom(n, n_first, n_second), *(hypergeom.ppf(q, n, n_first, n_second) for q in (0.025, 0.975))
    common = np.arange(max(0, n_first + n_second - n), min(n_first, n_second) + 1)
    row["chance"] = float((law.pmf(common) * _iou(n_first, n_second, common)).sum())
    row |= {"chance_low": float(_iou(n_first, n_second, low)), "chance_high": float(_iou(n_first, n_second, high))}
    return row | {"p_random": float(law.sf(both - 1)), "reason": None}


def _iou(first, second, both):
    return both / (first + second - both)
