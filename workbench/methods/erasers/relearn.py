"""Relearn the concept: fine-tune an erased or pruned parent on images of it; the stress test that counts steps until it is back.

What it proves: how near the concept still is, by the steps that bring it back, beside the same steps from the unpruned parent and from
a model that never knew it. Everything can be taught in enough steps, so one number of them proves nothing.
"""

from contextlib import nullcontext
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from workbench.study.fields import MOST_GUIDANCE, MOST_ITERATIONS, MOST_RATE, MOST_ROWS, MOST_STEPS, Seed

NO_PRESET = "it is a stress test of this project; the work nearest to it, DiMRA (arXiv 2512.03564), has no public code."
OVER_OTHER_PARENTS = True
OTHER_NOISE = 131


class Parameters(BaseModel):
    """What can be set. Defaults are scaled for the emoji model."""

    model_config = ConfigDict(extra="forbid")

    modules: Literal["x", "all"] = Field(
        "all", description="all: every linear layer and convolution of the UNet, as who fine-tunes would; x: cross-attention (attn2) alone"
    )
    iterations: int = Field(
        40, ge=1, le=MOST_ITERATIONS, description="optimiser steps; fewer of them are the beginning of more, draw by draw"
    )
    learning_rate: float = Field(1e-3, gt=0, le=MOST_RATE, description="Adam's; SD: 1e-5 is usual")
    batch: int = Field(4, ge=1, le=MOST_ROWS, description="images per optimiser step")
    images: int = Field(32, ge=1, le=MOST_ROWS, description="images in the pool, made by the base model, at least one a pair")
    shows: Literal["concept", "anchor"] = Field(
        "concept", description="what the images show; anchor, a control: the same prompts without the concept, as many steps"
    )
    guidance: float = Field(3.0, ge=0, le=MOST_GUIDANCE, description="guidance scale of those images")
    steps: int = Field(20, ge=2, le=MOST_STEPS, description="sampling steps of those images")
    lift: bool = Field(
        True, description="pruned weights of trained layers move too: who fine-tunes knows no mask; false: what is exactly 0 stays 0"
    )
    seed: Seed = Field(0, description="of the images and of drawing")


def learns_from(parameters):
    """Sides of the pairs it learns from."""
    return ("prompt",) if parameters.shows == "concept" else ("anchor",)


def lifts_masks(parameters):
    """Whether the weights hold as they are where a parent pruned."""
    return parameters.lift


def trained_names(unet, modules):
    """Parameter names (without the `unet.` prefix) that a choice of modules trains."""
    import torch

    names = [name for name, _ in unet.named_parameters()]
    if modules == "x":
        return [name for name in names if ".attn2." in name]
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    return [name for name in names if isinstance(unet.get_submodule(name.rpartition(".")[0]), kinds)]


def erase(model, pairs, parameters, *, progress=None, base=nullcontext, kept=None, keep=None, log=None, **context):
    """Fine-tune the parent, which is applied, and return {"unet.<name>": tensor}; the model itself is left as it was.

    loss = || eps - eps_theta(x_t, t, c) ||^2,  x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps,  x_0 the base model's image of c

    The text states c are the parent's own, so that a text encoder that was erased stays so. Layers that are not trained keep what was
    cut, bit for bit. Draws do not depend on `iterations`: k steps are the first k of any larger number.

    base         context manager in which the model is the base model, which makes the images
    kept, keep   what a killed training had reached: kept(name) -> state or None, keep(name, state)
    progress     called with (step, of, loss);  log  list that gets (step, loss)
    Raises       MethodError when there are no pairs, or no parameter matches
    Source       the ordinary denoising loss (arXiv 2006.11239); relearning as a check of erasing: DiMRA, 2512.03564
    """
    import torch

    from workbench.errors import MethodError
    from workbench.methods.erasers._pool import of_images
    from workbench.methods.erasers._training import fine_tuned
    from workbench.models import text

    if not pairs:
        raise MethodError("Relearning needs prompts with the concept, whose images it trains on; the study gives none.")
    names = trained_names(model.unet, parameters.modules)
    if not names:
        raise MethodError(f'No parameter of this UNet belongs to the modules "{parameters.modules}".')
    prompts = [pair[0] if parameters.shows == "concept" else pair[1] for pair in pairs]
    unseen = parameters.model_copy(update={"seed": parameters.seed + OTHER_NOISE})  # no measured image is trained on
    with base():
        pool = of_images(model, [(prompt, prompt) for prompt in prompts], unseen, max(parameters.images, len(pairs)))
    with torch.no_grad():
        states = text.encode(model, prompts)
    generator = torch.Generator().manual_seed(parameters.seed)

    def loss_of(weights):
        drawn = pool.draw(model, generator, parameters.batch)
        return (model.predict(drawn.noised, drawn.at, states[drawn.pair], weights) - drawn.noise).square().mean()

    own = dict(model.unet.named_parameters())
    still = {} if parameters.lift else {name: own[name].detach() == 0 for name in names}
    return fine_tuned(model, names, parameters, loss_of, progress, still=still, generator=generator, kept=kept, keep=keep, log=log)


def passes(parameters, n_pairs, passes_per_image=0):
    """UNet row passes of one training, for the estimate; a row with gradient counts as 2.5."""
    return max(parameters.images, n_pairs) * parameters.steps * 2 + parameters.iterations * parameters.batch * 2.5
