"""Where in the image neurons are active: token maps of a few named neurons, and pictures of them.

Maps         reducer: mean |a| of the cond branch over calls, for each (prompt, token, neuron) of a neuron set
TokenMaps    what it found: a part of it, and one picture per prompt over all neurons of a set
grid         height and width of a layer's tokens

Size: 4 bytes x prompts x tokens x neurons; SD 1.x, 16 prompts, 100 neurons in a layer of 64 x 64 tokens: 26 MB.
"""

from dataclasses import dataclass

import numpy as np
import torch

from workbench.errors import RecordingMismatch, nearest


class Maps:
    """A reducer beside Statistics: mean |a| over the wanted calls for each (prompt, token, neuron), cond branch.

    layers    recorded layers; those without a neuron of the set are skipped
    neurons   {layer path: indices}, as in NeuronSet.neurons
    Raises    RecordingMismatch for an empty set, a layer or an index that is not among the layers
    """

    def __init__(self, layers, neurons, n_prompts, calls):
        widths = {layer.path: layer.n_neurons for layer in layers}
        if not neurons:
            raise RecordingMismatch("Maps of no neurons were asked for; name a set that is not empty.")
        for path, index in neurons.items():
            if path not in widths:
                raise RecordingMismatch(f'Maps were asked for the layer "{path}", which is not recorded.{nearest(path, widths)}')
            if max(index) >= widths[path]:
                raise RecordingMismatch(f'Maps were asked for neuron {max(index)} of "{path}", which has {widths[path]} neurons.')
        self.neurons = {path: torch.as_tensor(index, dtype=torch.long) for path, index in neurons.items()}
        self.n_prompts, self.calls = n_prompts, {int(call) for call in calls}
        self.sums = {}
        self.seen = {path: torch.zeros(n_prompts, dtype=torch.long) for path in neurons}

    def wants(self, call):
        """Whether this call is recorded."""
        return call in self.calls

    def add(self, layer, activation, rows):
        """Add |a| of one activation (row, token, neuron); uncond rows and other neurons are left out."""
        path = layer.path
        mine = rows.of_branch("cond")
        if path not in self.neurons or not len(mine):
            return
        device = activation.device
        size = activation[mine.to(device)].index_select(2, self.neurons[path].to(device)).abs().float().cpu()
        if path not in self.sums:
            self.sums[path] = torch.zeros(self.n_prompts, *size.shape[1:])
        prompt = rows.prompt[mine].cpu()
        self.sums[path].index_add_(0, prompt, size)
        self.seen[path].index_add_(0, prompt, torch.ones_like(prompt))

    def result(self):
        """The TokenMaps; RecordingMismatch when a wanted (prompt, call) was never seen."""
        for path, seen in self.seen.items():
            if (seen != len(self.calls)).any():
                raise RecordingMismatch(
                    f'"{path}" was recorded {int(seen.min())} to {int(seen.max())} times per prompt where {len(self.calls)} were wanted.'
                )
        means = {path: total / len(self.calls) for path, total in self.sums.items()}
        return TokenMaps({path: index.numpy() for path, index in self.neurons.items()}, means)


@dataclass(frozen=True)
class TokenMaps:
    """neurons {layer path: indices};  values {layer path: (prompt, token, neuron)} mean |a| over calls, activation units."""

    neurons: dict
    values: dict

    def part(self, neurons):
        """The maps of some of the neurons, {layer path: indices}; RecordingMismatch when one was not recorded."""
        values = {}
        for path, index in neurons.items():
            recorded = self.neurons.get(path, np.zeros(0, int))
            missing = np.setdiff1d(index, recorded)
            if len(missing):
                raise RecordingMismatch(f'No map of neuron {missing[0]} of "{path}" was recorded; record the maps of a set that has it.')
            place = {int(neuron): at for at, neuron in enumerate(recorded)}
            values[path] = self.values[path][:, :, [place[int(neuron)] for neuron in index]]
        return TokenMaps(dict(neurons), values)

    def images(self, latent, size):
        """(prompt, height, width) mean map over the neurons, each in units of its own mean over prompts and tokens.

        1 = as active as these neurons are on average. Layers are brought to one size bilinearly and weigh by their number
        of neurons; a neuron that is 0 everywhere is left out.

        latent   (height, width) of the latents;  size   (height, width) of the pictures
        Raises   RecordingMismatch when every neuron is 0, or a layer's tokens are no grid of the latents
        """
        total, n = 0.0, 0
        for values in self.values.values():
            level = values.mean(dim=(0, 1))
            live = level > 0
            if not live.any():
                continue
            tokens = (values[:, :, live] / level[live]).sum(dim=2)
            small = tokens.reshape(len(tokens), 1, *grid(values.shape[1], latent))
            total = total + torch.nn.functional.interpolate(small, size=tuple(size), mode="bilinear", align_corners=False)[:, 0]
            n += int(live.sum())
        if not n:
            raise RecordingMismatch("Every neuron of the set is 0 on these prompts; there is no map to draw.")
        return total / n


def grid(n_tokens, latent):
    """(height, width) of a layer's tokens, row by row: the latents' size halved, rounded up, as often as needed.

    Raises   RecordingMismatch when no halving has as many tokens, as for the tokens of a text encoder
    """
    height, width = (int(side) for side in latent)
    while height * width > n_tokens and max(height, width) > 1:
        height, width = -(-height // 2), -(-width // 2)
    if height * width != n_tokens:
        raise RecordingMismatch(
            f"{n_tokens} tokens are no grid of {latent[0]} x {latent[1]} latents halved any number of times; "
            "only sites inside the UNet have image regions."
        )
    return height, width
