"""Slow, obvious re-implementations, each written from its definition with loops; the fast ones must agree."""

import math
from itertools import product

import numpy as np
import torch

from workbench.statistics import interval, unit_weights


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
    return a.keys() == b.keys() and all(torch.equal(a[name].flatten().view(torch.uint8), b[name].flatten().view(torch.uint8)) for name in a)


def wilson(x, n, z=1.959963984540054):
    """The two roots p of (x/n - p)^2 = z^2 p (1 - p) / n."""
    a, b, c = 1 + z * z / n, -(2 * x / n + z * z / n), (x / n) ** 2
    root = math.sqrt(max(b * b - 4 * a * c, 0))
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


def mcnemar_p(only_a, only_b):
    """Two-sided: every way to share out the discordant pairs that is no more likely than the one seen."""
    n = only_a + only_b
    weights = [math.comb(n, k) for k in range(n + 1)]
    return sum(w for w in weights if w <= weights[only_a]) / 2**n


def mcnemar_power(rate, cut, n, correlation, alpha=0.05):
    """Sum over every table of n pairs of its probability, where the test rejects."""
    after = rate * (1 - cut)
    both = rate * after + correlation * math.sqrt(rate * (1 - rate) * after * (1 - after))
    lost, won = rate - both, after - both
    total = 0.0
    for a, b in product(range(n + 1), repeat=2):
        if a + b <= n and a + b > 0 and mcnemar_p(a, b) < alpha:
            ways = math.factorial(n) / (math.factorial(a) * math.factorial(b) * math.factorial(n - a - b))
            total += ways * lost**a * won**b * (1 - lost - won) ** (n - a - b)
    return total


def false_discovery(p):
    """Adjusted p of rank j: the smallest m p_(k) / k over ranks k >= j."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted = [0.0] * len(p)
    for rank, i in enumerate(order, 1):
        adjusted[i] = min(1.0, min(len(p) * p[order[k - 1]] / k for k in range(rank, len(p) + 1)))
    return adjusted


def mean(rows, neuron):
    return sum(float(row[neuron]) for row in rows) / len(rows)


def effect(values, plus, minus, members):
    """sum_S [ n(plus) - n(minus) ] / sum_S [ n_0(tgt) - n_0(ref) ]"""
    top = bottom = 0.0
    for neuron in np.flatnonzero(members):
        top += mean(values[plus], neuron) - mean(values[minus], neuron)
        bottom += mean(values["base", "target"], neuron) - mean(values["base", "reference"], neuron)
    return top / bottom


def complement_contrast(values, plus, minus, members, layer):
    """Per layer as many average outside neurons as S has there, on the denominator of S."""
    top = bottom = 0.0
    for name in set(layer):
        inside = [i for i in range(len(layer)) if layer[i] == name and members[i]]
        outside = [i for i in range(len(layer)) if layer[i] == name and not members[i]]
        for i in inside:
            bottom += mean(values["base", "target"], i) - mean(values["base", "reference"], i)
            top += sum(mean(values[plus], j) - mean(values[minus], j) for j in outside) / len(outside)
    return top / bottom


def neuron(values, variant, adversarial, control, i):
    """kappa, SE of kappa, D, R, delta of one neuron."""
    target, reference = values["base", "target"], values["base", "reference"]
    paired = [float(t[i] - r[i]) for t, r in zip(target, reference, strict=True)]
    n = len(paired)
    kappa = sum(paired) / n
    se = math.sqrt(sum((x - kappa) ** 2 for x in paired) / (n - 1) / n)
    middle = mean(reference, i)
    sd = math.sqrt(sum((float(r[i]) - middle) ** 2 for r in reference) / (n - 1))
    woken = mean(values[variant, adversarial], i) - mean(values[variant, control], i)
    lost = mean(target, i) - mean(values[variant, "target"], i)
    return kappa, se, lost / kappa, woken / kappa, woken / sd


def shares(values, variant, adversarial, control, members, deactivated, reactivated):
    """n, excluded, share deactivated, share reactivated among them, median D, R, delta."""
    found = [neuron(values, variant, adversarial, control, i) for i in np.flatnonzero(members)]
    kept = [x for x in found if abs(x[0]) >= 2 * x[1]]
    silent = [x for x in kept if x[2] > deactivated]
    back = [x for x in silent if x[3] > reactivated]
    middles = [sorted(x[k] for x in kept) for k in (2, 3, 4)]
    middles = [(m[(len(m) - 1) // 2] + m[len(m) // 2]) / 2 for m in middles]
    share = len(back) / len(silent) if silent else None
    return len(kept), len(found) - len(kept), len(silent) / len(kept), share, *middles


def auroc(score, success):
    """Share of (success, failure) pairs in which the success scores higher; a tie is half."""
    pairs = [(s, f) for s, a in zip(score, success, strict=True) if a for f, b in zip(score, success, strict=True) if not b]
    return sum(1.0 if s > f else 0.5 if s == f else 0.0 for s, f in pairs) / len(pairs)


def wilson_by_unit(successes, n, confidence=0.95):
    """By bisection: the rates q at which |p - q| = quantile sqrt(q (1 - q) / effective n)."""
    from scipy import stats

    m, images, p = len(n), sum(n), sum(successes) / sum(n)
    if p in (0, 1):
        effective, quantile = m, stats.norm.ppf(0.5 + confidence / 2)
    else:
        spread = sum((x - p * k) ** 2 for x, k in zip(successes, n, strict=True)) * m / (m - 1) / images**2
        deff = max(1.0, spread * images / (p * (1 - p)))
        effective = images / deff
        quantile = stats.t.ppf(0.5 + confidence / 2, (m - 1) * deff / (deff - 1)) if deff > 1 else stats.norm.ppf(0.5 + confidence / 2)

    def outside(q):
        return abs(p - q) > quantile * math.sqrt(q * (1 - q) / effective)

    ends = []
    for far in (0.0, 1.0):
        near = p
        if not outside(far):
            near = far
        for _ in range(200):
            middle = (near + far) / 2
            near, far = (near, middle) if outside(middle) else (middle, far)
        ends.append(near)
    return tuple(ends)


def jackknife(function, units, *arrays, quantile):
    """value, low, high of a function of means, every unit left out in turn by loops."""
    names = sorted(set(units))

    def without(name):
        kept = [row for row, unit in enumerate(units) if unit != name]
        return function(*(sum(float(array[row]) for row in kept) / len(kept) for array in arrays))

    value, left = without(None), [without(name) for name in names]
    middle = sum(left) / len(left)
    se = math.sqrt((len(names) - 1) / len(names) * sum((one - middle) ** 2 for one in left))
    return value, value - quantile * se, value + quantile * se


def sign_flip_p(differences):
    """Two-sided: the share of all ways to flip signs whose sum is at least as far from 0."""
    seen = abs(sum(differences))
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in product((-1, 1), repeat=len(differences))]
    return sum(one >= seen - 1e-9 * max(map(abs, differences)) for one in sums) / len(sums)


def partners(chosen, kappa, layer, exclude, rounds):
    """{neuron of the set: its partners}, round by round, the neuron with the largest |kappa| first."""
    found = {int(i): [] for i in np.flatnonzero(chosen)}
    for name in sorted(set(layer)):
        for sign in (1, -1):
            own = sorted((i for i in found if layer[i] == name and kappa[i] * sign > 0), key=lambda i: -abs(kappa[i]))
            pool = [j for j in range(len(kappa)) if not chosen[j] and not exclude[j] and layer[j] == name and kappa[j] * sign > 0]
            for _ in range(min(rounds, len(pool) // len(own)) if own else 0):
                for i in own:
                    nearest = min(pool, key=lambda j: abs(abs(kappa[j]) - abs(kappa[i])))
                    pool.remove(nearest)
                    found[i].append(nearest)
    return found


def bootstrap(statistic, units, *arrays, n_resamples=1000, seed=0):
    """Interval of statistic(*arrays) when whole units are resampled: the rows of a unit once for each time it was drawn."""
    names = sorted(set(units))
    rows = [[row for row, unit in enumerate(units) if unit == name] for name in names]
    counts = np.rint(unit_weights(len(names), n_resamples, seed) * len(names)).astype(int)
    resampled = []
    for drawn in counts:
        picked = [row for unit, times in enumerate(drawn) for _ in range(times) for row in rows[unit]]
        resampled.append(statistic(*(np.asarray(array)[picked] for array in arrays)))
    return interval(statistic(*map(np.asarray, arrays)), resampled, len(names))


def attention_to(module, hidden, states):
    """Attention (row, position, token) of a cross-attention, mean over its heads, by loops over rows, heads and positions."""
    query, key = module.to_q(hidden), module.to_k(states)
    size, found = query.shape[-1] // module.heads, torch.zeros(len(hidden), hidden.shape[1], states.shape[1])
    for row in range(len(hidden)):
        for head in range(module.heads):
            part = slice(head * size, (head + 1) * size)
            for position in range(hidden.shape[1]):
                scores = torch.stack([query[row, position, part] @ key[row, token, part] for token in range(states.shape[1])])
                found[row, position] += torch.softmax(scores / size**0.5, 0) / module.heads
    return found


def away_from(added, inside):
    """Receler's regularisation, by loops: added {layer: (row, position, channel)}, inside {layer: (row, position) bool}."""
    layers = []
    for name, values in added.items():
        total, places = 0.0, 0
        for row in range(values.shape[0]):
            for position in range(values.shape[1]):
                if not inside[name][row, position]:
                    total += sum(float(x) ** 2 for x in values[row, position]) / values.shape[2]
                    places += 1
        layers.append(total / (places + 1e-9))
    return sum(layers) / len(layers)


def unlearned(model, pairs, drawn, form, eta):
    """The loss of AdvUnlearn's warm-up at its first step, row by row: the text encoder in training is still the one it began with."""
    from workbench.models import text

    total = 0.0
    with torch.no_grad():
        for row, pair in enumerate(drawn.pair.tolist()):
            noise = {
                name: model.predict(drawn.noised[row : row + 1], drawn.at[row : row + 1], text.encode(model, [prompt]))
                for name, prompt in (("concept", pairs[pair][0]), ("anchor", pairs[pair][1]), ("empty", ""))
            }
            start, without = {"anchor": ("anchor", "anchor"), "concept": ("concept", "empty"), "empty": ("empty", "empty")}[form]
            target = noise[start] - eta * (noise["concept"] - noise[without])
            total += float((noise["concept"] - target).square().mean())
    return total / len(drawn.pair)


def guided(model, pairs, drawn, weights, drift):
    """The loss of All but One, row by row, one prediction after the other; a scalar with gradient to the weights."""
    from workbench.models import text

    def noise(row, prompt, *own):
        return model.predict(drawn.noised[row : row + 1], drawn.at[row : row + 1], text.encode(model, [prompt]), *own)

    rows = []
    for row, pair in enumerate(drawn.pair.tolist()):
        with torch.no_grad():
            empty, anchor = noise(row, ""), noise(row, pairs[pair][1])
        term = noise(row, pairs[pair][0], weights) - noise(row, "", weights)
        rows.append(((term - (anchor - empty)) ** 2).mean() + drift * ((noise(row, "", weights) - empty) ** 2).mean())
    return sum(rows) / len(rows)
