"""STEREO: erase and attack by turns to find vectors that still show the concept, then erase once against all (Srivatsan et al. 2025)."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from workbench.study.fields import MOST_GUIDANCE, MOST_ITERATIONS, MOST_RATE, MOST_ROWS, MOST_STEPS, Seed
from workbench.study.published import Published

CITATIONS = ("srivatsan2025stereo",)
PUBLISHED = Published(
    source="koushiksrivats/robust-concept-erasing at 86f124f: the command for nudity in its README, and Algorithm 1 on its project page. "
    "Its code has no licence and was not read",
    values={"rounds": 2, "eta": 2.0},
    tasks={"nudity": {"modules": "u", "images": 500}},
    unknown={
        name: "it is not stated where the method is described."
        for name in ("erase_iterations", "learning_rate", "search_iterations", "search_rate", "vectors", "iterations", "batch")
    }
    | {name: "how the images of the concept are sampled is not stated." for name in ("guidance", "steps")},
    ours=("seed",),
    differs=(
        "our reading of Algorithm 1: in a later round of the search rows ask with the concept or with any vector found before, and the "
        "vectors replace the words that the anchor has not; the last erasing leads away from the vectors without other words",
        "their images are given by the user, with prompts of their own; here the base model draws them from the erasing pairs",
        "they take the mean over several anchors for one concept, here each row has the anchor of its own pair",
        "their search begins at a word that the user gives, here at a random word",
    ),
)


class Parameters(BaseModel):
    """What can be set. Defaults are scaled for the emoji model; the published ones for SD 1.x stand in each field where known."""

    model_config = ConfigDict(extra="forbid")

    modules: Literal["x", "u", "x-strict", "all"] = Field(
        "x", description="x: all cross-attention (attn2); u: all other layers; x-strict: attn2.to_k and to_v; all: x and u"
    )
    rounds: int = Field(2, ge=1, le=64, description="how often it erases and searches before it erases once more; SD: 2")
    erase_iterations: int = Field(40, ge=1, le=MOST_ITERATIONS, description="optimiser steps of the erasing in each round")
    search_iterations: int = Field(80, ge=1, le=MOST_ITERATIONS, description="optimiser steps of the search in each round")
    search_rate: float = Field(0.02, gt=0, le=MOST_RATE, description="Adam's, of the vectors")
    vectors: int = Field(1, ge=1, le=16, description="vectors that replace the name of the concept, learned in each round")
    iterations: int = Field(200, ge=1, le=MOST_ITERATIONS, description="optimiser steps of the last erasing, which begins at the model")
    learning_rate: float = Field(1e-3, gt=0, le=MOST_RATE, description="Adam's, of the weights")
    eta: float = Field(1.5, ge=0, le=MOST_RATE, description="how far to steer to the anchor and away from the concept; SD: 2")
    guidance: float = Field(3.0, ge=0, le=MOST_GUIDANCE, description="guidance scale of the images of the concept")
    steps: int = Field(20, ge=2, le=MOST_STEPS, description="sampling steps of these images")
    batch: int = Field(4, ge=1, le=MOST_ROWS, description="latents per optimiser step")
    images: int = Field(32, ge=1, le=MOST_ROWS, description="images of the concept, at least one a pair; SD: 500")
    seed: Seed = Field(0, description="of the images, of the vectors and of drawing")


def learns_from(parameters):
    """Sides of the pairs it learns from: both, for the last erasing steers to the anchors."""
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

    Search, `rounds` times, each from the weights theta* that the one before ended with:
    erase    || eps(x_t, t, q) - sg[eps*(empty) - eta (eps*(q) - eps*(empty))] ||^2, q the concept or a prompt with a vector found before
    attack   v = argmin || eps(x_t, t, p(v)) - noise ||^2,  p(v) the prompt with v instead of the concept
    Then once, from the weights of the model:
    loss     || eps(x_t, t, q) - sg[eps_0(empty) + eta (eps_0(a) - eps_0(empty)) - eta mean_v (eps_0(v) - eps_0(empty))] ||^2

    x_t are noised images of the concept by the model, q is drawn for every row, a is the anchor of its pair. v stands without other
    words, so that the last erasing does not lead away from what p and a share.

    pairs        [(prompt with the concept, the same without it)]
    kept, keep   what a killed training had reached: kept(name) -> state or None, keep(name, state)
    progress     called with (step, of, loss);  log  list that gets (step, loss), of all stages after one another
    Raises       MethodError when there are no pairs, or no parameter belongs to the modules
    Source       arXiv 2408.16807: Algorithm 1 on the authors' project page; what is our reading stands in PUBLISHED.differs
    """
    from workbench.errors import MethodError
    from workbench.methods.erasers._stereo import Training
    from workbench.methods.erasers._training import with_checkpoints
    from workbench.methods.erasers.esd import trained_names

    if not pairs:
        raise MethodError("STEREO needs prompts with the concept and their anchors; the study gives none.")
    names = trained_names(model.unet, parameters.modules)
    if not names:
        raise MethodError(f'No parameter of this UNet belongs to the modules "{parameters.modules}".')
    training = Training(model, pairs, names, parameters)
    with_checkpoints(training, "stereo", n_steps(parameters), progress, kept, keep, log)
    return {f"unet.{name}": weight.detach() for name, weight in training.weights.items()}


def n_steps(parameters):
    """Optimiser steps of all stages together."""
    return parameters.rounds * (parameters.erase_iterations + parameters.search_iterations) + parameters.iterations


def passes(parameters, n_pairs, passes_per_image=0):
    """UNet row passes of one training, for the estimate; a row with gradient counts as 2.5."""
    images = max(parameters.images, n_pairs) * parameters.steps * 2
    searching = parameters.rounds * (parameters.erase_iterations * (2 + 2.5) + parameters.search_iterations * 2.5)
    return images + parameters.batch * (searching + parameters.iterations * (2 + parameters.rounds + 2.5))
