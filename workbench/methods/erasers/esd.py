"""ESD: fine-tune until the model steers away from the concept by itself (Gandikota et al. 2023, arXiv 2303.07345)."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from workbench.study.fields import MOST_GUIDANCE, MOST_ITERATIONS, MOST_RATE, MOST_ROWS, MOST_STEPS, Seed
from workbench.study.published import Published

CITATIONS = ("gandikota2023erasing",)
PUBLISHED = Published(
    source="rohitgandikota/erasing, esd_sd.py at 25613d2; of 2023: train-esd.py at a2189e9; which modules for which task: arXiv 2303.07345",
    values={"form": "concept", "iterations": 200, "learning_rate": 5e-5, "eta": 2.0, "guidance": 3.0, "steps": 50, "batch": 1}
    | {"trajectories": 0},
    tasks={"style": {"modules": "x"}, "object": {"modules": "u"}, "nudity": {"modules": "u"}}
    | {
        f"{task}-2023": {"modules": modules, "form": "empty", "iterations": 1000, "learning_rate": 1e-5, "eta": 1.0}
        for task, modules in {"style": "x", "object": "u", "nudity": "u"}.items()
    },
    ours=("seed",),
    differs=(
        "their script of 2024 trains in bfloat16 on 1024 x 1024 latents, here in the study's dtype at the model's own size",
        "their code of 2023 samples the latents with the model in training and draws a new timestep within the step's span, here the "
        "base model at the step's own timestep",
        "of several pairs one is drawn for every latent; theirs has one prompt",
    ),
)


class Parameters(BaseModel):
    """What can be set. Defaults are scaled for the emoji model; the published ones for SD 1.x stand in each field."""

    model_config = ConfigDict(extra="forbid")

    modules: Literal["x", "u", "x-strict", "all"] = Field(
        "x", description="x: all cross-attention (attn2); u: all other layers; x-strict: attn2.to_k and to_v; all: x and u"
    )
    form: Literal["anchor", "concept", "empty", "erase_from"] = Field(
        "anchor",
        description="where the target starts: at the anchor prompt (ours), at the concept (2024 code), at the empty prompt (2023); from: "
        "the 2024 code with `erase_from` set to the anchor: latents, start of the target and training are all at the anchor",
    )
    iterations: int = Field(160, ge=1, le=MOST_ITERATIONS, description="optimiser steps; SD: 200 (2024) or 1000 (2023)")
    learning_rate: float = Field(1e-3, gt=0, le=MOST_RATE, description="Adam's; SD: 5e-5 (2024) or 1e-5 (2023)")
    eta: float = Field(1.0, ge=0, le=MOST_RATE, description="how far to steer away; SD: 2 (2024) or 1 (2023)")
    guidance: float = Field(3.0, ge=0, le=MOST_GUIDANCE, description="guidance scale of the sampled latents; SD: 3")
    steps: int = Field(20, ge=2, le=MOST_STEPS, description="sampling steps of those latents; SD: 50")
    batch: int = Field(4, ge=1, le=MOST_ROWS, description="latents per optimiser step; SD: 1")
    trajectories: int = Field(
        32,
        ge=0,
        le=MOST_ROWS,
        description="sampled trajectories in the pool from which latents are drawn, at least one a pair; SD: 0, a new one for every latent",
    )
    seed: Seed = Field(0, description="of trajectories and drawing")


def learns_from(parameters):
    """Sides of the pairs it learns from: the anchors only where its target starts at them."""
    return ("prompt", "anchor") if parameters.form in ("anchor", "erase_from") else ("prompt",)


def trained_names(unet, modules):
    """Parameter names (without the `unet.` prefix) that a choice of modules trains."""
    names = [name for name, _ in unet.named_parameters()]
    if modules == "x":
        return [name for name in names if ".attn2." in name]
    if modules == "x-strict":
        return [name for name in names if ".attn2.to_k." in name or ".attn2.to_v." in name]
    kinds = dict(unet.named_modules())
    linear_or_conv = lambda n: type(kinds[n.rpartition(".")[0]]).__name__ in ("Linear", "Conv2d")  # noqa: E731
    return [name for name in names if (modules == "all" or ".attn2." not in name) and linear_or_conv(name)]


def n_trajectories(parameters, n_pairs):
    """Size of the pool: what was asked for, and one trajectory for every pair, so that no name is left out; 0 without a pool."""
    return max(parameters.trajectories, n_pairs) if parameters.trajectories else 0


def check_training(parameters, pairs):
    """MethodError when an anchor to erase from is empty."""
    from workbench.errors import MethodError

    empty = [pair[0] for pair in pairs if parameters.form == "erase_from" and not pair[1].strip()]
    if empty:
        raise MethodError(
            f'form = "erase_from" erases the concept from the anchor of each pair; the pair of "{empty[0]}" has none. Give the prompt to '
            "erase from in the column `anchor` of prompts.erase."
        )


def erase(
    model,
    pairs,
    parameters,
    *,
    progress=None,
    kept=lambda name: None,
    keep=lambda name, state: None,
    **context,
):
    """Train and return {"unet.<name>": tensor}; the model itself is left as it was.

    loss = || eps(x_t, t, c) - sg[eps_0(start) - eta (eps_0(c) - eps_0(without))] ||^2,  x_t on base trajectories of c

    With form = "erase_from" the anchor a takes the place of c in eps(x_t, t, c) and in the trajectories:
    loss = || eps(x_t, t, a) - sg[eps_0(a) - eta (eps_0(c) - eps_0(empty))] ||^2,  x_t on base trajectories of a

    pairs        [(prompt with the concept, the same without it)]
    kept, keep   what a killed training had reached: kept(name) -> state or None, keep(name, state)
    progress     called with (step, of, loss)
    Raises       MethodError when there are no pairs, no parameter matches, or an anchor to erase from is empty
    Source       arXiv 2303.07345 and its public code
    """
    import torch

    from workbench.errors import MethodError
    from workbench.methods.erasers._pool import along_trajectories, anew, wanted
    from workbench.methods.erasers._training import fine_tuned

    if not pairs:
        raise MethodError("ESD needs prompts with the concept and their anchors; the study gives none.")
    check_training(parameters, pairs)
    side = "anchor" if parameters.form == "erase_from" else "concept"
    generator = torch.Generator().manual_seed(parameters.seed)
    n = n_trajectories(parameters, len(pairs))
    pool = along_trajectories(model, pairs, parameters, n, side) if n else anew(model, pairs, parameters, side)

    names = trained_names(model.unet, parameters.modules)
    if not names:
        raise MethodError(f'No parameter of this UNet belongs to the modules "{parameters.modules}".')

    def loss_of(weights):
        drawn = pool.draw(model, generator, parameters.batch)
        target = wanted(model, pool, drawn, parameters.form, parameters.eta)
        return (model.predict(drawn.noised, drawn.at, getattr(pool, side)[drawn.pair], weights) - target).square().mean()

    return fine_tuned(model, names, parameters, loss_of, progress, generator=generator, kept=kept, keep=keep)


def passes(parameters, n_pairs, passes_per_image=0):
    """UNet row passes of one training, for the estimate; a row with gradient counts as 2.5."""
    n = n_trajectories(parameters, n_pairs) or parameters.iterations * parameters.batch / 2  # half a trajectory a draw, on average
    return n * parameters.steps * 2 + parameters.iterations * parameters.batch * (3 + 2.5)
