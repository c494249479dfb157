"""What each method says of a planting: which neurons, or which sets of neurons, carry the concept? And what was expected.

A score knows no unit of effect, so it gets the number of causal neurons for nothing and names that many, with all that tie with
the last. An attribution names what it gives at least a share CALLED of the concept's whole effect (T2 = 1): it has to know how
many. Sets are the causal neurons as one set (or as two, which splits the copies), the bystanders, and random sets.
"""

from dataclasses import dataclass

import numpy as np
import pandas

from tests.plantings import CONCEPT, KINDS, PLAIN, planting
from workbench.analysis.attribution import attribute
from workbench.analysis.gated import single
from workbench.methods import scores
from workbench.registry import methods
from workbench.statistics import wilson

CALLED = 0.05
SCORES = ("contrast", "z", "welch_z", "auroc", "correlation")
SETTINGS = {"gradient": {}, "integrated": {"n_steps": 16}}
PLANTINGS = (*KINDS, "split copies")
N_UNITS, N_OTHERS, N_RANDOM_SETS, N_SAMPLES = 2, 16, 3, 6
ALL = {name: "right" for name in PLANTINGS}
# causal neurons and bystanders fire by the same law: who sees activations alone can only guess, and is right once in C(2n, n)
EXPECTED = {
    **{name: ALL | {"bystanders": "accepts"} for name in SCORES},
    "gradient": ALL | {"copies": "misses"},
    "integrated": ALL,
    "single": ALL | {"copies": "misses"},
    "set": ALL | {"split copies": "misses"},
    "shapley": ALL,
}


@dataclass(frozen=True)
class Answer:
    """named, causal, bystander: (judged,) bool over the neurons or sets that the method was asked about."""

    named: np.ndarray
    causal: np.ndarray
    bystander: np.ndarray

    @property
    def right(self):
        """All that carry the concept and nothing else."""
        return bool((self.named == self.causal).all())

    @property
    def misses(self):
        """Something that carries the concept is not named."""
        return bool((self.causal & ~self.named).any())

    @property
    def accepts(self):
        """A bystander is named."""
        return bool((self.bystander & self.named).any())


def by_scores(planting):
    """{score: Answer} on all neurons."""
    target, reference = planting.recorded(CONCEPT), planting.recorded(PLAIN)
    erased, layer = planting.recorded(CONCEPT, planting.erased), planting.index["layer"].to_numpy()
    evidence = scores.Evidence(*(values[:, None] for values in (target, reference, erased)), layer)
    found = {}
    for name in SCORES:
        value = scores.evaluate(methods("scores")[name], evidence)
        named = value >= np.sort(value)[-planting.causal.sum()]
        found[name] = Answer(named, planting.causal, planting.bystander)
    return found


def by_neurons(planting, seed=0):
    """{"gradient", "integrated" on all neurons, "single" on the planted and N_OTHERS: Answer}."""
    causal, bystander = planting.causal, planting.bystander
    found = {name: Answer(_attributed(planting, name, None, **more) >= CALLED, causal, bystander) for name, more in SETTINGS.items()}
    planted = np.flatnonzero(causal | bystander)
    others = np.random.default_rng(seed).choice(np.flatnonzero(~(causal | bystander)), N_OTHERS, replace=False)
    asked = np.concatenate([planted, others])
    value = _attributed(planting, "ablation", single(len(causal), asked))
    return found | {"single": Answer(value >= CALLED, causal[asked], bystander[asked])}


def by_sets(planting, n_parts=1, seed=0):
    """{"set", "shapley": Answer} on sets; the causal neurons fall into n_parts of them."""
    columns, causal, bystander = sets_of(planting, n_parts, seed)
    found = {"set": _attributed(planting, "ablation", columns), "shapley": _attributed(planting, "shapley", columns, n_samples=N_SAMPLES)}
    return {name: Answer(value >= CALLED, causal, bystander) for name, value in found.items()}


def sets_of(planting, n_parts=1, seed=0):
    """(neuron,) column of each neuron, -1 = in no set; (set,) bool causal and bystander."""
    columns, rng = np.full(len(planting.causal), -1), np.random.default_rng(seed)
    groups = np.array_split(rng.permutation(np.flatnonzero(planting.causal)), n_parts)
    groups += [np.flatnonzero(planting.bystander)] if planting.bystander.any() else []
    free = rng.permutation(np.flatnonzero(~(planting.causal | planting.bystander)))
    size = max(2, int(planting.causal.sum()))
    groups += [free[place * size : (place + 1) * size] for place in range(N_RANDOM_SETS)]
    for column, group in enumerate(groups):
        columns[group] = column
    return columns, *(np.array([flags[group].any() for group in groups]) for flags in (planting.causal, planting.bystander))


def _attributed(planting, method, columns, **settings):
    """(column,) scores."""
    items, target = planting.items(N_UNITS)
    made = attribute(planting.model, planting.layers, items, target, method, columns=columns, batch=64, **settings)
    return made.scores["value"].to_numpy()


def measured(n, kinds=KINDS):
    """Data frame: method, planting, n, and of n seeds how many answers are right, miss something, accept a bystander.

    "split copies" are the copies asked about as two sets; methods that look at neurons have no such row.
    """
    rows = []
    for kind in kinds:
        for seed in range(n):
            made = planting(kind, seed)
            found = [(kind, *one) for one in (by_scores(made) | by_neurons(made, seed) | by_sets(made, 1, seed)).items()]
            if kind == "copies":
                found += [("split copies", *one) for one in by_sets(made, 2, seed).items()]
            for row, name, answer in found:
                counts = {word: getattr(answer, word) for word in ("right", "misses", "accepts")}
                rows.append({"method": name, "planting": row, "n": 1} | counts)
    return pandas.DataFrame(rows).groupby(["method", "planting"], sort=False).sum().reset_index()


def cell(row):
    """How often an answer was right, with Wilson's interval, and what the other answers did."""
    found = wilson(row["right"], row["n"])
    wrong = "".join(f"; {word} {row[word]}" for word in ("misses", "accepts") if row[word])
    return f"{row['right']}/{row['n']} ({found.low:.2f} to {found.high:.2f}){wrong}"
