"""Bilevel: remove feed-forward neurons, then distil the student by turns with leading it away from the concept (Shirkavand et al. 2025)."""

from contextlib import nullcontext
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from workbench.study.fields import MOST_GUIDANCE, MOST_ITERATIONS, MOST_RATE, MOST_ROWS, MOST_STEPS, Seed
from workbench.study.published import Published

CITATIONS = ("shirkavand2025efficient",)
PUBLISHED = Published(
    source="rezashkv/unlearn-ft at 7a9f282: pdm/training/trainer.py and sd-2-1_coco_aptp_both_512_bilevel.yaml; of the paper, which could "
    "not be had whole: 20,000 iterations, K and lambda as a summary of it states them (papernotes.org). The task paper adds lambda times "
    "the lower loss to the upper level; the task code has the upper loss alone",
    values={
        "form": "empty",
        "eta": 1.0,
        "learning_rate": 1e-6,
        "upper_rate": 5e-6,
        "denoising": 1.0,
        "snr_gamma": 5.0,
        "output": 2.0,
        "features": 0.1,
        "batch": 16,
    },
    tasks={
        "paper": {"iterations": 20_000, "lower_steps": 20, "penalty": 100.0},
        "code": {"iterations": 55_000, "lower_steps": 10, "penalty": 0.0},
    },
    unknown={
        "share": "their students are found by APTP, which learns which neurons, heads, channels and blocks to remove",
        "criterion": "their students are found by APTP; with its sizes of weights alone as a comparison",
        "images": "their pictures are those of MS-COCO, and a data set of the concept",
    }
    | {name: "their pictures are not sampled, or it is not stated how" for name in ("guidance", "steps")},
    ours=("seed",),
    differs=(
        "their lower level sees photographs of MS-COCO with their captions; here the base model's images of the prompts to retain",
        "their batch is of each of four GPUs",
        "their learning rates warm up over 250 steps",
        "of a model that predicts v, they compare v; here noise, with the weights for noise",
    ),
)
MEASURED_CALLS = 10  # of a sampling, at which activity is measured


class Parameters(BaseModel):
    """What can be set. Defaults are scaled for the emoji model; the published ones for SD 2.1 stand in each field."""

    model_config = ConfigDict(extra="forbid")

    share: float = Field(
        0.5, ge=0, lt=1, description="share of each layer's feed-forward neurons that is removed; 0: the parent is the student, as it is"
    )
    criterion: Literal["wanda", "magnitude"] = Field(
        "wanda",
        description="which are removed. wanda: smallest weights times activity on the prompts to retain; magnitude: smallest weights",
    )
    form: Literal["anchor", "concept", "empty"] = Field(
        "anchor", description="what is predicted on the concept: the anchor's noise (ours), or ESD's from the concept or the empty prompt"
    )
    eta: float = Field(1.0, ge=0, le=MOST_RATE, description="how far to steer away; SD: 1")
    iterations: int = Field(400, ge=1, le=MOST_ITERATIONS, description="optimiser steps of both levels, in whole rounds; SD: 20,000")
    lower_steps: int = Field(1, ge=1, le=MOST_ITERATIONS, description="K, steps of the lower level before one of the upper; SD: 20")
    penalty: float = Field(
        0.0, ge=0, le=1e6, description="lambda, weight of the lower level's loss in the upper level's; SD: 100 (paper) or 0 (code)"
    )
    learning_rate: float = Field(3e-4, gt=0, le=MOST_RATE, description="Adam's, of the lower level; SD: 1e-6")
    upper_rate: float = Field(4e-4, gt=0, le=MOST_RATE, description="Adam's, of the upper level; SD: 5e-6")
    denoising: float = Field(1.0, ge=0, le=MOST_RATE, description="weight of the denoising loss in the lower level; SD: 1")
    snr_gamma: float | None = Field(
        5.0, gt=0, le=MOST_RATE, description="denoising counts min(snr, gamma) / snr, snr = abar / (1 - abar); SD: 5"
    )
    output: float = Field(2.0, ge=0, le=MOST_RATE, description="weight of the distance to the teacher's noise; SD: 2")
    features: float = Field(0.1, ge=0, le=MOST_RATE, description="weight of the distance to what the teacher's blocks put out; SD: 0.1")
    batch: int = Field(4, ge=1, le=MOST_ROWS, description="images per optimiser step; SD: 16 on each of four GPUs")
    images: int = Field(32, ge=1, le=MOST_ROWS, description="images of the concept, at least one a pair, and as many of prompts to retain")
    guidance: float = Field(3.0, ge=0, le=MOST_GUIDANCE, description="guidance scale of the images")
    steps: int = Field(20, ge=2, le=MOST_STEPS, description="sampling steps of the images")
    seed: Seed = Field(0, description="of the images and of drawing")


def learns_from(parameters):
    """Sides of the pairs it learns from: both, for without prompts to retain the anchors are retained."""
    return ("prompt", "anchor")


def erase(
    model,
    pairs,
    parameters,
    *,
    retained=(),
    progress=None,
    base=nullcontext,
    kept=lambda name: None,
    keep=lambda name, state: None,
    log=None,
    **context,
):
    """Prune, train and return {"unet.<name>": tensor}, 0 where a neuron was removed; the model itself is left as it was.

    min over theta of L_up(theta)  so that  theta is in argmin L_low

    L_low = denoising w || eps(y_t, t, r) - noise ||^2 + output || eps(y_t, t, r) - eps_0(y_t, t, r) ||^2
            + features mean over blocks || h(y_t, t, r) - h_0(y_t, t, r) ||^2
    L_up  = || eps(x_t, t, c) - [eps_0(start) - eta (eps_0(c) - eps_0(without))] ||^2

    As the first-order penalty method: by turns K steps on L_low, then one on L_up + penalty L_low, each level with its own Adam. x_t are
    noised images of the concept c, y_t of prompts r to retain, both drawn by the base model, which is the teacher (eps_0, h_0). The
    whole UNet is trained; what was removed stays exactly 0.

    The paper's G(theta, theta') = L_up(theta) + lambda (L_low(theta) - L_low(theta')) has the K steps on a second set of weights, which
    does not act on the first. In the authors' code there is one set; so here. Published checkpoints are a UNet folder with smaller tensors
    and a vector that says which groups of channels are kept; we write the indices of the channels instead (`channels.json`).

    pairs        [(prompt with the concept, the same without it)];  retained   prompts to retain; without them, the anchors
    base         context manager in which the model is the base model, the teacher
    kept, keep   what a killed training had reached: kept(name) -> state or None, keep(name, state)
    progress     called with (step, of, L_up);  log  list that gets (step, L_up, mean L_low of the round)
    Raises       MethodError when there are no pairs, or no neuron would be removed
    Source       arXiv 2412.15341 and its public code (MIT)
    """
    from workbench.errors import MethodError
    from workbench.methods.erasers._bilevel import Training
    from workbench.methods.erasers._training import with_checkpoints

    if not pairs:
        raise MethodError("The bilevel eraser needs prompts with the concept and their anchors; the study gives none.")
    others = list(dict.fromkeys(retained or [anchor for _, anchor in pairs]))
    training = Training(model, pairs, others, parameters, base)
    with_checkpoints(training, "student", rounds(parameters) * (parameters.lower_steps + 1), progress, kept, keep, log)
    return {f"unet.{name}": weight.detach() for name, weight in training.weights.items()}


def rounds(parameters):
    """How many rounds the steps are, the last one whole."""
    return -(-parameters.iterations // (parameters.lower_steps + 1))


def passes(parameters, n_pairs, passes_per_image=0):
    """UNet row passes of one training, for the estimate; a row with gradient counts as 2.5."""
    images = max(parameters.images, n_pairs) + parameters.images
    measured = (
        n_pairs * (2 * parameters.steps + min(MEASURED_CALLS, parameters.steps))
        if parameters.share and parameters.criterion == "wanda"
        else 0
    )
    lower, upper = 1 + 2.5, 2 + 2.5
    if parameters.form == "concept":
        upper += 1
    each = parameters.lower_steps * lower + upper + (lower if parameters.penalty else 0)
    return images * parameters.steps * 2 + measured + rounds(parameters) * parameters.batch * each
