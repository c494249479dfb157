"""What ablations show: each effect beside matched random sets, with a bootstrap interval over units.

dose_response   ablate growing shares of a ranking
alone           ablate one set
leave_one_out   what each cluster adds to the ablation of all
greedy          which clusters to ablate first; chosen on one half of the units, reported on the other
shapley         how the change by ablating all clusters falls to each of them
necessity       attacked prompts, S held at its values without the attack: does the concept go again?
sufficiency     target prompts, S given another condition's values (the base model's): does it return?

Every function takes `run`, which maps a list of Ablation to a list of Reading (one_step.OneStep, ablation_images.Images), and
returns a data frame with one row per set and reading:

    group, outcome, n_neurons, n (units), intact, value, low, high, random_mean, random_low, random_high, n_random, p

value is the mean change by the ablation, ablated - intact, in the outcome's own units. The band is the random sets' 2.5 to
97.5 %; p = (1 + sets at least as extreme) / (1 + n_random), so never below 1 / (n_random + 1).
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas

from workbench.analysis import coalitions
from workbench.analysis.ablation import Ablation
from workbench.errors import StatisticsError
from workbench.neurons.sets import by_layer, top
from workbench.statistics import jackknife, matched_random_sets, permutation_p, split_halves

N_RANDOM = 50
SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


@dataclass
class Reading:
    """One outcome of one prompt set under some ablations.

    group, outcome   e.g. target, near, far; e.g. T2 J_lin, detected, pixel_change
    units            (row,) names
    intact           (row,) without ablation;  ablated (ablation, row)
    signed           False for distances, which have no side on which the concept is
    """

    group: str
    outcome: str
    units: list
    intact: np.ndarray
    ablated: np.ndarray
    signed: bool = True

    def only(self, rows):
        """The same of some rows, boolean (row,)."""
        units = [unit for unit, kept in zip(self.units, rows, strict=True) if kept]
        return replace(self, units=units, intact=self.intact[rows], ablated=self.ablated[:, rows])

    def change(self, which):
        """(row,) ablated - intact of one ablation; None = nothing was ablated."""
        return np.zeros(len(self.intact)) if which is None else self.ablated[which] - self.intact


def dose_response(run, score, index, template=None, *, shares=SHARES, n_random=N_RANDOM, seed=0, within=None):
    """Ablate the top share of a ranking, for growing shares.

    score      (neuron,) ranking, best first;  index as of neurons.sets.index_table
    template   Ablation whose neurons are put in; None = zero ablation at all calls of the cond branch
    within     (neuron,) bool, where to choose; None = everywhere
    returns    data frame with `share` beside the common columns
    Raises     StatisticsError when a share leaves too few other neurons for random sets
    """
    within = np.ones(len(index), bool) if within is None else np.asarray(within, bool)
    plan = _Plan(index, template, n_random, seed)
    marks = [(share, *plan.with_random(top(score, share, within), within)) for share in sorted(shares)]
    rows = []
    for reading in plan.run(run):
        for share, chosen, own, random in marks:
            null = [reading.change(which).mean() for which in random]
            rows.append({"share": share} | _row(reading, chosen, reading.change(own), null))
    return pandas.DataFrame(rows)


def alone(run, chosen, index, template=None, *, n_random=N_RANDOM, seed=0):
    """Ablate one set of neurons, (neuron,) bool; arguments and data frame otherwise as of dose_response, without `share`."""
    plan = _Plan(index, template, n_random, seed)
    members, own, random = plan.with_random(np.asarray(chosen, bool))
    readings = plan.run(run)
    return pandas.DataFrame([_row(one, members, one.change(own), [one.change(which).mean() for which in random]) for one in readings])


def leave_one_out(run, clusters, index, template=None, *, n_random=N_RANDOM, seed=0):
    """Ablate all clusters, and all but one: the difference is what that one adds.

    value = mean [ all - all without the cluster ];  random: the cluster exchanged for as many neurons per layer outside all of them

    clusters   {name: (neuron,) bool}, no neuron in two of them
    returns    data frame with `cluster` beside the common columns
    """
    clusters, whole = _disjoint(clusters, len(index))
    plan = _Plan(index, template, n_random, seed)
    everything, marks = plan.add(whole), []
    for name, members in clusters.items():
        rest = whole & ~members
        exchanged = [plan.add(rest | one) for one in plan.random(members, exclude=rest)]
        marks.append((name, members, plan.add(rest), exchanged))
    rows = []
    for reading in plan.run(run):
        for name, members, rest, exchanged in marks:
            without = reading.change(rest)
            null = [(reading.change(which) - without).mean() for which in exchanged]
            rows.append({"cluster": name} | _row(reading, members, reading.change(everything) - without, null))
    return pandas.DataFrame(rows)


def greedy(run, clusters, index, group, outcome, template=None, *, lower=True, n_steps=None, n_random=N_RANDOM, seed=0):
    """Ablate in each step the cluster that, with those before, changes one outcome most.

    The order is found on half A of the units of `group` (statistics.split_halves with `seed`), the rows are of the other units:
    on the same units the winner of each step would look better than it is.

    lower      whether the outcome is to fall (the concept to go) or to rise
    returns    data frame with `step` and `added` beside the common columns; the set of a step is all clusters added so far
    Raises     StatisticsError for a reading the run does not give
    """
    clusters, _ = _disjoint(clusters, len(index))
    order, together, reports = [], np.zeros(len(index), bool), _Plan(index, template, n_random, seed)
    half, marks = None, []
    for step in range(1, 1 + min(n_steps or len(clusters), len(clusters))):
        left = [name for name in clusters if name not in order]
        plan = _Plan(index, template, 0, seed)
        places = [plan.add(together | clusters[name]) for name in left]
        reading = _named(plan.run(run), group, outcome)
        half = split_halves(reading.units, seed) if half is None else half
        means = [reading.change(place)[half].mean() for place in places]
        order.append(left[int(np.argmin(means) if lower else np.argmax(means))])
        together = together | clusters[order[-1]]
        marks.append((step, order[-1], *reports.with_random(together)))
    chose = {unit for unit, inside in zip(reading.units, half, strict=True) if inside}
    rows = []
    for reading in reports.run(run):
        other = reading.only(np.array([unit not in chose for unit in reading.units]))
        for step, added, chosen, own, random in marks:
            null = [other.change(which).mean() for which in random]
            rows.append({"step": step, "added": added} | _row(other, chosen, other.change(own), null))
    return pandas.DataFrame(rows)


def shapley(run, clusters, index, template=None, *, n_random=19, seed=0):
    """Shapley values of clusters: what each adds to the ablation of others, averaged over the orders in which they can be ablated.

    value = sum over sets S of clusters of weight(S, cluster) x mean change by ablating S;  the values of all clusters add up to the
    change by ablating all of them (the clusters on minus off, with the other sign). All orders up to coalitions.EXACT clusters,
    drawn ones beyond. Random: all clusters exchanged at once for disjoint matched random sets, in the same orders.

    n_random   how often; 0 = never, and the random columns are missing with a reason
    returns    data frame with `cluster`, `whole` (change by ablating all), `summed` (of the values), `delta` = summed - whole,
               `n_sets` (combinations measured), `n_orders` (drawn ones; missing where all were taken) and `reason` beside the
               common columns
    Source     Shapley 1953; drawn orders Castro et al. 2009, each with its reverse after Mitchell et al. 2022
    """
    clusters, whole = _disjoint(clusters, len(index))
    plan, parts = _Plan(index, template, n_random, seed), np.array(list(clusters.values()))
    taken, weight, n_orders = coalitions.weights(len(parts), seed)
    try:
        random = plan.partitions(parts) if n_random else []
        reason = None if n_random else "n_partitions = 0: no random partition was asked for"
    except StatisticsError as error:
        random, reason = [], str(error)
    games = [[plan.add(game[which].any(axis=0)) for which in taken] for game in (parts, *random)]
    full = int(np.flatnonzero(taken.all(axis=1))[0])
    about, rows = {"n_sets": len(taken), "n_orders": n_orders, "reason": reason}, []
    for reading in plan.run(run):
        values = [weight.T @ np.stack([reading.change(place) for place in places]) for places in games]
        everything, summed = reading.change(games[0][full]).mean(), values[0].sum(axis=0).mean()
        ends = {"whole": everything, "summed": summed, "delta": summed - everything}
        for place, (name, members) in enumerate(clusters.items()):
            row = _row(reading, members, values[0][place], [one[place].mean() for one in values[1:]])
            rows.append({"cluster": name} | row | ends | about | ({} if len(random) else {"n_random": None}))
    return pandas.DataFrame(rows)


def necessity(run, record, chosen, index, *, calls=None, n_random=199, seed=0):
    """Attacked prompts on the erased model, S held at its values on the unattacked prompts: does the concept go again?

    run       measures the attacked prompts on the erased model
    record    {layer: indices} -> Columns of the same model on the unattacked prompts, row by row the same units and noise
    chosen    (neuron,) bool, the set S
    returns   data frame; for outcomes with a side p counts random sets that lower it as much
    """
    return _held(run, record, chosen, index, calls, n_random, seed, "less")


def sufficiency(run, record, chosen, index, *, calls=None, n_random=199, seed=0):
    """Unattacked prompts on the erased model, S given its values in the base model: does the concept return?

    As necessity(), but `run` measures the unattacked prompts, `record` gives the base model's Columns on them, and p counts
    random sets that raise the outcome as much.
    """
    return _held(run, record, chosen, index, calls, n_random, seed, "greater")


def _held(run, record, chosen, index, calls, n_random, seed, alternative):
    chosen = np.asarray(chosen, bool)
    plan = _Plan(index, None, n_random, seed)
    _, own, random = plan.with_random(chosen)
    plan.template = Ablation({}, "held", source=record(by_layer(index, np.any(plan.sets, axis=0))), calls=calls)
    return pandas.DataFrame(
        [
            _row(reading, chosen, reading.change(own), [reading.change(which).mean() for which in random], alternative)
            for reading in plan.run(run)
        ]
    )


class _Plan:
    """Sets to ablate in one run; remembers at which place each one is, and asks for no set twice."""

    def __init__(self, index, template, n_random, seed):
        self.index, self.template, self.n_random, self.seed = index, template or Ablation({}), n_random, seed
        self.layer, self.sets, self.places = index["layer"].to_numpy(), [], {}

    def add(self, members):
        """Place of a set; None for the empty one."""
        if not members.any():
            return None
        key = members.tobytes()
        if key not in self.places:
            self.places[key] = len(self.sets)
            self.sets.append(members)
        return self.places[key]

    def random(self, members, exclude=None):
        """(set, neuron) matched random sets, other ones for other members."""
        return matched_random_sets(members, self.layer, self.n_random, [self.seed, int(members.sum())], exclude)

    def partitions(self, parts):
        """(set, part, neuron) disjoint random sets outside all parts (part, neuron), each matched to its part by layer."""
        whole, rng = parts.any(axis=0), np.random.default_rng([self.seed, len(parts)])
        found = np.zeros((self.n_random, *parts.shape), bool)
        for own, drawn in zip(found, self.random(whole), strict=True):
            for layer in np.unique(self.layer[whole]):
                here = self.layer == layer
                cuts = np.cumsum(parts[:, here].sum(axis=1))[:-1]
                for part, chosen in enumerate(np.split(rng.permutation(np.flatnonzero(drawn & here)), cuts)):
                    own[part, chosen] = True
        return found

    def with_random(self, members, within=None):
        """(members, their place, places of their random sets)."""
        if not members.any():
            raise StatisticsError("The neuron set is empty; there is nothing to ablate.")
        drawn = self.random(members, None if within is None else ~within)
        return members, self.add(members), [self.add(one) for one in drawn]

    def run(self, run):
        """Readings of all sets."""
        return run([replace(self.template, neurons=by_layer(self.index, members)) for members in self.sets])


def _row(reading, members, change, null, alternative="two-sided"):
    """The common columns."""
    found = jackknife(lambda mean: mean, reading.units, change)
    low, high = np.quantile(null, [0.025, 0.975]) if len(null) else (np.nan, np.nan)
    return {
        "group": reading.group,
        "outcome": reading.outcome,
        "n_neurons": int(np.sum(members)),
        "n": found.n,
        "intact": float(reading.intact.mean()),
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "random_mean": float(np.mean(null)) if len(null) else np.nan,
        "random_low": float(low),
        "random_high": float(high),
        "n_random": len(null),
        "p": permutation_p(found.value, null, alternative if reading.signed else "two-sided") if len(null) else np.nan,
    }


def _disjoint(clusters, n):
    """Clusters as boolean arrays, and their union; StatisticsError when one is empty or two share a neuron."""
    clusters = {name: np.asarray(members, bool) for name, members in clusters.items()}
    if not clusters or any(len(members) != n or not members.any() for members in clusters.values()):
        raise StatisticsError(
            f"Clusters are needed, each a boolean array over the {n} neurons of the index with at least one of them true."
        )
    count = np.sum(list(clusters.values()), axis=0)
    if count.max() > 1:
        raise StatisticsError(f"{int((count > 1).sum())} neurons are in several clusters; each may be in one only.")
    return clusters, count > 0


def _named(readings, group, outcome):
    for reading in readings:
        if (reading.group, reading.outcome) == (group, outcome):
            return reading
    have = ", ".join(f"{reading.group}/{reading.outcome}" for reading in readings)
    raise StatisticsError(f'The run gives no reading "{group}/{outcome}". Possible: {have}.')
