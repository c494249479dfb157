"""What batching saves: each white-box attack on 20 prompts side by side, over the same attack on one prompt after the other.

The algorithm, the draws and the prompts are the same: only the parameter `batch` differs. Beside it the share of the batched
attack's time spent in the UNet's forward passes and in the backward pass, which is mostly the UNet's. On the bundled model,
without looks, a few steps of each attack.
"""

import statistics
import sys

from inside import inside_the_unet
from on_device import DEVICE, clock

from workbench import registry
from workbench.diffusion.denoise import initial_noise
from workbench.execution.plan import read_sets
from workbench.methods.attacks import Context
from workbench.models import load
from workbench.models.variants import exchanged
from workbench.study.study import load_study

N, ROUNDS = 20, 3
STEPS = {
    "embedding_pgd": {"iterations": 5},
    "unlearn_diff_atk": {"timesteps": 5, "iterations": 1},
    "p4d": {"iterations": 5},
}


def attacked(model, targets, context, name, batch):
    """Seconds of one attack, those inside the UNet, and its first losses."""
    one = registry.method("attacks", name)
    parameters, context.log = one.parameters(**STEPS[name], looks=0, batch=batch), []
    began = clock()
    with inside_the_unet(model) as inside:
        one.call(model, targets, parameters, context)
    seconds = clock() - began
    return seconds, inside[0], [row["loss"] for row in context.log if row["iteration"] == 1]


def main():
    """Print the table as Markdown, each attack's row as soon as it is measured."""
    model, study = load.load("emoji", DEVICE), load_study("emoji-ink-style")
    targets = read_sets(study)["target"].rows(0, N)
    clean = initial_noise(model, targets.seeds)  # the time does not depend on what the images show
    own = {name: parameter.data for name, parameter in model.parameters().items()}
    context = Context(study.concept.names, "erased", clean, base=lambda: exchanged(model, own))
    sys.stdout.write(
        "| attack, 20 prompts | time one by one over batched | range | share inside the UNet | first losses differ by at most |\n"
        "|---|---:|---|---:|---:|\n"
    )
    for name in STEPS:
        attacked(model, targets, context, name, N)
        ratios, shares, apart = [], [], 0.0
        for _ in range(ROUNDS):
            alone, _, one_by_one = attacked(model, targets, context, name, 1)
            together, inside, batched = attacked(model, targets, context, name, N)
            ratios.append(alone / together)
            shares.append(inside / together)
            apart = max(apart, *(abs(a - b) for a, b in zip(one_by_one, batched, strict=True)))
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        sys.stdout.write(f"| {name} | {statistics.median(ratios):.2f} | {spread} | {statistics.median(shares):.2f} | {apart:.1e} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
