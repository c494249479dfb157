"""Scissorhands: reinitialise the weights that the concept hangs on most, then fine-tune (Wu and Harandi 2024)."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from workbench.study.fields import MOST_GUIDANCE, MOST_ITERATIONS, MOST_RATE, MOST_ROWS, MOST_STEPS, Seed
from workbench.study.published import Published

CITATIONS = ("wu2024scissorhands",)
PUBLISHED = Published(
    source="JingWu321/Scissorhands at 4e112c4 (nudity, with its README) and 5d5a436 (classes). Epochs are given as steps: 5 over 800 "
    "images in batches of 16 (nudity), 5 over some 950 images of a class in batches of 8",
    values={"trimmed": "published"},
    tasks={
        "object": {
            "share": 0.1,
            "rounds": 1,
            "mask_guidance": 7.5,
            "fresh": "normal",
            "form": "ascent",
            "forgetting": 0.1,
            "learning_rate": 1e-5,
            "batch": 8,
            "iterations": 600,
            "images": 950,
        },
        "nudity": {
            "share": 0.01,
            "rounds": 1,
            "mask_guidance": 0.0,
            "fresh": "kaiming",
            "form": "anchor",
            "forgetting": 0.1,
            "learning_rate": 5e-5,
            "batch": 16,
            "iterations": 250,
            "images": 800,
        },
    },
    unknown={name: "how the images are sampled is not stated; of classes they are photographs." for name in ("guidance", "steps")},
    ours=("seed",),
    differs=(
        "the paper repairs with projected gradients, of which none leads towards the concept again; its scripts for Stable Diffusion "
        "add the two losses, and so does this",
        "their images of a class are photographs of Imagenette; here the base model draws the images from the erasing pairs",
        "they retain the other classes, or people wearing clothes; here the prompts to retain, or without them the anchors",
        "they go through the images epoch by epoch; here each step draws them by chance",
        "of equal sensitivities at the edge of the share, the first in the order of the weights are reinitialised here",
    ),
)
# output_blocks 4 and 7 of Stable Diffusion 1.x, in the names of diffusers
PUBLISHED_PLACES = ("up_blocks.1.attentions.1.", "up_blocks.2.attentions.1.")


class Parameters(BaseModel):
    """What can be set. Defaults are scaled for the emoji model; the published ones for SD 1.x stand in each field."""

    model_config = ConfigDict(extra="forbid")

    trimmed: Literal["published", "self", "full"] = Field(
        "self",
        description="which weights may be reinitialised: published: self-attention (attn1) of the second attention in up blocks 1 and 2; "
        "self: all self-attention; full: the whole UNet",
    )
    share: float = Field(
        0.05, gt=0, le=1, description="share of all weights of the UNet with the largest |gradient x weight|; SD: 0.1 (classes) or 0.01"
    )
    rounds: int = Field(4, ge=1, le=1000, description="batches of images whose |gradient| is summed; SD: 1")
    mask_guidance: float = Field(
        7.5,
        ge=0,
        le=MOST_GUIDANCE,
        description="g of the loss whose gradients are taken: (1 + g) cond - g uncond; SD: 7.5 (classes) or 0 (nudity)",
    )
    fresh: Literal["kaiming", "normal"] = Field(
        "kaiming",
        description="their new values: kaiming: uniform, as for a new layer (SD, nudity); normal: of deviation 0.02 (SD, classes); "
        "biases become 0",
    )
    form: Literal["anchor", "ascent"] = Field(
        "anchor",
        description="how the concept is held off: anchor: its prompt is answered as the anchor (SD, nudity); ascent: its denoising loss "
        "grows (SD, classes)",
    )
    forgetting: float = Field(
        1.0, ge=0, le=MOST_RATE, description="weight of that loss beside the denoising loss on images to retain; SD: 0.1"
    )
    iterations: int = Field(160, ge=1, le=MOST_ITERATIONS, description="optimiser steps; SD: some 600 (classes) or 250 (nudity)")
    learning_rate: float = Field(3e-4, gt=0, le=MOST_RATE, description="Adam's; SD: 1e-5 (classes) or 5e-5 (nudity)")
    guidance: float = Field(3.0, ge=0, le=MOST_GUIDANCE, description="guidance scale of the images")
    steps: int = Field(20, ge=2, le=MOST_STEPS, description="sampling steps of the images")
    batch: int = Field(4, ge=1, le=MOST_ROWS, description="images with the concept, and as many to retain, per step; SD: 8 or 16")
    images: int = Field(
        32, ge=1, le=MOST_ROWS, description="images with the concept, at least one a pair, and as many to retain; SD: 950 (classes) or 800"
    )
    seed: Seed = Field(0, description="of the images, of drawing, and of the new values")


def learns_from(parameters):
    """Sides of the pairs it learns from: with `ascent` the concept alone."""
    return ("prompt", "anchor") if parameters.form == "anchor" else ("prompt",)


def may_be_reinitialised(name, trimmed):
    """Whether a weight of the UNet, by its name without the `unet.` prefix, is among those that may be reinitialised."""
    if trimmed == "full":
        return True
    return ".attn1." in name and (trimmed == "self" or name.startswith(PUBLISHED_PLACES))


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
    """Trim and train; return {"unet.<name>": tensor}. The model itself is left as it was.

    trim    the `share` of all weights with the largest sum over batches of |d/dW || noise - ((1 + g) eps(x_t, t, c) - g eps(x_t, t, empty))
            ||^2| |W| get new values, those of them that may
    repair  loss = || eps(y_t, t, r) - noise ||^2 + forgetting || eps(x_t, t, c) - sg[eps(x_t, t, a)] ||^2, both by the model in training;
            with form = "ascent" instead of the second: - forgetting || eps(x_t, t, c) - noise ||^2

    x_t are noised images of the concept c, a is the anchor of its pair, y_t noised images of prompts r to retain.

    pairs        [(prompt with the concept, the same without it)];  retained   prompts to retain; without them, the anchors
    kept, keep   what a killed training had reached: kept(name) -> state or None, keep(name, state)
    progress     called with (step, of, loss);  log  list that gets (step, loss)
    Raises       MethodError when there are no pairs, or no weight is reinitialised
    Source       arXiv 2401.06187 and its public code for Stable Diffusion
    """
    import torch

    from workbench.errors import MethodError
    from workbench.methods.erasers._pool import with_retained
    from workbench.methods.erasers._training import fine_tuned

    if not pairs:
        raise MethodError("Scissorhands needs prompts with the concept and their anchors; the study gives none.")
    names = [name for name, _ in model.unet.named_parameters()]
    generator = torch.Generator().manual_seed(parameters.seed)
    pool, beside = with_retained(model, pairs, retained, parameters)
    start = trim(model, sensitivity(model, pool, names, parameters, generator), parameters, generator)
    if not start:
        places = {"published": "up blocks 1 and 2", "self": "self-attention", "full": "the UNet"}[parameters.trimmed]
        raise MethodError(
            f"No weight of {places} is among the largest share {parameters.share:g}, so none is reinitialised. Raise `share`."
        )

    def loss_of(weights):
        other = beside.draw(model, generator, parameters.batch)
        loss = (model.predict(other.noised, other.at, beside.anchor[other.pair], weights) - other.noise).square().mean()
        if not parameters.forgetting:
            return loss
        drawn = pool.draw(model, generator, parameters.batch)
        answer = model.predict(drawn.noised, drawn.at, pool.concept[drawn.pair], weights)
        if parameters.form == "ascent":
            return loss - parameters.forgetting * (answer - drawn.noise).square().mean()
        with torch.no_grad():
            wanted = model.predict(drawn.noised, drawn.at, pool.anchor[drawn.pair], weights)
        return loss + parameters.forgetting * (answer - wanted).square().mean()

    return fine_tuned(model, names, parameters, loss_of, progress, start=start, generator=generator, kept=kept, keep=keep, log=log)


def sensitivity(model, pool, names, parameters, generator):
    """{name: |W| sum over `rounds` batches of |gradient|}: how much the concept's images hang on each weight."""
    import torch

    from workbench.methods.erasers._saliency import gradients

    own, sums = dict(model.unet.named_parameters()), {}
    batches = (torch.randint(len(pool.latents), (parameters.batch,), generator=generator) for _ in range(parameters.rounds))
    for found in gradients(model, pool, batches, names, parameters.mask_guidance, generator):
        for name, gradient in found.items():
            sums[name] = sums[name].add_(gradient.abs()) if name in sums else gradient.abs()
    return {name: total.mul_(own[name].detach().abs()) for name, total in sums.items()}


def trim(model, sizes, parameters, generator):
    """{name: tensor} of the weights of which some are reinitialised, with their new values in these places and their own in all others."""
    import torch

    from workbench.methods.erasers._saliency import outside

    found, own = {}, dict(model.unet.named_parameters())
    for name, still in outside(sizes, parameters.share).items():
        if not may_be_reinitialised(name, parameters.trimmed) or still.all():
            continue
        old = own[name].detach()
        new = torch.zeros(old.shape)
        if old.dim() == 1:
            new += float(name.endswith(".weight"))  # a norm's begins at 1, a bias at 0
        elif parameters.fresh == "kaiming":
            torch.nn.init.kaiming_uniform_(new, nonlinearity="relu", generator=generator)
        else:
            torch.nn.init.trunc_normal_(new, std=0.02, generator=generator)
        found[name] = torch.where(still, old, new.to(old))
    return found


def passes(parameters, n_pairs, passes_per_image=0):
    """UNet row passes of one training, for the estimate; a row with gradient counts as 2.5."""
    images = max(parameters.images, n_pairs)
    sampled = (images + parameters.images) * parameters.steps * 2
    asked = parameters.rounds * parameters.batch * (2 if parameters.mask_guidance else 1) * 2.5
    forgotten = 0 if not parameters.forgetting else 2.5 if parameters.form == "ascent" else 3.5
    return sampled + asked + parameters.iterations * parameters.batch * (2.5 + forgotten)
