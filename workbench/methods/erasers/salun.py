"""SalUn: fine-tune the weights that images of the concept ask about most, to answer its prompts as others (Fan et al. 2024)."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from workbench.study.fields import MOST_GUIDANCE, MOST_ITERATIONS, MOST_RATE, MOST_ROWS, MOST_STEPS, Seed
from workbench.study.published import Published

CITATIONS = ("fan2024salun",)
PUBLISHED = Published(
    source="OPTML-Group/Unlearn-Saliency at a6e89fd: its README for SD, generate_mask.py, random_label.py and nsfw_removal.py. Epochs are "
    "given as steps: 5 over some 950 images of a class, 1 over 800 of nudity",
    values={"modules": "full", "share": 0.5, "mask_guidance": 7.5, "learning_rate": 1e-5, "batch": 8},
    tasks={
        "object": {"iterations": 600, "retention": 0.5, "images": 950},
        "nudity": {"iterations": 100, "retention": 0.1, "images": 800},
    },
    unknown={name: "how the images are sampled is not stated; of classes they are photographs." for name in ("guidance", "steps")},
    ours=("seed",),
    differs=(
        "their images of a class are photographs of Imagenette, and the other prompt is the next class; here the base model draws the "
        "images from the erasing pairs, and the other prompt is the anchor",
        "they retain the other classes, or people wearing clothes; here the prompts to retain, or without them the anchors",
        "they go through the images epoch by epoch; here each step draws them by chance",
        "of equal gradients at the edge of the share, the first in the order of the weights are trained here",
    ),
)


class Parameters(BaseModel):
    """What can be set. Defaults are scaled for the emoji model; the published ones for SD 1.x stand in each field."""

    model_config = ConfigDict(extra="forbid")

    modules: Literal["full", "x"] = Field("full", description="full: the whole UNet; x: all cross-attention (attn2); SD: full")
    share: float = Field(0.5, gt=0, le=1, description="share of these weights that is trained, those with the largest gradients; SD: 0.5")
    mask_guidance: float = Field(
        7.5, ge=0, le=MOST_GUIDANCE, description="g of the loss whose gradients are compared: (1 + g) cond - g uncond; SD: 7.5"
    )
    iterations: int = Field(160, ge=1, le=MOST_ITERATIONS, description="optimiser steps; SD: some 600 (classes) or 100 (nudity)")
    learning_rate: float = Field(3e-4, gt=0, le=MOST_RATE, description="Adam's; SD: 1e-5")
    retention: float = Field(
        0.5, ge=0, le=MOST_RATE, description="weight of the denoising loss on the images to retain; SD: 0.5 (classes) or 0.1 (nudity)"
    )
    guidance: float = Field(3.0, ge=0, le=MOST_GUIDANCE, description="guidance scale of the images")
    steps: int = Field(20, ge=2, le=MOST_STEPS, description="sampling steps of the images")
    batch: int = Field(4, ge=1, le=MOST_ROWS, description="images with the concept, and as many to retain, per optimiser step; SD: 8")
    images: int = Field(
        32, ge=1, le=MOST_ROWS, description="images with the concept, at least one a pair, and as many to retain; SD: 950 (classes) or 800"
    )
    seed: Seed = Field(0, description="of the images and of drawing")


def learns_from(parameters):
    """Sides of the pairs it learns from: both, for the anchor is the other prompt."""
    return ("prompt", "anchor")


def trained_names(unet, modules):
    """Parameter names (without the `unet.` prefix) among which the share is chosen."""
    return [name for name, _ in unet.named_parameters() if modules == "full" or ".attn2." in name]


def erase(
    model,
    pairs,
    parameters,
    *,
    retained=(),
    progress=None,
    kept=lambda name: None,
    keep=lambda name, state: None,
    log=None,
    **context,
):
    """Train and return {"unet.<name>": tensor}; the model itself is left as it was.

    loss = || eps(x_t, t, c) - sg[eps(x_t, t, a)] ||^2 + retention || eps(y_t, t, r) - noise ||^2, both by the model in training

    x_t are noised images of the concept c, a is the anchor of its pair, y_t noised images of prompts r to retain. Only weights in the
    mask move: the `share` with the largest | sum over images of d/dW || noise - ((1 + g) eps_0(x_t, t, c) - g eps_0(x_t, t, empty)) ||^2 |.

    pairs        [(prompt with the concept, the same without it)];  retained   prompts to retain; without them, the anchors
    kept, keep   what a killed training had reached: kept(name) -> state or None, keep(name, state)
    progress     called with (step, of, loss);  log  list that gets (step, loss)
    Raises       MethodError when there are no pairs, or no weight is trained
    Source       arXiv 2310.12508 and its public code; code of before December 2023 trained the half with the smallest gradients
    """
    import torch

    from workbench.errors import MethodError
    from workbench.methods.erasers._pool import with_retained
    from workbench.methods.erasers._saliency import outside
    from workbench.methods.erasers._training import fine_tuned

    if not pairs:
        raise MethodError("SalUn needs prompts with the concept and their anchors; the study gives none.")
    names = trained_names(model.unet, parameters.modules)
    generator = torch.Generator().manual_seed(parameters.seed)
    pool, beside = with_retained(model, pairs, retained, parameters)
    still = outside(saliency(model, pool, names, parameters, generator), parameters.share)
    if all(places.all() for places in still.values()):
        raise MethodError("No weight would be trained: the share is less than one weight of the modules. Raise `share`.")

    def loss_of(weights):
        drawn = pool.draw(model, generator, parameters.batch)
        with torch.no_grad():
            target = model.predict(drawn.noised, drawn.at, pool.anchor[drawn.pair], weights)
        loss = (model.predict(drawn.noised, drawn.at, pool.concept[drawn.pair], weights) - target).square().mean()
        if parameters.retention:
            other = beside.draw(model, generator, parameters.batch)
            denoised = model.predict(other.noised, other.at, beside.anchor[other.pair], weights)
            loss = loss + parameters.retention * (denoised - other.noise).square().mean()
        return loss

    return fine_tuned(model, names, parameters, loss_of, progress, still=still, generator=generator, kept=kept, keep=keep, log=log)


def saliency(model, pool, names, parameters, generator):
    """{name: | sum of gradients |} of the concept's denoising loss under guidance, over every image of the pool once.

    Each batch of `parameters.batch` images counts with its mean, as in the authors' code.
    """
    import torch

    from workbench.methods.erasers._saliency import gradients

    batches = torch.arange(len(pool.latents)).split(parameters.batch)
    sums = {}
    for found in gradients(model, pool, batches, names, parameters.mask_guidance, generator):
        for name, gradient in found.items():
            sums[name] = sums[name].add_(gradient) if name in sums else gradient.clone()
    return {name: total.abs() for name, total in sums.items()}


def passes(parameters, n_pairs, passes_per_image=0):
    """UNet row passes of one training, for the estimate; a row with gradient counts as 2.5."""
    images = max(parameters.images, n_pairs)
    sampled = (images + parameters.images) * parameters.steps * 2
    return sampled + images * 2 * 2.5 + parameters.iterations * parameters.batch * (1 + 2.5 + (2.5 if parameters.retention else 0))
