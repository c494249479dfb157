"""What 16 ablations cost side by side over 16 passes one by one, on the emoji model; both ways alternate in one run.

One step   a scalar of the guided noise at one input: whole passes of both halves, one per ablation, against one_step, which
           computes what lies before the first ablated layer once, and the uncond half once. Goal for layers of the second
           half of the UNet: 0.35.
Images     16 ablated images of one prompt: sampled, decoded and judged one by one against side by side. Goal: 0.7.

Every row says how far the two ways' numbers are apart.
"""

import statistics
import sys

import numpy as np
import torch
from on_device import DEVICE, clock

from workbench.analysis.ablation import Ablation, gating
from workbench.analysis.ablation_images import Images, Prompts
from workbench.analysis.one_step import Scalar, one_step
from workbench.diffusion.denoise import Trajectory
from workbench.diffusion.steps import first_step, steps
from workbench.diffusion.targets import Items
from workbench.models import load, text
from workbench.neurons import sites
from workbench.neurons.taps import Rows, Taps
from workbench.registry import method

N, GUIDANCE, N_STEPS, TIMESTEP = 16, 5.0, 15, 501.0
MEASURE = Scalar(lambda noise: noise[:, 0].mean(dim=(1, 2)))


class OneByOne:
    """One whole pass of both halves per ablation."""

    def __init__(self, model, items, empty):
        self.model, self.items, self.empty = model, items, empty

    @torch.no_grad()
    def __call__(self, ablations):
        values = []
        both = self.items.trajectory.inputs[:, 0].repeat(2, 1, 1, 1)
        states, at = torch.cat([self.empty, self.items.states]), torch.tensor(TIMESTEP, device=DEVICE)
        for ablation in ablations:
            made = gating(self.model.unet, [ablation])
            with Taps(self.model.unet, made.layers, gates=made.gates, limits=made.limits) as taps:
                taps.tell(Rows(0, TIMESTEP, torch.zeros(2, dtype=torch.long), ["uncond", "cond"], torch.tensor([0, 1])))
                without, noise = self.model.predict(both, at, states).chunk(2)
                taps.check()
            values.append(MEASURE.function(without + GUIDANCE * (noise - without)))
        return torch.cat(values)


def seconds(function, *arguments):
    """(seconds, what it returned)."""
    began = clock()
    result = function(*arguments)
    return clock() - began, result


def compared(one_by_one, side_by_side, rounds):
    """(median ratio, lowest, highest, largest difference of the numbers); one round before to warm up."""
    gap = float(np.abs(np.asarray(one_by_one()) - np.asarray(side_by_side())).max())
    ratios = []
    for _ in range(rounds):
        alone, together = seconds(one_by_one)[0], seconds(side_by_side)[0]
        ratios.append(together / alone)
    return statistics.median(ratios), min(ratios), max(ratios), gap


def sets_of(layer, n=N):
    """`n` zero ablations of an equal part each of a layer."""
    return [Ablation({layer.path: np.arange(part, layer.n_neurons, n)}) for part in range(n)]


def one_step_rows(model, states, empty, rounds):
    """A row for each layer, in the order they run."""
    items = Items(Trajectory(torch.randn(1, 1, *model.latent_shape).to(DEVICE), [0], [TIMESTEP]), states, ["prompt"])
    alone, found = OneByOne(model, items, empty), steps(model.unet)
    layers = sorted(sites.layers(model.unet, ["ff"]), key=lambda layer: first_step(found, [layer.path]))
    for layer in layers:
        ablations = sets_of(layer)
        together = lambda ablations=ablations: one_step(model, items, ablations, MEASURE, guidance=GUIDANCE, empty=empty).ablated[:, 0, 0]  # noqa: E731
        half = "second" if first_step(found, [layer.path]) >= len(found) / 2 else "first"
        name = layer.path.split(".transformer_blocks")[0]
        yield f"one step, {name} ({half} half)", *compared(lambda ablations=ablations: alone(ablations), together, rounds)


def image_row(model, states, empty, rounds):
    """The row of the image mode; the ablations are spread over all layers."""
    emoji = method("detectors", "emoji")
    detector = emoji.call(emoji.parameters())
    looks = lambda images: detector.present(images, ["style:ink"])  # noqa: E731
    prompts = Prompts(states, [1], ["prompt"], looks)
    settings = {"n_steps": N_STEPS, "guidance": GUIDANCE}
    alone, together = (Images(model, {"target": prompts}, empty, batch=batch, **settings) for batch in (1, N))
    layers = sites.layers(model.unet, ["ff"])
    ablations = [sets_of(layers[place % len(layers)])[place] for place in range(N)]
    changes = lambda run: np.concatenate([reading.ablated[:, 0] for reading in run(ablations)])  # noqa: E731
    return "images", *compared(lambda: changes(alone), lambda: changes(together), rounds)


def main(rounds=7, image_rounds=3):
    """Print the table as Markdown, each row as soon as it is measured."""
    torch.manual_seed(0)
    model = load.load("emoji", DEVICE)
    with torch.no_grad():
        states, empty = text.encode(model, ["an owl in ink style"]), text.encode(model, [""])
    sys.stdout.write(f"| {N} ablations of | side by side over one by one | range | largest difference |\n|---|---:|---|---:|\n")
    for name, middle, low, high, gap in one_step_rows(model, states, empty, rounds):
        sys.stdout.write(f"| {name} | {middle:.3f} | {low:.3f} to {high:.3f} | {gap:.1e} |\n")
        sys.stdout.flush()
    name, middle, low, high, gap = image_row(model, states, empty, image_rounds)
    sys.stdout.write(f"| {name} | {middle:.3f} | {low:.3f} to {high:.3f} | {gap:.1e} |\n")


if __name__ == "__main__":
    main()
