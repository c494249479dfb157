"""A step of the learned mask over a step of ESD on the same UNet, pool left out: at most 1.3 is wanted.

Both with the same batch and form on the bundled model; they take turns, and the smallest time of a few rounds counts.
A step is timed between calls of `progress`, so that the pool and the first step do not count.
"""

import sys
import time

from workbench.methods.erasers import esd, learned_mask
from workbench.models import load

PAIRS = [("an owl in ink style", "an owl"), ("a cat in ink style", "a cat")]
FEW, MORE, ROUNDS = 1, 4, 2
POOL = {"steps": 2, "trajectories": 2, "batch": 4}
CASES = {
    "learned mask, ff, per weight": (learned_mask, {}),
    "learned mask, ff, per neuron": (learned_mask, {"unit": "neuron"}),
    "learned mask, without retention": (learned_mask, {"retention": 0}),
}


def seconds(model, method, given):
    """Of one optimiser step."""
    marks = []
    parameters = method.Parameters(**POOL, iterations=FEW + MORE, **given)
    method.erase(model, PAIRS, parameters, progress=lambda *about: marks.append(time.perf_counter()))
    return (marks[-1] - marks[FEW - 1]) / MORE


def main():
    """Print the table."""
    model = load.load("emoji")
    best = {}
    for _ in range(ROUNDS):
        for name, (method, given) in {"esd": (esd, {"modules": "x"}), **CASES}.items():
            best[name] = min(best.get(name, float("inf")), seconds(model, method, given))
    for name in CASES:
        sys.stdout.write(f"{name:34} {best[name] / best['esd']:5.2f} x an ESD step ({best['esd']:.2f} s); wanted: at most 1.3\n")


if __name__ == "__main__":
    main()
