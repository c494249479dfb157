"""All but One: guidance to the concept becomes that to its anchor, the uncond branch stays; our reading of Hong et al. 2024."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from workbench.study.fields import MOST_GUIDANCE, MOST_ITERATIONS, MOST_RATE, MOST_ROWS, MOST_STEPS, Seed

CITATIONS = ("hong2024all",)
NO_PRESET = (
    "its paper (arXiv 2312.12807) could not be read here and no code of it is known, so its settings are not known; the objective is our "
    "reading of what its abstract says."
)


class Parameters(BaseModel):
    """What can be set. Defaults are scaled for the emoji model."""

    model_config = ConfigDict(extra="forbid")

    modules: Literal["x", "u", "x-strict", "all"] = Field(
        "x", description="x: all cross-attention (attn2); u: all other layers; x-strict: attn2.to_k and to_v; all: x and u"
    )
    iterations: int = Field(110, ge=1, le=MOST_ITERATIONS, description="optimiser steps")
    learning_rate: float = Field(1e-3, gt=0, le=MOST_RATE, description="Adam's")
    drift: float = Field(1.0, ge=0, le=MOST_RATE, description="weight of what the uncond branch changes")
    guidance: float = Field(3.0, ge=0, le=MOST_GUIDANCE, description="guidance scale of the sampled latents")
    steps: int = Field(20, ge=2, le=MOST_STEPS, description="sampling steps of those latents")
    batch: int = Field(4, ge=1, le=MOST_ROWS, description="latents per optimiser step")
    trajectories: int = Field(
        32, ge=0, le=MOST_ROWS, description="sampled trajectories in the pool, at least one a pair; 0: a new one for every latent"
    )
    seed: Seed = Field(0, description="of trajectories and drawing")


def learns_from(parameters):
    """Sides of the pairs it learns from: both, for the anchor says what the concept becomes."""
    return ("prompt", "anchor")


def erase(
    model,
    pairs,
    parameters,
    *,
    progress=None,
    kept=lambda name: None,
    keep=lambda name, state: None,
    log=None,
    **context,
):
    """Train and return {"unet.<name>": tensor}; the model itself is left as it was.

    loss = || g(x_t, t, c) - sg[g_0(x_t, t, a)] ||^2 + drift || eps(x_t, t, empty) - eps_0(x_t, t, empty) ||^2
    g(x_t, t, p) = eps(x_t, t, p) - eps(x_t, t, empty),   x_t on base trajectories of the concept c, a its anchor

    g is what guidance adds to the uncond branch. With an empty anchor it becomes 0: the concept's prompt is answered as no prompt is.
    Latents are those of the concept's own images, so that they keep their layout.

    pairs        [(prompt with the concept, the same without it)]
    kept, keep   what a killed training had reached: kept(name) -> state or None, keep(name, state)
    progress     called with (step, of, loss);  log  list that gets (step, loss)
    Raises       MethodError when there are no pairs, or no parameter belongs to the modules
    Source       our reading of arXiv 2312.12807, of which neither paper nor code could be read: that it changes the guidance term, holds
                 the drift of the unconditional one, and lets its user choose what the concept becomes. The pool is ours
    """
    import torch

    from workbench.errors import MethodError
    from workbench.methods.erasers._pool import along_trajectories, anew
    from workbench.methods.erasers._training import fine_tuned
    from workbench.methods.erasers.esd import n_trajectories, trained_names

    if not pairs:
        raise MethodError("All but One needs prompts with the concept and their anchors; the study gives none.")
    names = trained_names(model.unet, parameters.modules)
    if not names:
        raise MethodError(f'No parameter of this UNet belongs to the modules "{parameters.modules}".')
    generator = torch.Generator().manual_seed(parameters.seed)
    n = n_trajectories(parameters, len(pairs))
    pool = along_trajectories(model, pairs, parameters, n) if n else anew(model, pairs, parameters)

    def loss_of(weights):
        drawn = pool.draw(model, generator, parameters.batch)
        concept, anchor = pool.concept[drawn.pair], pool.anchor[drawn.pair]
        empty = pool.empty.expand_as(concept)
        with torch.no_grad():
            with_anchor, without = _noise(model, drawn, [anchor, empty])
        own, own_without = _noise(model, drawn, [concept, empty], weights)
        moved = (own - own_without - (with_anchor - without)).square().mean()
        return moved + parameters.drift * (own_without - without).square().mean()

    return fine_tuned(model, names, parameters, loss_of, progress, generator=generator, kept=kept, keep=keep, log=log)


def _noise(model, drawn, states, weights=None):
    """The noise of drawn latents with each of these states, in one pass; list of (row, channel, height, width)."""
    import torch

    n = len(states)
    return model.predict(drawn.noised.repeat(n, 1, 1, 1), drawn.at.repeat(n), torch.cat(states), weights).chunk(n)


def passes(parameters, n_pairs, passes_per_image=0):
    """UNet row passes of one training, for the estimate; a row with gradient counts as 2.5."""
    n = max(parameters.trajectories, n_pairs) if parameters.trajectories else parameters.iterations * parameters.batch / 2
    return n * parameters.steps * 2 + parameters.iterations * parameters.batch * (2 + 2 * 2.5)
