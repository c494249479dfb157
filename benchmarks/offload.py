"""What `[model] offload = true` saves on a GPU and costs: peak memory and time of two images with it over those without, at full size.

The models have the architecture of Stable Diffusion 1.4 and of SDXL, random weights, float16. Without a GPU there is nothing to measure.
"""

import gzip
import itertools
import sys
import tempfile
from pathlib import Path

import torch
from on_device import DEVICE, clock

from experiments.full_size import models
from workbench.diffusion.denoise import denoise
from workbench.models import load, text

SIZES = {"sd14": 64, "sdxl": 128}  # latent positions along one side
STEPS = 4


def merges(folder):
    """A file of merges as long as CLIP's, of pairs of letters: what the words are does not matter here."""
    path = Path(folder) / "merges.txt.gz"
    pairs = itertools.islice(itertools.product(models.letters(), repeat=2), models.N_MERGES)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(["merges", *map(" ".join, pairs)]))
    return path


def used(pipeline, offload):
    """(peak bytes on the device, seconds) of two images, once the model is loaded and has made them before."""
    model = load.from_pipeline(pipeline, "random", DEVICE, torch.float16, offload)

    def images():
        with torch.no_grad():
            states, empty = text.encode(model, ["a church", "a dog"]), text.unconditional(model)
            model.decode(denoise(model, states, empty, [0, 1], n_steps=STEPS, guidance=7.5)[0])

    images()
    torch.cuda.reset_peak_memory_stats(DEVICE)
    began = clock()
    images()
    return torch.cuda.max_memory_allocated(DEVICE), clock() - began


def main():
    """Print the table as Markdown."""
    if torch.device(DEVICE).type != "cuda":
        sys.stdout.write("Offloading is measured on a GPU only: make bench DEVICE=cuda\n")
        return
    sys.stdout.write("| model | peak memory, with over without | GB | time, with over without |\n|---|---:|---:|---:|\n")
    for name, size in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            pipeline = models.parts(name, size, merges(folder), dtype=torch.float16)
        less, plain = used(pipeline, True), used(pipeline, False)
        gb = f"{less[0] / 1e9:.1f} and {plain[0] / 1e9:.1f}"
        sys.stdout.write(f"| {name} | {less[0] / plain[0]:.2f} | {gb} | {less[1] / plain[1]:.2f} |\n")


if __name__ == "__main__":
    main()
