"""Receler: modules behind cross-attention, trained against adversarial prompts, kept to where the concept is (Huang et al. 2024)."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from workbench.study.fields import MOST_GUIDANCE, MOST_ITERATIONS, MOST_RATE, MOST_ROWS, MOST_STEPS, Seed
from workbench.study.published import Published

CITATIONS = ("huang2024receler",)
PUBLISHED = Published(
    source="jasper0314-huang/Receler, train_receler.py at 3ccedc9",
    values={
        "rank": 128,
        "form": "empty",
        "iterations": 500,
        "learning_rate": 3e-4,
        "eta": 1.0,
        "adversarial_steps": 50,
        "adversarial_tokens": 16,
        "adversarial_rate": 0.1,
        "plain": 0.0,
        "locality": 0.1,
        "mask_threshold": 0.1,
        "mask_size": 16,
        "guidance": 3.0,
        "steps": 50,
        "batch": 1,
        "trajectories": 0,
    },
    ours=("seed",),
    differs=(
        "their latents are sampled by the model in training, and their timestep is drawn within the step's span; here with "
        "trajectories = 0 by the model in training at the step's own timestep, else by the base model",
        "their only prompt is the name of the concept; of several pairs one is drawn for every latent, and each has an adversarial text",
    ),
)


class Parameters(BaseModel):
    """What can be set. Defaults are scaled for the emoji model; the published ones for SD 1.x stand in each field."""

    model_config = ConfigDict(extra="forbid")

    rank: int = Field(16, ge=1, le=4096, description="width of the added modules; SD: 128")
    form: Literal["anchor", "concept", "empty"] = Field(
        "anchor", description="where the target starts: at the anchor prompt (ours), the concept, the empty prompt (published)"
    )
    iterations: int = Field(120, ge=1, le=MOST_ITERATIONS, description="optimiser steps of the modules; SD: 500")
    learning_rate: float = Field(3e-3, gt=0, le=MOST_RATE, description="Adam's; SD: 3e-4")
    eta: float = Field(1.0, ge=0, le=MOST_RATE, description="how far to steer away; SD: 1")
    adversarial_steps: int = Field(
        4, ge=1, le=MOST_ITERATIONS, description="steps of the adversarial text before each step of the modules; SD: 50"
    )
    adversarial_tokens: int = Field(4, ge=1, le=64, description="text states after the words that are adversarial; SD: 16")
    adversarial_rate: float = Field(0.1, gt=0, le=MOST_RATE, description="Adam's, of these states; SD: 0.1")
    plain: float = Field(
        1.0, ge=0, le=MOST_RATE, description="weight of the same loss on the prompt without adversarial states (ours); published: 0"
    )
    locality: float = Field(0.1, ge=0, le=MOST_RATE, description="weight of what the modules add away from the concept; SD: 0.1")
    mask_threshold: float = Field(
        0.1, ge=0, le=1, description="the concept is where its words get this share of the attention, between least and most; SD: 0.1"
    )
    mask_size: int = Field(16, ge=1, le=256, description="side of the attention maps that say where it is, or the nearest there is; SD: 16")
    guidance: float = Field(3.0, ge=0, le=MOST_GUIDANCE, description="guidance scale of the sampled latents; SD: 3")
    steps: int = Field(20, ge=2, le=MOST_STEPS, description="sampling steps of those latents; SD: 50")
    batch: int = Field(4, ge=1, le=MOST_ROWS, description="latents per optimiser step; SD: 1")
    trajectories: int = Field(
        32, ge=0, le=MOST_ROWS, description="sampled trajectories in the pool, at least one a pair; SD: 0, a new one for every latent"
    )
    seed: Seed = Field(0, description="of the modules, of trajectories and of drawing")


def learns_from(parameters):
    """Sides of the pairs it learns from: the anchors only where its target starts at them."""
    return ("prompt", "anchor") if parameters.form == "anchor" else ("prompt",)


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
    """Train the modules and return them as a Change; the model itself is left as it was.

    Behind every attn2 with output y stands E(y) = up(gelu(down(y))), up 0 at the start. For latents x_t of the concept c:

    loss     = L(c*) + plain L(c) + locality R,   L(p) = || eps_E(x_t, t, p) - sg[eps_0(start) - eta (eps_0(c) - eps_0(without))] ||^2
    R        = mean over layers of  sum over places outside M of mean_channel E(y)^2 / number of these places
    c*       = c with its text states after the words replaced by v; v takes `adversarial_steps` of Adam on
               || eps_E(x_t, t, c*) - eps_0(x_t, t, c) ||^2
    M        = places where the attention to the words of the concept, mean over heads, words and the layers of one size, brought to
               [0, 1], is at least the threshold; the words are those of the prompt that its anchor has not, or all

    pairs        [(prompt with the concept, the same without it)]
    kept, keep   what a killed training had reached: kept(name) -> state or None, keep(name, state)
    progress     called with (step, of, loss);  log  list that gets (step, loss)
    Raises       MethodError when there are no pairs, a prompt leaves no room for adversarial states, or no cross-attention is there
    Source       arXiv 2311.17717 and its public code
    """
    from workbench.errors import MethodError
    from workbench.methods.erasers._receler import Training
    from workbench.methods.erasers._training import with_checkpoints
    from workbench.models.changes import Change

    if not pairs:
        raise MethodError("Receler needs prompts with the concept and their anchors; the study gives none.")
    training = Training(model, pairs, parameters)
    with_checkpoints(training, "modules", parameters.iterations, progress, kept, keep, log)
    tensors = {name: value.detach().float().cpu().clone() for name, value in training.tensors.items()}
    return Change("adapter", {"rank": parameters.rank}, tensors)


def passes(parameters, n_pairs, passes_per_image=0):
    """UNet row passes of one training, for the estimate; a row with gradient counts as 2.5."""
    n = max(parameters.trajectories, n_pairs) if parameters.trajectories else parameters.iterations * parameters.batch / 2
    return n * parameters.steps * 2 + parameters.iterations * parameters.batch * (
        3 + 2.5 * (parameters.adversarial_steps + 1 + (parameters.plain > 0))
    )
