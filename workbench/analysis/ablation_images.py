"""Ablations in images: sample with the neurons changed, decode, and let a detector look.

Prompts   one prompt set to sample
Images    several of them measured by one call, for ablation_effects.py

Each row starts from its prompt's own noise, so that an ablated image differs from the intact one by the ablation alone.
Outcomes, per image: detected (0 or 1) and score by the detector; pixel_change, the mean absolute difference to the intact
image; feature_change, the distance of the detector's features |f - f_intact|, where it has some.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from workbench.analysis.ablation import check, gating, layers_of
from workbench.analysis.ablation_effects import Reading
from workbench.analysis.quality import features
from workbench.diffusion.denoise import denoise
from workbench.models.variants import applied
from workbench.neurons.columns import Columns
from workbench.neurons.taps import Taps


@dataclass
class Prompts:
    """A prompt set to sample.

    states   (prompt, token, channel) text states;  seeds (prompt,);  units (prompt,) names
    detect   images (n, 3, height, width) in [0, 1] -> (bool (n,), score (n,)), e.g. a detector's `present` of some labels
    wanted   (prompt,) what is looked for in each image, such as the label it should show: then detect(images, wanted) is asked
             with one entry per image; None = the same in all
    """

    states: torch.Tensor
    seeds: list
    units: list
    detect: Callable
    wanted: list | None = None


class Images:
    """Image measurements of several prompt sets: call it with ablations, get Readings.

    groups     {name: Prompts}, e.g. target, near, far
    empty      (1, token, channel) text state of the empty prompt
    variant    the model computes as this merged variant; None = base
    features   a detector with features, or images -> (n, feature); None = no feature_change
    batch      images sampled side by side
    """

    def __init__(self, model, groups, empty, *, n_steps, guidance, variant=None, features=None, batch=16):
        self.model, self.groups, self.empty, self.variant = model, groups, empty, variant
        self.n_steps, self.guidance, self.features, self.batch = n_steps, guidance, features, batch
        self._intact = {}

    def __call__(self, ablations):
        readings = []
        for name, prompts in self.groups.items():
            check(ablations, prompts.units, self.guidance)
            if name not in self._intact:
                self._intact[name] = self.images(name)
            intact, n = self._intact[name], len(prompts.seeds)
            plain = self._look(prompts, intact, intact, range(n))
            jobs = [(which, prompt) for prompt in range(n) for which in range(len(ablations))]
            ablated = {outcome: np.zeros((len(ablations), n)) for outcome in plain}
            for start in range(0, len(jobs), self.batch):
                which, mine = (list(side) for side in zip(*jobs[start : start + self.batch], strict=True))
                used = sorted(set(which))
                made = gating(self.model.unet, [ablations[one] for one in used])
                images = self._sample(prompts, mine, made, [used.index(one) + 1 for one in which])
                for outcome, values in self._look(prompts, images, intact[mine], mine).items():
                    ablated[outcome][which, mine] = values
            readings += [
                Reading(name, outcome, list(prompts.units), plain[outcome], ablated[outcome], not outcome.endswith("_change"))
                for outcome in plain
            ]
        return readings

    def images(self, group):
        """(prompt, 3, height, width) of a prompt set, nothing ablated."""
        prompts = self.groups[group]
        rows = torch.arange(len(prompts.seeds)).split(self.batch)
        return torch.cat([self._sample(prompts, part.tolist()) for part in rows])

    def record(self, group, neurons, calls):
        """Columns of named neurons {layer path: indices} while a prompt set is sampled, cond branch."""
        prompts = self.groups[group]
        kept = Columns(neurons, len(prompts.seeds), calls, units=prompts.units)
        with Taps(self.model.unet, layers_of(self.model.unet, kept.neurons.keys()), kept) as taps:
            for part in torch.arange(len(prompts.seeds)).split(self.batch):
                self._denoise(prompts, part.tolist(), taps)
        return kept

    def _sample(self, prompts, mine, made=None, gates=None):
        """Images of some prompts (positions), each behind its gate row."""
        if made is None:
            return self.model.decode(self._denoise(prompts, mine))
        with Taps(self.model.unet, made.layers, gates=made.gates, limits=made.limits, held=made.held) as taps:
            latents = self._denoise(prompts, mine, taps, torch.tensor(gates))
        return self.model.decode(latents)

    def _denoise(self, prompts, mine, taps=None, gate=None):
        with applied(self.model, self.variant):
            return denoise(
                self.model,
                prompts.states[mine],
                self.empty,
                [prompts.seeds[prompt] for prompt in mine],
                n_steps=self.n_steps,
                guidance=self.guidance,
                taps=taps,
                prompt=torch.tensor(mine),
                gate=gate,
            )[0]

    def _look(self, prompts, images, intact, mine):
        """{outcome: (image,) values} of some prompts (positions)."""
        asked = () if prompts.wanted is None else ([prompts.wanted[prompt] for prompt in mine],)
        present, score = prompts.detect(images, *asked)
        found = {
            "detected": np.asarray(present, float),
            "score": np.asarray(score, float),
            "pixel_change": (images - intact).abs().flatten(1).mean(dim=1).double().numpy(),
        }
        if self.features is not None:
            found["feature_change"] = np.linalg.norm(features(self.features, images) - features(self.features, intact), axis=1)
        return found
