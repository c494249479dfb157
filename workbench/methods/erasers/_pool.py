"""Latents an eraser trains on, and the noise it wants predicted there: what ESD, AC and the learned mask share.

along_trajectories   ESD's pool: UNet inputs on the base model's own trajectories of the concept
of_images            AC's pool: final latents of the prompts without the concept, noised when drawn
wanted               the prediction an objective asks for
"""

from dataclasses import dataclass

import torch

from workbench.diffusion import denoise as loop
from workbench.diffusion.objectives import add_noise, erased_target
from workbench.models import text

ROWS_AT_ONCE = 8


@dataclass
class Drawn:
    """Noised latents (row, channel, height, width), timesteps, pair and, when known, the noise of each row."""

    noised: torch.Tensor
    at: torch.Tensor
    pair: torch.Tensor
    noise: torch.Tensor | None = None


@dataclass
class Pool:
    """Latents with the pair each belongs to, and the pairs' text states.

    latents     (trajectory, call, channel, height, width) with timesteps (call,), or (image, channel, height, width) without
    concept, anchor   (pair, token, channel) states with and without the concept;  empty (1, token, channel)
    """

    latents: torch.Tensor
    owner: torch.Tensor
    concept: torch.Tensor
    anchor: torch.Tensor
    empty: torch.Tensor
    timesteps: torch.Tensor | None = None

    def draw(self, model, generator, n):
        """n latents by one CPU generator: places on trajectories, or images noised to any timestep."""

        def numbers(high):
            return torch.randint(high, (n,), generator=generator)

        row = numbers(len(self.latents))
        if self.timesteps is not None:
            call = numbers(len(self.timesteps))
            return Drawn(self.latents[row, call], self.timesteps[call].to(model.device), self.owner[row])
        at = numbers(model.scheduler.config.num_train_timesteps).to(model.device)
        noise = torch.randn(n, *model.latent_shape, generator=generator).to(model.device, model.dtype)
        return Drawn(add_noise(model, self.latents[row], noise, at), at, self.owner[row], noise)


def along_trajectories(model, pairs, parameters, n):
    """Pool of n trajectories of the concept prompts, every call kept; `parameters` say steps, guidance and seed."""
    return _sampled(model, pairs, parameters, n, range(loop.n_calls(model, parameters.steps)))


def of_images(model, pairs, parameters, n):
    """Pool of n final latents of the prompts without the concept."""
    return _sampled(model, pairs, parameters, n, ())


def _sampled(model, pairs, parameters, n, keep):
    with torch.no_grad():
        concept = text.encode(model, [pair[0] for pair in pairs])
        anchor = text.encode(model, [pair[1] for pair in pairs])
        empty = text.unconditional(model)
    owner, found = torch.arange(n) % len(pairs), []
    shown = concept if keep else anchor
    for rows in owner.split(ROWS_AT_ONCE):
        seeds = [parameters.seed * 100_003 + 7919 * len(found) + i for i in range(len(rows))]
        final, path = loop.denoise(model, shown[rows], empty, seeds, n_steps=parameters.steps, guidance=parameters.guidance, keep=keep)
        found.append(path.inputs if keep else final)
    timesteps = torch.tensor(path.timesteps).long() if keep else None
    return Pool(torch.cat(found), owner, concept, anchor, empty, timesteps)


def wanted(model, pool, drawn, form, eta, beside=None):
    """ESD's target for drawn latents by the model as it is; where `form` starts, and what `beside` is: SCIENCE 4, `erased_target`."""
    c, a = pool.concept[drawn.pair], pool.anchor[drawn.pair]
    nothing = pool.empty.expand(len(drawn.pair), -1, -1)
    start, without = {"anchor": (a, a), "concept": (c, nothing), "empty": (nothing, nothing)}[form]
    return erased_target(model, drawn.noised, drawn.at, c, start, without, eta, beside)
