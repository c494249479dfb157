"""Latents an eraser trains on, and the noise it wants predicted there: what ESD, AC and the learned mask share.

along_trajectories   ESD's pool: UNet inputs on the base model's own trajectories of the concept
anew                 ESD as published: a trajectory of its own for every draw, sampled up to a random step
of_images            AC's pool: final latents of the prompts without the concept, noised when drawn; STEREO's: of those with it
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


@dataclass
class Anew(Pool):
    """No pool: every draw samples a trajectory of a random pair from new noise, up to one of the first `steps` calls.

    shown   (pair, token, channel) states whose trajectories are sampled
    """

    shown: torch.Tensor | None = None
    steps: int = 50
    guidance: float = 3.0

    def draw(self, model, generator, n):
        """n latents by one CPU generator: pair, call and noise of each."""
        pair, call = (torch.randint(high, (n,), generator=generator) for high in (len(self.shown), self.steps))
        seeds = torch.randint(2**31, (n,), generator=generator).tolist()
        kept = sorted(set(call.tolist()))
        with torch.no_grad():
            _, path = loop.denoise(
                model, self.shown[pair], self.empty, seeds, n_steps=self.steps, guidance=self.guidance, keep=kept, last=kept[-1]
            )
        place = torch.tensor([kept.index(one) for one in call.tolist()])
        return Drawn(path.inputs[torch.arange(n), place], torch.tensor(path.timesteps).long()[place].to(model.device), pair)


def along_trajectories(model, pairs, parameters, n, side="concept"):
    """Pool of n trajectories of the prompts of one side, every call kept; `parameters` say steps, guidance and seed."""
    return _sampled(model, pairs, parameters, n, range(loop.n_calls(model, parameters.steps)), side)


def anew(model, pairs, parameters, side="concept"):
    """The same without a pool: see `Anew`."""
    states = _states(model, pairs)
    nothing = torch.zeros(0)
    return Anew(nothing, nothing, **states, timesteps=None, shown=states[side], steps=parameters.steps, guidance=parameters.guidance)


def of_images(model, pairs, parameters, n, side="anchor"):
    """Pool of n final latents of the prompts of one side."""
    return _sampled(model, pairs, parameters, n, (), side)


def with_retained(model, pairs, retained, parameters):
    """(pool of images of the concept, pool of images of the prompts to retain, or without them of the anchors); `images` of each."""
    others = list(dict.fromkeys(retained or [anchor for _, anchor in pairs]))
    concept = of_images(model, pairs, parameters, max(parameters.images, len(pairs)), "concept")
    return concept, of_images(model, [(other, other) for other in others], parameters, max(parameters.images, len(others)))


def _states(model, pairs):
    """{concept, anchor, empty}: text states."""
    with torch.no_grad():
        sides = {side: text.encode(model, [pair[i] for pair in pairs]) for i, side in enumerate(("concept", "anchor"))}
        return sides | {"empty": text.unconditional(model)}


def _sampled(model, pairs, parameters, n, keep, side):
    states, owner, found = _states(model, pairs), torch.arange(n) % len(pairs), []
    shown, empty = states[side], states["empty"]
    for rows in owner.split(ROWS_AT_ONCE):
        seeds = [parameters.seed * 100_003 + 7919 * len(found) + i for i in range(len(rows))]
        final, path = loop.denoise(model, shown[rows], empty, seeds, n_steps=parameters.steps, guidance=parameters.guidance, keep=keep)
        found.append(path.inputs if keep else final)
    timesteps = torch.tensor(path.timesteps).long() if keep else None
    return Pool(torch.cat(found), owner, **states, timesteps=timesteps)


def wanted(model, pool, drawn, form, eta, beside=None):
    """ESD's target for drawn latents by the model as it is: eps(start) - eta (eps(c) - eps(without)); `beside` as for `erased_target`.

    form   anchor: start = without = the anchor; concept: start = c, without = the empty prompt; empty: both the empty prompt;
           erase_from: start = the anchor, without = the empty prompt
    """
    c, a = pool.concept[drawn.pair], pool.anchor[drawn.pair]
    nothing = pool.empty.expand(len(drawn.pair), -1, -1)
    forms = {"anchor": (a, a), "concept": (c, nothing), "empty": (nothing, nothing), "erase_from": (a, nothing)}
    start, without = forms[form]
    return erased_target(model, drawn.noised, drawn.at, c, start, without, eta, beside)
