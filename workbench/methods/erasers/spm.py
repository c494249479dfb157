"""SPM: membranes of rank 1 on the attention blocks, as strong as a prompt is close to the concept (Lyu et al. 2024)."""

from typing import Literal

from pydantic import Field

from workbench.study.fields import MOST_GUIDANCE, MOST_ITERATIONS, MOST_RATE, MOST_ROWS, MOST_STEPS, Seed, StudyTable
from workbench.study.published import Published

CITATIONS = ("lyu2024one",)
PUBLISHED = Published(
    source="Con6924/SPM at 7dcfd21 and the paper: rank 1, 3,000 iterations, the latent anchoring of weight 1,000",
    values={
        "rank": 1,
        "alpha": 1.0,
        "form": "empty",
        "iterations": 3000,
        "learning_rate": 1e-4,
        "eta": 1.0,
        "anchoring": 1000.0,
        "guidance": 3.0,
        "trajectories": 0,
        "batch": 1,
    },
    unknown={"steps": "it stands in configurations of single concepts", "seed": "none is stated"},
    ours=("prompts",),
    differs=(
        "trained with AdamW where theirs is AdamW of 8 bits",
        "anchors are the prompts to retain, or those of the pairs, where theirs are drawn from words far from the concept",
        "each branch of guidance has the strength of its own text, where theirs have that of the image's prompt",
    ),
)


class Parameters(StudyTable):
    """What can be set."""

    rank: int = Field(1, ge=1, le=1024, description="rank of a membrane; SD: 1")
    alpha: float = Field(1.0, gt=0, le=1024, description="a membrane counts alpha / rank; SD: 1")
    prompts: list[str] = Field([], max_length=100, description="texts that the strength is found by; default: the prompts of the pairs")
    form: Literal["anchor", "concept", "empty"] = Field(
        "anchor",
        description="what is predicted instead: the anchor's noise (ours), or ESD's from the concept or the empty prompt; SD: empty",
    )
    iterations: int = Field(200, ge=1, le=MOST_ITERATIONS, description="optimiser steps; SD: 3,000")
    learning_rate: float = Field(3e-3, gt=0, le=MOST_RATE, description="of AdamW; SD: 1e-4")
    eta: float = Field(1.0, ge=0, le=MOST_GUIDANCE, description="strength of the negative guidance; SD: 1")
    anchoring: float = Field(1.0, ge=0, le=1e6, description="weight of what must not change on other prompts; SD: 1,000")
    guidance: float = Field(3.0, ge=0, le=MOST_GUIDANCE, description="guidance scale of the sampled latents; SD: 3")
    steps: int = Field(20, ge=2, le=MOST_STEPS, description="sampling steps of those latents")
    batch: int = Field(4, ge=1, le=MOST_ROWS, description="latents per optimiser step; SD: 1")
    trajectories: int = Field(
        32, ge=0, le=MOST_ROWS, description="sampled trajectories in the pool, at least one a pair; SD: 0, a new one for every latent"
    )
    seed: Seed = Field(0, description="of the membranes, of trajectories and of drawing")


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
    """Train the membranes and return them as a Change; the model itself is left as it was.

    y        = W x + m alpha / rank U D x   in every Linear and Conv2d of the attention blocks;  m = 1 in training
    loss     = || eps_m(x_t, t, c) - [eps_0(start) - eta (eps_0(c) - eps_0(without))] ||^2
               + anchoring || eps_m(x_t, t, a) - eps_0(x_t, t, a) ||^2

    c concept, a a prompt to retain (an anchor of the pairs where there are none). Afterwards m depends on the prompt: `membrane.Transport`.

    pairs        [(prompt with the concept, the same without it)]
    kept, keep   what a killed training had reached: kept(name) -> state or None, keep(name, state)
    progress     called with (step, of, loss);  log  list that gets (step, loss)
    Raises       MethodError when there are no pairs, or a prompt of the concept has a comma
    Source       arXiv 2312.16145 and its public code
    """
    from workbench.errors import MethodError
    from workbench.methods.erasers._spm import Training
    from workbench.methods.erasers._training import with_checkpoints
    from workbench.models.changes import spm_files

    if not pairs:
        raise MethodError("SPM needs prompts with the concept and their anchors; the study gives none.")
    prompts = parameters.prompts or list(dict.fromkeys(prompt for prompt, _ in pairs))
    several = next((prompt for prompt in prompts if "," in prompt), None)
    if several is not None:
        raise MethodError(f'"{several}": the header of SPM\'s file separates prompts by commas. Give `prompts` without them.')
    others = list(retained) or [anchor for _, anchor in pairs]
    training = Training(model, pairs, parameters, others)
    with_checkpoints(training, "membranes", parameters.iterations, progress, kept, keep, log)
    tensors = {name: value.detach().float().cpu().clone() for name, value in training.tensors.items()}
    return spm_files.made(model, prompts, parameters.rank, parameters.alpha, tensors)


def passes(parameters, n_pairs, passes_per_image=0):
    """UNet row passes of one training, for the estimate; a row with gradient counts as 2.5."""
    n = max(parameters.trajectories, n_pairs) if parameters.trajectories else parameters.iterations * parameters.batch / 2
    return n * parameters.steps * 2 + parameters.iterations * parameters.batch * (3 + 2.5 * (1 + (parameters.anchoring > 0)))
