"""Random plantings: tiny UNets in which known neurons carry the concept, and others only look as if they did.

planting   one of KINDS, everything about it drawn from its seed
one        a neuron of any layer
layers     2 to 4 neurons in each of 2 or 3 layers; what they write adds up
copies     3 to 5 neurons of the last layer, each of which alone suffices: the last normalisation makes one as loud as all
bystanders 2 or 3 causal neurons, and as many that hear the concept by the same law and write where nobody reads

In a planted block the concept token moves the stream along one direction, `heard`. Only planted neurons listen there, and the
block's last projection is deaf to it, so that the concept reaches the noise through what planted neurons write or not at all.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas
import torch

from tests import tiny
from workbench.diffusion.denoise import Trajectory, evaluate
from workbench.diffusion.targets import Items, Linear
from workbench.models.load import from_pipeline
from workbench.models.variants import Variant, applied
from workbench.neurons import sites
from workbench.neurons.reduce import Statistics
from workbench.neurons.sets import index_table
from workbench.neurons.taps import Taps

KINDS = ("one", "layers", "copies", "bystanders")
BLOCKS = ("down_blocks.0.attentions.0", "mid_block.attentions.0", "up_blocks.1.attentions.0", "up_blocks.1.attentions.1")
LAST = BLOCKS[-1]
N_UNITS, CALLS, TIMESTEPS = 8, [0, 1], [801.0, 401.0]
CONCEPT, PLAIN = ((torch.eye(32)[i] * 6).repeat(1, 16, 1) for i in (0, 2))
SIDE = 4
EFFECT = 0.05
LOUDER = 10


@dataclass
class Planting:
    """A model and the truth about it.

    inputs      (unit, call, channel, height, width) latents, the same with the concept and without
    erased      the variant whose planted blocks no longer see the concept token
    causal      (neuron,) bool, the neurons that carry the concept;  bystander  those that hear it and do nothing
    """

    model: object
    erased: Variant
    inputs: torch.Tensor
    layers: list
    index: pandas.DataFrame
    causal: np.ndarray
    bystander: np.ndarray

    def items(self, n_units):
        """(Items, T2 target) of the first units at the last call."""
        target, reference = (states.expand(n_units, -1, -1) for states in (CONCEPT, PLAIN))
        trajectory = Trajectory(self.inputs[:n_units, -1:], CALLS[-1:], TIMESTEPS[-1:])
        return Items(trajectory, target, [f"unit {i}" for i in range(n_units)]), Linear(reference, target, reference)

    def recorded(self, states, variant=None):
        """(unit, neuron) mean |a| over the calls."""
        statistics = Statistics(self.layers, N_UNITS, CALLS)
        with applied(self.model, variant), Taps(self.model.unet, self.layers, statistics) as taps:
            evaluate(self.model, states.expand(N_UNITS, -1, -1), [Trajectory(self.inputs, CALLS, TIMESTEPS)], taps)
        return torch.cat([statistics.mean_abs[layer.path].mean(dim=1) for layer in self.layers], dim=1).numpy()


@cache
def _pipeline():
    return tiny.pipeline()


def _model(seed):
    """The tiny model with a UNet of its own."""
    pipeline = _pipeline()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        pipeline.unet = type(pipeline.unet).from_config(pipeline.unet.config)
    return from_pipeline(pipeline, f"planting {seed}")


class _Block:
    """A transformer block in which neurons can be planted; `free` channels are kept out of the direction it hears in."""

    def __init__(self, unet, path, generator, free=()):
        self.outer, self.generator = unet.get_submodule(path), generator
        self.inner = self.outer.transformer_blocks[0]
        self.width, channels = self.inner.ff.net[2].in_features, self.inner.ff.net[2].out_features
        heard = torch.randn(channels, generator=generator)
        used = torch.tensor([channel not in free for channel in range(channels)])
        # LayerNorm takes the mean away, and must not take some of this direction with it
        heard = torch.where(used, heard - heard[used].mean(), 0.0)
        self.heard = heard / heard.norm()
        self.deaf = torch.eye(channels) - torch.outer(self.heard, self.heard)
        faint = torch.eye(channels) - 0.9 * torch.outer(self.heard, self.heard)
        for linear in (self.outer.proj_in, self.inner.attn1.to_out[0]):
            linear.weight.copy_((faint @ linear.weight.flatten(1)).view_as(linear.weight))
            linear.bias.copy_(faint @ linear.bias)
        out, listens = self.outer.proj_out, self.inner.ff.net[0].proj
        out.weight.copy_((out.weight.flatten(1) @ self.deaf).view_as(out.weight))
        listens.weight.copy_(listens.weight @ self.deaf)
        self.inner.attn2.to_v.weight[0] = torch.eye(32)[0]
        self.inner.attn2.to_out[0].weight[:, 0] = 0.03 * channels**0.5 * self.heard

    def listen(self, neurons):
        """Let neurons fire with the concept; each a little differently."""
        proj = self.inner.ff.net[0].proj
        for neuron in neurons:
            for row in (neuron, neuron + self.width):
                gain = 2 + 0.5 * float(torch.rand((), generator=self.generator))
                proj.weight[row], proj.bias[row] = gain * self.heard, 0.1

    def write(self, neurons, column):
        """Give neurons one outgoing column (channel,)."""
        self.inner.ff.net[2].weight[:, neurons] = column[:, None]

    def direction(self):
        """A random direction (channel,) which the block's last projection sees."""
        column = self.deaf @ torch.randn(len(self.heard), generator=self.generator)
        return column / column.norm()


def _quiet(unet):
    """Make everything but what will be planted small: text into the stream, and neurons into the stream."""
    for path in BLOCKS:
        inner = unet.get_submodule(path).transformer_blocks[0]
        inner.attn2.to_v.weight.mul_(0.02)
        inner.attn2.to_v.weight[0] = 0
        inner.attn2.to_out[0].weight.mul_(0.02)
        inner.attn2.to_out[0].bias.zero_()
        inner.ff.net[2].weight.mul_(0.05)


def _noise(model, inputs, states):
    """(unit, ...) predicted noise at the last call."""
    return model.predict(inputs[:, -1], torch.tensor(TIMESTEPS[-1]), states.expand(len(inputs), -1, -1))


def _even(model, inputs, wired):
    """Size what each block's neurons write so that it alone changes the noise by a share EFFECT of it.

    wired   [(block, neurons, column of length 1)]
    """
    sizes = []
    for block, neurons, column in wired:
        block.write(neurons, 0 * column)
    plain = _noise(model, inputs, PLAIN)
    for block, neurons, column in wired:
        block.write(neurons, 0.01 * column)
        sizes.append(0.01 * EFFECT / float((_noise(model, inputs, CONCEPT) - plain).norm() / plain.norm()))
        block.write(neurons, 0 * column)
    for (block, neurons, column), size in zip(wired, sizes, strict=True):
        block.write(neurons, size * column)


def _saturate(model, inputs, block, neurons, pair):
    """Let every neuron push two channels of one normalised group apart, LOUDER times as far as they are without the concept.

    One neuron alone then carries about 1 - 1 / (2 LOUDER) of the concept: what is left of the channels' own pattern is one
    LOUDER-th, and lies along the direction that the concept replaces.
    """
    column = torch.zeros_like(block.heard)
    column[list(pair)] = torch.tensor([1.0, -1.0])
    seen = {}
    handle = model.unet.conv_norm_out.register_forward_pre_hook(lambda module, args: seen.update(x=args[0][:, list(pair)]))
    try:
        block.write(neurons, 0 * column)
        _noise(model, inputs, PLAIN)
        plain, away = seen["x"], []
        for neuron in neurons:
            block.write([neuron], column)
            _noise(model, inputs, CONCEPT)
            away.append(float((seen["x"] - plain).diff(dim=1).mean()) / -2)
            block.write([neuron], 0 * column)
    finally:
        handle.remove()
    spread = float(plain.var(dim=(1, 2, 3), correction=0).mean().sqrt())
    for neuron, push in zip(neurons, away, strict=True):
        block.write([neuron], LOUDER * spread / push * column)


@torch.no_grad()
def planting(kind, seed):
    """Planting of one of KINDS."""
    rng = np.random.default_rng([KINDS.index(kind), seed])
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    model = _model(int(rng.integers(2**31)))
    inputs = torch.randn(N_UNITS, len(CALLS), model.latent_shape[0], SIDE, SIDE, generator=generator)
    layers = sites.layers(model.unet, ["ff"])
    index = index_table(layers)
    _quiet(model.unet)
    n_blocks = int(rng.integers(2, 4)) if kind == "layers" else 1
    paths = [LAST] if kind == "copies" else sorted(rng.choice(BLOCKS, n_blocks, replace=False).tolist())
    low, high = {"one": (1, 1), "layers": (2, 4), "copies": (3, 5), "bystanders": (2, 3)}[kind]
    group = int(rng.integers(8))
    pair = (2 * group, 2 * group + 1) if kind == "copies" else ()
    wired, planted, idle = [], [], []
    for path in paths:
        block, n = _Block(model.unet, path, generator, pair), int(rng.integers(low, high + 1))
        drawn = rng.permutation(block.width).tolist()
        wired.append((block, drawn[:n], block.direction()))
        block.listen(drawn[:n])
        planted += [(path, neuron) for neuron in drawn[:n]]
        if kind == "bystanders":
            block.listen(drawn[n : 2 * n])
            block.write(drawn[n : 2 * n], 0 * block.heard)
            idle += [(path, neuron) for neuron in drawn[n : 2 * n]]
    if kind == "copies":
        block.outer.proj_out.weight.copy_(block.deaf.view_as(block.outer.proj_out.weight))
        _saturate(model, inputs, block, wired[0][1], pair)
    else:
        _even(model, inputs, wired)
    if idle:
        size = block.inner.ff.net[2].weight[:, wired[0][1][0]].norm()
        block.write([neuron for _, neuron in idle], 2 * size * block.heard)
    erased = Variant("erased", "base", dict(_blind(model.unet, path) for path in paths))
    return Planting(model, erased, inputs, layers, index, _where(index, planted), _where(index, idle))


def _blind(unet, path):
    """(parameter name, the value weights of a block that no longer see the concept token)."""
    name = f"{path}.transformer_blocks.0.attn2.to_v"
    weight = unet.get_submodule(name).weight.detach().clone()
    weight[0] = 0
    return f"unet.{name}.weight", weight


def _where(index, neurons):
    """(neuron,) bool of (block, neuron) pairs."""
    named = {(f"{path}.transformer_blocks.0.ff.net.2", neuron) for path, neuron in neurons}
    return np.array([pair in named for pair in zip(index["layer"], index["index"], strict=True)])
