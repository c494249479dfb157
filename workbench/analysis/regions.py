"""Where in the image the neurons of a set are active: recorded on given inputs, then one map per prompt.

Definitions: docs/reference/definitions.md#clusters.

record_maps   token maps of a neuron set, in the shared regime
regions       a table of where each cluster is active, and the maps to draw
"""

import pandas
import torch

from workbench.diffusion.denoise import evaluate
from workbench.errors import RecordingMismatch
from workbench.neurons.maps import Maps
from workbench.neurons.taps import Taps

BRIGHT = 0.1


def record_maps(model, states, trajectory, layers, neurons):
    """TokenMaps of a neuron set; the variant recorded is the one applied to the model.

    states       (prompt, token, channel) text states, evaluated on the trajectory's inputs row by row
    layers       recorded layers;  neurons   {layer path: indices}, as in NeuronSet.neurons
    """
    maps = Maps(layers, neurons, len(states), trajectory.calls)
    with Taps(model.unet, [layer for layer in layers if layer.path in neurons], maps) as taps:
        evaluate(model, states, [trajectory], taps)
    return maps.result()


def regions(maps, sets, latent, size, prompts=None):
    """Where each set is active in the picture of each prompt.

    maps      TokenMaps that hold all neurons of the sets;  sets   {cluster: NeuronSet}
    latent    (height, width) of the latents;  size   (height, width) of the pictures
    prompts   data frame, one row per prompt: id, unit, prompt, ...
    returns   data frame: cluster, row (of the prompt), level (mean of the map; 1 = the set's average over these prompts), peak,
              peak_y, peak_x (place of the peak, share of height and width), share_in_brightest_tenth (0.1 = evenly spread), and
              the columns of `prompts`; and {cluster: (prompt, height, width) tensor}
    Raises    RecordingMismatch when the prompts or neurons were not recorded
    """
    rows, pictures = [], {}
    for number, one in sets.items():
        pictures[number] = maps.part(one.neurons).images(latent, size)
        if prompts is not None and len(prompts) != len(pictures[number]):
            raise RecordingMismatch(f"{len(prompts)} prompts do not pair with the maps of {len(pictures[number])}.")
        for row, picture in enumerate(pictures[number]):
            flat = picture.flatten()
            brightest = torch.topk(flat, max(1, round(BRIGHT * len(flat)))).values
            y, x = divmod(int(flat.argmax()), picture.shape[1])
            found = {"cluster": number, "row": row, "level": float(flat.mean()), "peak": float(flat.max())}
            found |= {"peak_y": (y + 0.5) / picture.shape[0], "peak_x": (x + 0.5) / picture.shape[1]}
            found["share_in_brightest_tenth"] = float(brightest.sum() / flat.sum()) if flat.sum() > 0 else None
            rows.append(({} if prompts is None else prompts.iloc[row].to_dict()) | found)
    return pandas.DataFrame(rows), pictures
