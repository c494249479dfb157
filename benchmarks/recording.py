"""What recording costs, side by side in one run: taps, hooks that keep raw activations, and recomputing the first linear.

For the emoji model and for a randomly initialised UNet of Stable Diffusion 1.4's size at 64 x 64 latents: the time of the
sampling loop over the same loop without recording, and the megabytes each way holds per image.
"""

import statistics
import sys
from contextlib import ExitStack, contextmanager

import torch
from diffusers import UNet2DConditionModel
from on_device import DEVICE, clock

from workbench.diffusion.denoise import denoise
from workbench.models import load, text
from workbench.models.load import Model
from workbench.neurons import sites
from workbench.neurons.reduce import Statistics
from workbench.neurons.taps import Taps


class Ways:
    """Four ways to run one loop; each returns seconds and the megabytes that recording holds afterwards."""

    def __init__(self, model, states, empty, n_steps, guidance):
        self.model, self.states, self.empty, self.n_steps, self.guidance = model, states, empty, n_steps, guidance
        self.layers = sites.layers(model.unet, ["ff"])
        self.seeds = list(range(len(states)))

    def _timed(self, context, taps=None):
        began = clock()
        with context:
            denoise(self.model, self.states, self.empty, self.seeds, n_steps=self.n_steps, guidance=self.guidance, taps=taps)
        return clock() - began

    def nothing(self):
        """The loop alone."""
        return self._timed(ExitStack()), 0.0

    def taps(self):
        """Ours: reduced over tokens where the activation is."""
        kept = Statistics(self.layers, len(self.seeds), range(self.n_steps))
        taps = Taps(self.model.unet, self.layers, kept)
        seconds = self._timed(taps, taps)
        return seconds, sum(value.numel() * value.element_size() for value in kept.to_tensors().values()) / 2**20

    def raw(self):
        """Hooks that keep every raw activation on the CPU."""
        kept = []
        seconds = self._timed(self._hooks(lambda module, args: kept.append(args[0].detach().to("cpu", copy=True))))
        return seconds, sum(x.numel() * x.element_size() for x in kept) / 2**20

    def recomputed(self):
        """ConceptPrune's way, from its description: a hook before the feed-forward's first linear computes it a second time
        (projection and gate), copies the result to the CPU and keeps the column norms over tokens.
        """
        kept, modules = [], dict(self.model.unet.named_modules())

        def again(name):
            projection = modules[name.rsplit(".", 1)[0] + ".0"]

            def hook(module, args):
                with torch.no_grad():
                    value, gate = projection.proj(args[0]).chunk(2, dim=-1)
                    kept.append((value * torch.nn.functional.gelu(gate)).to("cpu", copy=True).flatten(0, -2).norm(dim=0))

            return projection, hook

        pairs = [again(layer.path) for layer in self.layers]
        seconds = self._timed(self._hooks(None, pairs))
        return seconds, sum(x.numel() * x.element_size() for x in kept) / 2**20

    @contextmanager
    def _hooks(self, hook, pairs=None):
        modules = dict(self.model.unet.named_modules())
        pairs = pairs or [(modules[layer.path], hook) for layer in self.layers]
        handles = [module.register_forward_pre_hook(function) for module, function in pairs]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def emoji():
    """The bundled model, ten images, ten steps."""
    model = load.load("emoji", DEVICE)
    with torch.no_grad():
        states, empty = text.encode(model, ["an owl in ink style"] * 10), text.encode(model, [""])
    return Ways(model, states, empty, 10, 5.0)


def full_size():
    """A random UNet of Stable Diffusion 1.4's shape (860 M parameters), one image without guidance, two steps: some minutes in all."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(320, 640, 1280, 1280),
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=768,
        attention_head_dim=8,
    )
    scheduler = load.load("emoji", DEVICE).scheduler
    model = Model("random, the size of SD 1.4", unet.eval().requires_grad_(False).to(DEVICE), None, None, None, scheduler)
    return Ways(model, torch.randn(1, 77, 768).to(DEVICE), torch.randn(1, 77, 768).to(DEVICE), 2, 1.0)


def table(name, ways, rounds):
    """Rows (name, way, median ratio, lowest, highest, MB per image); each loop over the mean of those without before and after it."""
    names = ("taps", "raw", "recomputed")
    ways.nothing()
    times, held = {way: [] for way in names}, {}
    before = ways.nothing()[0]
    for _ in range(rounds):
        for way in names:
            seconds, megabytes = getattr(ways, way)()
            after = ways.nothing()[0]
            times[way].append(2 * seconds / (before + after))
            before, held[way] = after, megabytes / len(ways.seeds)
    return [(name, way, statistics.median(times[way]), min(times[way]), max(times[way]), held[way]) for way in names]


def main():
    """Print the table as Markdown, each model's rows as soon as they are measured."""
    sys.stdout.write("| model | way | time over the loop without | range | MB per image |\n|---|---|---:|---|---:|\n")
    for label, make, rounds in (("emoji", emoji, 15), ("SD 1.4's size, random", full_size, 3)):
        for name, way, middle, low, high, megabytes in table(label, make(), rounds):
            sys.stdout.write(f"| {name} | {way} | {middle:.3f} | {low:.3f} to {high:.3f} | {megabytes:.2f} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
