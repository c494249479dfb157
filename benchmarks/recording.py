"""What recording costs: the sampling loop with taps on all `ff` neurons over the same loop without, side by side in one run."""

import statistics
import sys
import time

import torch

from workbench.diffusion.denoise import denoise
from workbench.models import load, text
from workbench.neurons import sites
from workbench.neurons.reduce import Statistics
from workbench.neurons.taps import Taps

ROUNDS, STEPS, BATCH = 5, 10, 10


def main():
    """Print the ratio of medians; rounds alternate, so that noise of the machine hits both."""
    model = load.load("emoji")
    layers = sites.layers(model.unet, ["ff"])
    with torch.no_grad():
        states, empty = text.encode(model, ["an owl in ink style"] * BATCH), text.encode(model, [""])

    def loop(record):
        taps = Taps(model.unet, layers, Statistics(layers, BATCH, range(STEPS))) if record else None
        began = time.perf_counter()
        if taps:
            with taps:
                denoise(model, states, empty, range(BATCH), n_steps=STEPS, guidance=5.0, taps=taps)
        else:
            denoise(model, states, empty, range(BATCH), n_steps=STEPS, guidance=5.0)
        return time.perf_counter() - began

    loop(False)
    pairs = [(loop(True), loop(False)) for _ in range(ROUNDS)]
    ratios = sorted(a / b for a, b in pairs)
    sys.stdout.write(
        f"recording all ff neurons, emoji: {statistics.median(ratios):.3f} times the loop without "
        f"({ratios[0]:.3f} to {ratios[-1]:.3f}, {ROUNDS} pairs of {BATCH} images, {STEPS} steps)\n"
    )


if __name__ == "__main__":
    main()
