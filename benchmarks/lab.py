"""The Ablation lab beside plain sampling: one prompt, the concept neurons ablated, three variants of the example run.

Ratios measured side by side in one run:
  change    everything that the page computes after a control has changed (images, judge, target, activity of three variants) over
            plainly sampling and decoding three images
  again     the same request a second time over the first: what did not change is not computed again
  typed     the same as `change` for a prompt and a seed that were never asked for, over three images: nothing is kept
  rows      of the UNet that a typed prompt computes, with the mode zero and with patch
  of one    `typed` over sampling and decoding three images side by side: what the pieces without the lab took for one variant
"""

import statistics
import sys
import time

import torch

from workbench import resources
from workbench.diffusion.denoise import denoise
from workbench.lab import Lab, NeuronAblation
from workbench.models import text

ROUNDS = 5
PROMPT, SEED = "a bicycle in ink style", 1001


def sampled(lab: Lab, seed: int) -> None:
    """Three images, without the lab."""
    model, sampling = lab.model, lab.study.sampling
    for _ in range(3):
        with torch.no_grad():
            states, empty = text.encode(model, [PROMPT]), text.unconditional(model)
        model.decode(denoise(model, states, empty, [seed], n_steps=sampling.steps, guidance=sampling.guidance)[0])


def side_by_side(lab: Lab, seed: int) -> None:
    """Three images in one batch, without the lab."""
    model, sampling = lab.model, lab.study.sampling
    with torch.no_grad():
        states, empty = text.encode(model, [PROMPT] * 3), text.unconditional(model)
    model.decode(denoise(model, states, empty, [seed, seed + 1, seed + 2], n_steps=sampling.steps, guidance=sampling.guidance)[0])


def asked(lab: Lab, ablation: NeuronAblation, prompt: str = PROMPT, seed: int = SEED) -> None:
    """What the page asks for."""
    variants = ["base", "erased", "pruned"]
    lab.prepare([prompt], [seed], variants, ablation)
    for variant in variants:
        for images, change in zip(lab.before_and_after([prompt], [seed], variant, ablation), (None, ablation), strict=True):
            lab.found(images)
            lab.target(prompt, seed, variant, change)
            lab.activity(ablation.neurons, prompt, seed, variant, change)


def rows_of(lab: Lab, ablation: NeuronAblation, seed: int) -> int:
    """Rows of the UNet that a prompt computes with a seed that was never asked for."""
    rows: list[int] = []
    with lab.model.unet.register_forward_pre_hook(lambda module, given: rows.append(len(given[0]))):
        asked(lab, ablation, "a dozen bicycles in ink style", seed)
    return sum(rows)


def timed(function, *given) -> float:
    """Wall seconds."""
    began = time.perf_counter()
    function(*given)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    example = resources.example_run()
    if example is None:
        sys.exit("There is no example run. Make it with: make example")
    began = time.perf_counter()
    lab = Lab(example)
    lab.warm()
    loading = time.perf_counter() - began
    neurons = lab.neurons("concept")
    asked(lab, NeuronAblation(neurons, "zero", 0.99))  # what is intact is computed once
    changes, again, plain, typed, three = [], [], [], [], []
    for turn in range(ROUNDS):
        ablation = NeuronAblation(neurons, "zero", 0.9 - 0.01 * turn)
        plain.append(timed(sampled, lab, SEED + turn))
        changes.append(timed(asked, lab, ablation))
        again.append(timed(asked, lab, ablation))
        typed.append(timed(asked, lab, ablation, f"{turn + 2} bicycles in ink style", SEED + 100 + turn))
        three.append(timed(side_by_side, lab, SEED + 200 + 3 * turn))
    change, once, base, new, batch = (statistics.median(times) for times in (changes, again, plain, typed, three))
    print(f"lab: model and judge loaded in {loading:.1f} s; {ablation.n_neurons} neurons, 3 variants, {torch.get_num_threads()} threads")
    print(f"change  {change / base:.2f}  (a change {change:.2f} s, 3 plain images {base:.2f} s; median of {ROUNDS})")
    print(f"again   {once / change:.4f}  ({once * 1000:.1f} ms)")
    print(f"typed   {new / base:.2f}  ({new:.2f} s)")
    zero, patch = NeuronAblation(neurons, "zero", 0.5), NeuronAblation(neurons, "patch", 0.5)
    counts = rows_of(lab, zero, SEED + 300), rows_of(lab, patch, SEED + 301)
    print(f"rows    {counts[0]}, with patch {counts[1]}")
    print(f"of one  {new / batch:.2f}  (3 images side by side {batch:.2f} s)")


if __name__ == "__main__":
    main()
