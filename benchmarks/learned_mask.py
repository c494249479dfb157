"""A step of the learned mask over a step of ESD on the same UNet, pool left out: at most 1.3 is wanted.

Both with the same batch and form on the bundled model; they take turns, and medians over all steps are compared.
A step is timed between calls of `progress`, so that the pool and the first step do not count.
"""

import itertools
import statistics
import sys

from on_device import DEVICE, clock

from workbench.methods.erasers import esd, learned_mask
from workbench.models import load

PAIRS = [("an owl in ink style", "an owl"), ("a cat in ink style", "a cat")]
STEPS, ROUNDS = 5, 11
POOL = {"steps": 2, "trajectories": 2, "batch": 4}
CASES = {
    "learned mask, ff, per weight": (learned_mask, {}),
    "learned mask, ff, per neuron": (learned_mask, {"unit": "neuron"}),
    "learned mask, without retention": (learned_mask, {"retention": 0}),
}


def seconds(model, method, given):
    """Of each optimiser step but the first; list."""
    marks = []
    parameters = method.Parameters(**POOL, iterations=STEPS, **given)
    method.erase(model, PAIRS, parameters, progress=lambda *about: marks.append(clock()))
    return [after - before for before, after in itertools.pairwise(marks)]


def main():
    """Print the table as Markdown."""
    model, found = load.load("emoji", DEVICE), {}
    for _ in range(ROUNDS):
        for name, (method, given) in {"esd": (esd, {"modules": "x"}), **CASES}.items():
            found.setdefault(name, []).append(seconds(model, method, given))
    sys.stdout.write("| step of | time over an ESD step | range over rounds |\n|---|---:|---|\n")
    for name in CASES:
        ratios = [statistics.median(ours) / statistics.median(its) for ours, its in zip(found[name], found["esd"], strict=True)]
        sys.stdout.write(f"| {name} | {statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |\n")


if __name__ == "__main__":
    main()
