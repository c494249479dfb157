"""CAD: prune the weights whose removal, to first order, erases the concept or amplifies it."""

from typing import Literal

from pydantic import Field

from workbench.methods.erasers._layers import Share
from workbench.study.fields import MOST_GUIDANCE, MOST_ROWS, MOST_STEPS, Seed
from workbench.study.published import Published

CITATIONS = ("nguyen2024unveiling",)
MASK = True
VERSION = 2  # 1 rounded the number of weights
PUBLISHED = Published(
    source="mail-research/CAD-attribution4diffusion at 18b257e, defaults of its scripts; arXiv 2412.02542",
    values={"form": "erase", "layers": ("feeds", "reads"), "share": 0.001, "group": "row", "steps": 50, "guidance": 3.0}
    | {"trajectories": 1},
    unknown={"draws": "of the form amplify, which takes real images of the concept"},
    ours=("seed",),
    differs=(
        "they sample a new trajectory for every step, here one trajectory gives a latent at each of its steps",
        "they give the latent after a step the timestep of that step, one too noisy; here its own",
        "they sample with DDIM in half precision, here with the model's own scheduler in the study's dtype",
    ),
)


class Parameters(Share):
    """What can be set."""

    form: Literal["erase", "amplify"] = Field(
        "erase", description="what removing the weights should do; amplify is the counter-test: the concept should get stronger"
    )
    layers: tuple[Literal["feeds", "reads", "attention"], ...] = Field(
        ("feeds", "reads"), min_length=1, description="layers searched; published: both ff layers"
    )
    share: float = Field(0.001, gt=0, lt=1, description="share of the weights that is cut, at most; published: 0.001")
    group: Literal["row", "layer", "global"] = Field(
        "layer",
        description="weights that compete for this share; published: row, or layer, there called global; global: all layers together, ours",
    )
    steps: int = Field(20, ge=2, le=MOST_STEPS, description="sampling steps; published: 50")
    guidance: float = Field(3.0, ge=0, le=MOST_GUIDANCE, description="guidance scale while sampling; published: 3")
    trajectories: int = Field(8, ge=1, le=MOST_ROWS, description="trajectories (erase) or images (amplify), at least one a pair")
    draws: int = Field(20, ge=1, le=MOST_ROWS, description="noise levels drawn of each image; for amplify only")
    seed: Seed = Field(0, description="of the trajectories and drawing")


def learns_from(parameters):
    """Sides of the pairs it learns from."""
    return ("prompt",)


def attribution(model, weights, losses):
    """{name: alpha = w dJ/dw} of J, the sum of these losses; J(w removed) - J is about -alpha.

    losses   functions of {name: weight}, each a scalar; gradients are added over them
    """
    import torch

    own = {name: weight.clone().requires_grad_(True) for name, weight in weights.items()}
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for loss in losses:
        for (name, one), slope in zip(own.items(), torch.autograd.grad(loss(own), own.values()), strict=True):
            total[name] += one.detach() * slope
    return total


def erase(model, pairs, parameters, *, progress=None, like=None, spare=None, **context):
    """Mask the weights with the largest alpha > 0; returns {"unet.<name>": bool tensor, True = pruned}.

    J = || sg[eps(x_t, t, null)] - eps(x_t, t, c) ||^2 on trajectories of c (erase), || eps - eps(x_t, t, c) ||^2 on the base
    model's images of c (amplify), summed over latent elements and added over calls. Removing alpha > 0 lowers J: less concept in
    the first, a better model of the concept in the second. Weights of the wrong sign are never cut, so it may be fewer than the
    int(share * n) of a row or a layer of n weights. Each latent is asked about at its own timestep; the authors' code gives the
    latent after a step the timestep of that step, one too noisy.

    like       a mask: cut as many weights of each of its layers
    spare      {layer path: indices} of neurons whose weights are never cut
    Raises     MethodError when there are no pairs
    Source     arXiv 2412.02542, written from the formula; counts, group and sign after a description of its code
    """
    import torch

    from workbench.errors import MethodError
    from workbench.methods.erasers._layers import candidates, cut, watched
    from workbench.methods.erasers._pool import along_trajectories, of_images

    if not pairs:
        raise MethodError("CAD needs prompts with the concept; the study gives none.")
    weights, n = candidates(model.unet, parameters.layers), max(parameters.trajectories, len(pairs))
    if parameters.form == "erase":
        pool = along_trajectories(model, pairs, parameters, n)
        n_losses = len(pool.timesteps)
    else:
        pool = of_images(model, [(pair[0], pair[0]) for pair in pairs], parameters, n)
        n_losses = parameters.draws
    generator, states = torch.Generator().manual_seed(parameters.seed), pool.concept[pool.owner]

    def at_call(call):
        def loss(own):
            if progress:
                progress(call + 1, n_losses, "noise levels")
            if parameters.form == "erase":
                noised, at = pool.latents[:, call], pool.timesteps[call].expand(len(states)).to(model.device)
                with torch.no_grad():
                    target = model.predict(noised, at, pool.empty.expand(len(states), -1, -1))
            else:
                drawn = pool.draw(model, generator, len(states))
                noised, at, target = drawn.noised, drawn.at, drawn.noise
            shown = states if parameters.form == "erase" else pool.concept[drawn.pair]
            return (target - model.predict(noised, at, shown, own)).square().sum()

        return loss

    alpha = attribution(model, weights, [at_call(call) for call in range(n_losses)])
    scores, spared = {name: -one for name, one in alpha.items()}, watched(weights, spare)
    masks = cut(scores, parameters.share, parameters.group, weights, like, spared, whole=int)
    if like is None:
        masks = {name: mask & (alpha[name.removeprefix("unet.")].cpu() > 0) for name, mask in masks.items()}
    return masks


def passes(parameters, n_pairs, passes_per_image=0):
    """UNet row passes of attributing, for the estimate; a row with gradient counts as 2.5."""
    n = max(parameters.trajectories, n_pairs)
    at_noise = parameters.steps * 3.5 if parameters.form == "erase" else parameters.draws * 2.5
    return n * (2 * parameters.steps + at_noise)
