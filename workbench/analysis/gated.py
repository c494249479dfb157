"""The target as a function of gates: the one forward function that every attribution and exact ablation shares.

Formula: docs/reference/definitions.md#gates.

Gated         gates (row, column) -> target (row,) of one batch; what Captum sees
single        columns that gate chosen neurons one by one
partitions    columns that gate random, disjoint sets
"""

import numpy as np
import torch

from workbench.diffusion.targets import predict
from workbench.errors import MethodError
from workbench.neurons.taps import Rows, Taps


class Gated:
    """J(gates) of the rows of one batch, under one target.

    bound      the target, bound to the batch
    columns    (neuron,) which gate each neuron follows, through all layers in their order; -1 = untouched; None = its own
    baseline   {layer path: (neuron,)}: a gate of 0 puts the mean there instead of 0
    both       gate the prompt that the target compares with too; by default that term stays that of the intact model
    counted    passes of one item so far: {"forward": .., "backward": ..}, of UNet rows over batch rows
    """

    def __init__(self, model, layers, batch, bound, columns=None, baseline=None, both=False):
        self.model, self.layers, self.batch, self.bound = model, list(layers), batch, bound
        self.baseline, self.both = baseline, both
        self.widths = [layer.n_neurons for layer in self.layers]
        self.columns = torch.arange(sum(self.widths)) if columns is None else torch.as_tensor(columns)
        if len(self.columns) != sum(self.widths):
            raise MethodError(
                f"{len(self.columns)} columns were given for {sum(self.widths)} neurons; give one per neuron, -1 = untouched."
            )
        if both and bound.other is None:
            raise MethodError(f"The target {bound.name} compares with no other prompt, so there is nothing more to gate. Leave `both` out.")
        self.n_columns = int(self.columns.max()) + 1
        self.counted = {"forward": 0.0, "backward": 0.0}

    def ones(self):
        """Gates of the intact model (row, column)."""
        return torch.ones(len(self.batch), self.n_columns, dtype=self.model.dtype, device=self.model.device)

    def item(self):
        """(row,) which row of the batch each row of gates belongs to; Captum repeats it along with the gates."""
        return torch.arange(len(self.batch), device=self.model.device)

    def __call__(self, gates, item):
        # untouched neurons follow a last column of ones
        neurons = torch.cat([gates, gates.new_ones(len(gates), 1)], dim=1)[:, self.columns.to(gates.device)]
        place, n = item.cpu(), len(gates)
        states = self.batch.states[place]
        if self.both:
            neurons, states = torch.cat([neurons, neurons]), torch.cat([states, self.bound.other[place].to(states)])
            place = torch.cat([place, place])
        per_layer = dict(zip((layer.path for layer in self.layers), neurons.split(self.widths, dim=1), strict=True))
        rows = Rows(self.batch.call, self.batch.timestep, self.batch.prompt[place], ["cond"] * len(place), torch.arange(len(place)))
        with Taps(self.model.unet, self.layers, gates=per_layer, baseline=self.baseline) as taps:
            taps.tell(rows)
            eps = predict(self.model, self.batch, states, place)
            taps.check()
        self._count(len(place), gates.requires_grad and torch.is_grad_enabled())
        return self.bound.value(eps[:n], item, eps[n:] if self.both else None)

    def gradient(self, gates):
        """dJ/dg at gates (row, column); (row, column)."""
        gates = gates.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self(gates, self.item()).sum(), gates)
        return slope

    def _count(self, n_rows, backward):
        self.counted["forward"] += n_rows / len(self.batch)
        self.counted["backward"] += n_rows / len(self.batch) if backward else 0.0


def single(n_neurons, chosen):
    """(neuron,) columns in which chosen positions follow a gate each, in the order given, and all others none."""
    columns = np.full(n_neurons, -1)
    columns[np.asarray(chosen)] = np.arange(len(chosen))
    return columns


def partitions(n_neurons, size, n_sets, seed):
    """Random sets of `size` neurons as lists of columns: sets within one are disjoint, lists are drawn anew.

    returns   list of (neuron,) columns, in all at least n_sets sets
    """
    if not 0 < size <= n_neurons:
        raise MethodError(f"Sets of {size} neurons were asked for; there are {n_neurons}.")
    rng, per_list, drawn = np.random.default_rng(seed), n_neurons // size, []
    while len(drawn) * per_list < n_sets:
        kept = min(per_list, n_sets - len(drawn) * per_list)
        columns = np.full(n_neurons, -1)
        columns[rng.permutation(n_neurons)[: kept * size]] = np.repeat(np.arange(kept), size)
        drawn.append(columns)
    return drawn
