"""AdvUnlearn: the text encoder unlearns the concept against an adversarial word, and keeps what is retained (Zhang et al. 2024)."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from workbench.study.fields import MOST_GUIDANCE, MOST_ITERATIONS, MOST_RATE, MOST_ROWS, MOST_STEPS, Seed
from workbench.study.published import Published

CITATIONS = ("zhang2024defensive",)
PUBLISHED = Published(
    source="OPTML-Group/AdvUnlearn at 9d23124: defaults of train-scripts/AdvUnlearn.py, and of the command in its README",
    values={
        "form": "empty",
        "iterations": 1000,
        "learning_rate": 1e-5,
        "eta": 1.0,
        "warmup": 200,
        "adversarial_steps": 30,
        "adversarial_rate": 1e-3,
        "adversarial_tokens": 1,
        "rule": "adam",
        "plain": 0.0,
        "retention": 0.3,
        "retained_batch": 5,
        "guidance": 3.0,
        "steps": 50,
        "batch": 1,
        "trajectories": 0,
    },
    ours=("seed",),
    differs=(
        "their timestep is drawn within the step's span, here it is the step's own; latents are sampled again for every step of the attack "
        "too, here the attack draws from the same pool, or without a pool keeps the latents of its step",
        "their retained latents are sampled with the retained prompt; here they are those of the concept's trajectories",
        "their only prompt is the name of the concept; of several pairs one is drawn for every latent",
    ),
)


class Parameters(BaseModel):
    """What can be set. Defaults are scaled for the emoji model; the published ones for SD 1.x stand in each field."""

    model_config = ConfigDict(extra="forbid")

    form: Literal["anchor", "concept", "empty"] = Field(
        "anchor", description="where the target starts: at the anchor prompt (ours), the concept, the empty prompt (published)"
    )
    iterations: int = Field(120, ge=1, le=MOST_ITERATIONS, description="optimiser steps of the text encoder; SD: 1000")
    learning_rate: float = Field(3e-4, gt=0, le=MOST_RATE, description="Adam's; SD: 1e-5")
    eta: float = Field(1.0, ge=0, le=MOST_RATE, description="how far to steer away; SD: 1")
    warmup: int = Field(20, ge=0, le=MOST_ITERATIONS, description="steps on the prompt alone before the attack begins; SD: 200")
    adversarial_steps: int = Field(
        4, ge=1, le=MOST_ITERATIONS, description="steps of the attack before each step of the text encoder; SD: 30"
    )
    adversarial_rate: float = Field(0.01, gt=0, le=MOST_RATE, description="size of a step of the attack; SD: 1e-3")
    adversarial_tokens: int = Field(1, ge=1, le=16, description="vectors before the words; SD: 1")
    rule: Literal["adam", "sign"] = Field("adam", description='adam: as in their "pgd"; sign: the sign of the gradient, their "fast_at"')
    plain: float = Field(1.0, ge=0, le=MOST_RATE, description="weight of the same loss on the prompt without vectors (ours); published: 0")
    retention: float = Field(1.0, ge=0, le=MOST_RATE, description="weight of the change on retained prompts; SD: 0.3")
    retained_batch: int = Field(2, ge=1, le=MOST_ROWS, description="rows of each step that ask about retention; SD: 5")
    guidance: float = Field(3.0, ge=0, le=MOST_GUIDANCE, description="guidance scale of the sampled latents; SD: 3")
    steps: int = Field(20, ge=2, le=MOST_STEPS, description="sampling steps of those latents; SD: 50")
    batch: int = Field(4, ge=1, le=MOST_ROWS, description="latents per optimiser step; SD: 1")
    trajectories: int = Field(
        32, ge=0, le=MOST_ROWS, description="sampled trajectories in the pool, at least one a pair; SD: 0, a new one for every latent"
    )
    seed: Seed = Field(0, description="of trajectories, vectors and drawing")


def learns_from(parameters):
    """Sides of the pairs it learns from: both, for it retains the anchors."""
    return ("prompt", "anchor")


def erase(
    model,
    pairs,
    parameters,
    *,
    progress=None,
    retained=(),
    kept=lambda name: None,
    keep=lambda name, state: None,
    log=None,
    **context,
):
    """Train the text encoder and return {"text_encoder.<name>": tensor}; the model itself is left as it was.

    loss = L(v, c) + plain L(c) + retention || eps(x_t, t, r) - eps_0(x_t, t, r) ||^2
    L(p) = || eps(x_t, t, p) - sg[eps_0(start) - eta (eps_0(c) - eps_0(without))] ||^2,   x_t on base trajectories of c

    eps reads prompts with the text encoder in training, eps_0 with the one it began with. v are vectors before the words: words of the
    vocabulary at the start, then `adversarial_steps` on || eps(x_t, t, (v, c)) - eps_0(x_t, t, c) ||^2, anew for every step. In the
    warm-up the loss is L(c) and retention. r: retained prompts, anchors and the empty prompt.

    pairs        [(prompt with the concept, the same without it)]
    kept, keep   what a killed training had reached: kept(name) -> state or None, keep(name, state)
    progress     called with (step, of, loss);  log  list that gets (step, loss)
    Raises       MethodError when there are no pairs, or the model has two text encoders
    Source       arXiv 2405.15234 and its public code
    """
    from workbench.errors import MethodError
    from workbench.methods.erasers._adv_unlearn import Training
    from workbench.methods.erasers._training import with_checkpoints

    if not pairs:
        raise MethodError("AdvUnlearn needs prompts with the concept and their anchors; the study gives none.")
    if model.text_encoder_2 is not None:
        raise MethodError("AdvUnlearn trains one text encoder; this model has two.")
    training = Training(model, pairs, retained, parameters)
    with_checkpoints(training, "text_encoder", parameters.iterations, progress, kept, keep, log)
    return {f"text_encoder.{name}": value.detach().clone() for name, value in training.encoder.named_parameters()}


def passes(parameters, n_pairs, passes_per_image=0):
    """UNet row passes of one training, for the estimate; a row with gradient counts as 2.5."""
    n = max(parameters.trajectories, n_pairs) if parameters.trajectories else parameters.iterations * parameters.batch / 2
    attacked = max(0, parameters.iterations - parameters.warmup)
    trained = 3 * parameters.iterations + 2.5 * (parameters.iterations + attacked * (parameters.adversarial_steps + (parameters.plain > 0)))
    return n * parameters.steps * 2 + parameters.batch * trained + parameters.iterations * parameters.retained_batch * 3.5
