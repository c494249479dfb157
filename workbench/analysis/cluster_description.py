"""What clusters do on the half of the units that did not make them: tables for the report and the page.

describe      all of the tables below, by name
profiles      mean contrast of each cluster in every condition at every call
layers        where its neurons are, beside where all clustered neurons are
effects       its deactivation, reactivation and sensitivity, through Sensitivity; effects_of_sets: of any sets
top_prompts   the prompts, and so the images, that excite it most

labels and found   what `cluster` returned and the Features it was given
values             {(variant, prompt set): (unit, call, neuron)} of half B, all recorded neurons
"""

import numpy as np
import pandas

from workbench.analysis.cluster_features import level_and_spread
from workbench.analysis.sensitivity import Sensitivity
from workbench.errors import StatisticsError
from workbench.statistics import jackknife

NOTHING = {name: None for name in ("value", "low", "high", "p_change", "p_random", "n_random", "random_low", "random_high")}


def describe(labels, found, values, index, attacks=(), prompts=None, calls=None, *, n_resamples=1000, n_random=99, seed=0):
    """{table: data frame} of profiles, layers, effects and prompts; arguments as in the functions of those names."""
    return {
        "profiles": profiles(labels, found, values, calls),
        "layers": layers(labels, found),
        "effects": effects(labels, found, values, index, attacks, n_resamples, n_random, seed),
        "prompts": top_prompts(labels, found, values, prompts),
    }


def profiles(labels, found, values, calls=None, base="base"):
    """Mean contrast of a cluster's neurons, in base standard deviations, with t intervals over units (jackknife).

    value = mean over the cluster of (n_M(P) - n_0(ref)) / sd_0(ref)_i

    calls     the names of the calls; default 0, 1, ...
    returns   data frame: cluster, variant, prompt_set, call, n (units), n_neurons, value, low, high
    """
    zero, spread = _scale(values, found, base)
    n_units, n_calls = len(zero), zero.shape[1]
    units, rows = np.arange(n_units), []
    for number, members in _clusters(labels, found, spread):
        for condition, array in values.items():
            if condition == (base, "reference"):
                continue
            per_unit = ((array[:, :, members] - zero[:, :, members]) / spread[members]).mean(axis=2)
            for at in range(n_calls):
                one = jackknife(lambda mean: mean, units, per_unit[:, at])
                row = {"cluster": number, "variant": condition[0], "prompt_set": condition[1], "call": calls[at] if calls else at}
                rows.append(row | {"n": n_units, "n_neurons": len(members), "value": one.value, "low": one.low, "high": one.high})
    return pandas.DataFrame(rows)


def layers(labels, found):
    """Data frame: cluster, layer, n, share (of the cluster), expected (share of all clustered neurons); layers without one too."""
    inside = labels >= 0
    layer = found.index["layer"].to_numpy()
    rows = []
    for number in np.unique(labels[inside]).tolist():
        own = labels == number
        for name in np.unique(layer[inside]):
            here = layer == name
            row = {"cluster": number, "layer": name, "n": int((own & here).sum()), "share": (own & here).sum() / own.sum()}
            rows.append(row | {"expected": (inside & here).sum() / inside.sum()})
    return pandas.DataFrame(rows)


def effects(labels, found, values, index, attacks=(), n_resamples=1000, n_random=99, seed=0, base="base"):
    """D, R and delta of each cluster as a set, averaged over the calls, on its own base contrast.

    deactivation   1 - A_M(tgt)                          every variant with a target condition
    reactivation   A_M(adv) - A_M(ctl)                   every attack
    sensitivity    mean of (n_M(adv) - n_M(ctl)) / sd_0(ref)_i

    attacks   (variant, adversarial prompt set, its control)
    returns   data frame: cluster, effect, variant, prompt_set, n (units), value, low, high, p_change (is there a change? not for
              sensitivity), against matched random sets p_random, n_random, random_low, random_high (likewise), and reason, a sentence
              where there is no value
    """
    measured, rows = _measuring(values, index, n_resamples, seed, base), []
    for number in np.unique(labels[labels >= 0]).tolist():
        members = np.zeros(len(index), bool)
        members[found.position[labels == number]] = True
        rows += [{"cluster": number} | row for row in _effects(measured, members, values, attacks, n_random, base)]
    return pandas.DataFrame(rows)


def effects_of_sets(sets, values, index, attacks=(), n_resamples=1000, n_random=99, seed=0, base="base"):
    """`effects` of named sets {name: (neuron,) bool}, which may overlap; data frame with `neuron_set` in the place of `cluster`."""
    measured, rows = _measuring(values, index, n_resamples, seed, base), []
    for name, members in sets.items():
        rows += [{"neuron_set": name} | row for row in _effects(measured, np.asarray(members, bool), values, attacks, n_random, base)]
    return pandas.DataFrame(rows)


def _measuring(values, index, n_resamples, seed, base):
    window = {condition: array.mean(axis=1, dtype=float) for condition, array in values.items()}
    return Sensitivity(window, index["layer"].to_numpy(), n_resamples, seed, base)


def _effects(measured, members, values, attacks, n_random, base):
    """Rows of D, R and delta of one set."""
    wanted = [
        ("deactivation", variant, "target", (base, "target"), (variant, "target"))
        for variant, prompt_set in values
        if prompt_set == "target" and variant != base
    ]
    wanted += [("reactivation", variant, name, (variant, name), (variant, control)) for variant, name, control in attacks]
    for effect, variant, name, plus, minus in wanted:
        row = {"effect": effect, "variant": variant, "prompt_set": name}
        yield row | _measured(measured, lambda p=plus, m=minus: measured.effect(p, m, members, n_random))
    for variant, name, control in attacks:
        row = {"effect": "sensitivity", "variant": variant, "prompt_set": name}
        yield row | _measured(measured, lambda v=variant, a=name, c=control: _delta(measured.mean_delta(v, a, c, members)))


def top_prompts(labels, found, values, prompts=None, variant="base", n=5, base="base"):
    """The units of every prompt set that excite a cluster most in one variant.

    value = mean over the cluster and calls of (a - n_0(ref)) / sd_0(ref)_i of one prompt

    prompts   {prompt set: data frame, one row per unit in the order of the values: id, unit, prompt, ...}
    returns   data frame: cluster, variant, prompt_set, rank, row (place in the values), value, and the columns of `prompts`
    Raises    StatisticsError when prompts and values do not pair
    """
    zero, spread = _scale(values, found, base)
    level, rows = zero.mean(axis=0), []
    for number, members in _clusters(labels, found, spread):
        for own, name in values:
            if own != variant:
                continue
            array = values[own, name]
            about = (prompts or {}).get(name)
            if about is not None and len(about) != len(array):
                raise StatisticsError(f'{len(about)} prompts of the set "{name}" do not pair with {len(array)} recorded units.')
            size = ((array[:, :, members] - level[:, members]) / spread[members]).mean(axis=(1, 2))
            for rank, row in enumerate(np.argsort(-size, kind="stable")[:n].tolist(), 1):
                given = {} if about is None else about.iloc[row].to_dict()
                keys = {"cluster": number, "variant": variant, "prompt_set": name, "rank": rank, "row": row}
                rows.append(given | keys | {"value": float(size[row])})
    table = pandas.DataFrame(rows)
    first = ["cluster", "variant", "prompt_set", "rank", "row", "value"]
    return table[first + [column for column in table if column not in first]]


def _scale(values, found, base):
    reference = values[base, "reference"]
    if reference.shape[2] <= found.position.max():
        raise StatisticsError(f"The clusters were made among more than the {reference.shape[2]} neurons given here.")
    return reference, level_and_spread(reference)[1]


def _clusters(labels, found, spread):
    """(cluster, positions of its neurons that move on these units); a cluster without one is left out."""
    for number in np.unique(labels[labels >= 0]).tolist():
        members = found.position[labels == number]
        members = members[spread[members] > 0]
        if len(members):
            yield number, members


def _measured(measured, make):
    try:
        return NOTHING | {"n": measured.n_units} | make()
    except StatisticsError as error:
        return {"n": measured.n_units} | NOTHING | {"reason": str(error)}


def _delta(found):
    return {"n": found.n, "value": found.value, "low": found.low, "high": found.high, "reason": None}
