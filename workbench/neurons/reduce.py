"""Streaming statistics of activations: reduced over tokens where the activation is, nothing else is kept.

PerPrompt   mean |a| over tokens for each (prompt, call, neuron), cond branch; L2 norms over tokens when asked
Merged      count, mean and M2 of that token mean over prompts, mean a^2 and max |a|; per (branch, call, neuron)
Parts       several of them over equal, consecutive parts of the rows
"""

from dataclasses import dataclass

import torch

from workbench.errors import RecordingMismatch
from workbench.neurons.taps import Rows


@dataclass
class Moments:
    """Count, mean, and M2 (sum of squared deviations) over prompts, mean square and max over tokens; (call, neuron) float64.

    Merging is associative: `merge` of any split equals the whole (Chan et al. 1983).
    """

    count: torch.Tensor
    mean: torch.Tensor
    m2: torch.Tensor
    square: torch.Tensor
    maximum: torch.Tensor

    @classmethod
    def empty(cls, n_calls, n_neurons):
        """No prompt seen."""
        zeros = lambda: torch.zeros(n_calls, n_neurons, dtype=torch.float64)  # noqa: E731
        return cls(torch.zeros(n_calls, 1, dtype=torch.float64), zeros(), zeros(), zeros(), zeros())

    def merge(self, other):
        """The statistics of both together."""
        count = self.count + other.count
        safe = count.clamp(min=1)
        delta = other.mean - self.mean
        return Moments(
            count,
            self.mean + delta * other.count / safe,
            self.m2 + other.m2 + delta.square() * self.count * other.count / safe,
            (self.square * self.count + other.square * other.count) / safe,
            torch.maximum(self.maximum, other.maximum),
        )

    def add(self, call, token_mean, token_square, token_max):
        """Add rows (row, neuron) seen at one call."""
        rows = token_mean.double()
        batch = Moments(
            torch.full((1, 1), len(rows), dtype=torch.float64),
            rows.mean(0, keepdim=True),
            (rows - rows.mean(0)).square().sum(0, keepdim=True),
            token_square.double().mean(0, keepdim=True),
            token_max.double().amax(0, keepdim=True),
        )
        mine = Moments(*(getattr(self, name)[call : call + 1] for name in self.__dataclass_fields__))
        for name, value in vars(mine.merge(batch)).items():
            getattr(self, name)[call] = value[0]


class Statistics:
    """The reducer taps feed: per-prompt means of the cond branch, merged moments of each branch.

    prompts, calls   what will be recorded; `calls` are positions in the sampling loop
    also             which L2 norms over tokens are kept per prompt as well, for layers whose neurons are read by weights:
                     norm      sqrt(sum_k a_ik^2)
                     row_norm  sqrt(sum_k ahat_ik^2), ahat the activations of each token k brought to length 1 (a row of zeros stays)
    """

    def __init__(self, layers, n_prompts, calls, also=()):
        self.calls = {int(call): position for position, call in enumerate(calls)}
        shape = (n_prompts, len(self.calls))
        self.mean_abs = {layer.path: torch.full((*shape, layer.n_neurons), torch.nan) for layer in layers}
        self.norms = {
            (layer.path, name): torch.full((*shape, layer.n_neurons), torch.nan) for layer in layers if layer.site.weighed for name in also
        }
        self.moments = {
            (layer.path, branch): Moments.empty(len(self.calls), layer.n_neurons) for layer in layers for branch in ("cond", "uncond")
        }

    def wants(self, call):
        """Whether this call is recorded."""
        return call in self.calls

    def add(self, layer, activation, rows):
        """Reduce one activation (row, token, neuron); `rows` says call, and prompt and branch of each row.

        One temporary of the activation's size, squared in place: on a CPU 13 times faster than torch.linalg.vector_norm
        over the token axis, which allocates nothing but runs through memory across the grain.
        """
        position = self.calls[rows.call]
        n_tokens = activation.shape[1]
        size = activation.abs().float()
        token_mean = (size.sum(dim=1) / n_tokens).cpu()
        token_max = size.amax(dim=1).cpu()
        square = size.square_()
        square_sum = square.sum(dim=1)
        token_square = (square_sum / n_tokens).cpu()
        for branch in ("cond", "uncond"):
            mine = rows.of_branch(branch)
            if len(mine):
                self.moments[layer.path, branch].add(position, token_mean[mine], token_square[mine], token_max[mine])
        mine = rows.of_branch("cond")
        self.mean_abs[layer.path][rows.prompt[mine], position] = token_mean[mine]
        if (layer.path, "norm") in self.norms:
            self.norms[layer.path, "norm"][rows.prompt[mine], position] = square_sum.sqrt().cpu()[mine]
        if (layer.path, "row_norm") in self.norms:
            length = square.sum(dim=2, keepdim=True).clamp(min=torch.finfo(square.dtype).tiny)
            shares = torch.bmm(length.reciprocal().transpose(1, 2), square)[:, 0]
            self.norms[layer.path, "row_norm"][rows.prompt[mine], position] = shares.sqrt().cpu()[mine]

    def check_complete(self):
        """RecordingMismatch when a wanted (prompt, call) was never seen."""
        for path, values in self.mean_abs.items():
            missing = int(values[..., 0].isnan().sum())
            if missing:
                raise RecordingMismatch(f'{missing} of {values[..., 0].numel()} (prompt, call) cells of "{path}" were never recorded.')

    def to_tensors(self):
        """{name: tensor} to store: mean_abs and norms in float32, moments in float64 for each branch that was seen.

        Half precision would make neurons equal that are not, and what is chosen among equals hangs on their order.

        Raises   RecordingMismatch when a cell was never recorded
        """
        self.check_complete()
        stored = {f"{path}|mean_abs": values for path, values in self.mean_abs.items()}
        stored |= {f"{path}|{name}": values for (path, name), values in self.norms.items()}
        for (path, branch), moments in self.moments.items():
            if moments.count.sum():
                stored |= {f"{path}|{branch}|{name}": value for name, value in vars(moments).items()}
        return stored


class Parts:
    """Reducers over equal consecutive parts of the rows: the first part's rows go to the first reducer, and so on."""

    def __init__(self, reducers):
        self.reducers = list(reducers)

    def wants(self, call):
        """Whether any of them records this call."""
        return any(one.wants(call) for one in self.reducers)

    def add(self, layer, activation, rows):
        """Hand each reducer its rows of an activation (row, token, neuron)."""
        n = len(activation) // len(self.reducers)
        for place, one in enumerate(self.reducers):
            if one.wants(rows.call):
                part = slice(place * n, (place + 1) * n)
                gate = None if rows.gate is None else rows.gate[part]
                one.add(layer, activation[part], Rows(rows.call, rows.timestep, rows.prompt[part], rows.branch[part], gate))
