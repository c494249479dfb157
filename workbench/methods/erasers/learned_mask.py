"""Learned mask: prune the weights that an erasing objective asks for, in the spirit of P-ESD and P-AC (arXiv 2405.16534).

What the paper does in detail could not be read; relaxation, penalty, layers and the loop are our own definitions:
docs/reference/definitions.md#learned-mask.
"""

import time
from contextlib import nullcontext
from typing import Literal

from pydantic import Field

from workbench.methods.erasers._layers import Share
from workbench.study.fields import MOST_GUIDANCE, MOST_ITERATIONS, MOST_RATE, MOST_ROWS, MOST_STEPS, Seed

CITATIONS = ("yang2024pruning",)
MASK = True
NO_PRESET = (
    "what its model, P-ESD (arXiv 2405.16534), was trained with is not known: no code is public, and layers, relaxation, penalty, learning "
    "rate and steps could not be read."
)
KEEP_EVERY = 60.0


class Parameters(Share):
    """What can be set. Defaults are scaled for the emoji model."""

    objective: Literal["esd", "ac"] = Field("esd", description="esd: steer away from the concept; ac: answer as without the concept")
    layers: tuple[Literal["feeds", "reads", "attention"], ...] = Field(
        ("feeds", "reads"),
        min_length=1,
        description="feeds: the weights into ff neurons; reads: those out of them; attention: attn2.to_k, to_v",
    )
    unit: Literal["weight", "neuron"] = Field("weight", description="what has a gate of its own")
    share: float = Field(0.02, gt=0, lt=1, description="share of the gates that is cut in the end, and where the penalty leads")
    group: Literal["layer", "global"] = Field("global", description="gates that compete for this share at the end")
    form: Literal["anchor", "concept", "empty"] = Field("anchor", description="where ESD's target starts, as for the eraser esd")
    eta: float = Field(1.0, ge=0, le=MOST_RATE, description="how far to steer away; for esd")
    retention: float = Field(1.0, ge=0, le=MOST_RATE, description="weight of the change on retained prompts and the empty prompt; 0 = none")
    retained_batch: int = Field(1, ge=1, le=MOST_ROWS, description="rows of each step that ask about retention")
    penalty: float = Field(0.1, ge=0, le=MOST_RATE, description="weight of (expected pruned share / share - 1)^2")
    adversarial_steps: int = Field(0, ge=0, le=MOST_ITERATIONS, description="steps of embedding PGD before each step of the mask; 0 = none")
    adversarial_size: float = Field(
        0.01, gt=0, le=MOST_RATE, description="size of such a step, of each number of the vector put before the words"
    )
    iterations: int = Field(160, ge=1, le=MOST_ITERATIONS, description="optimiser steps")
    learning_rate: float = Field(0.1, gt=0, le=MOST_RATE, description="Adam's, of the logits")
    start: float = Field(
        3.0, ge=-MOST_RATE, le=MOST_RATE, description="logit from which every gate starts; 3 = pruned with probability 0.007"
    )
    guidance: float = Field(3.0, ge=0, le=MOST_GUIDANCE, description="guidance scale of the sampled latents")
    steps: int = Field(20, ge=2, le=MOST_STEPS, description="sampling steps of those latents")
    batch: int = Field(4, ge=1, le=MOST_ROWS, description="latents per optimiser step")
    trajectories: int = Field(32, ge=1, le=MOST_ROWS, description="trajectories (esd) or images (ac) in the pool, at least one a pair")
    seed: Seed = Field(0, description="of the pool, of drawing and of the gates")


def erase(
    model,
    pairs,
    parameters,
    *,
    progress=None,
    retained=(),
    spare=None,
    base=nullcontext,
    kept=lambda name: None,
    keep=lambda name, state: None,
    log=None,
    **context,
):
    """Learn which gates to close; returns {"unet.<name>": bool tensor, True = pruned}. Weights stay as they are.

    loss = L_erase(theta * m) + retention || eps_{theta m}(x_t, t, r) - eps_theta(x_t, t, r) ||^2 + penalty (P / share - 1)^2
    with m hard concrete, P the expected pruned share, and r a retained prompt, a prompt without the concept or the empty one.
    Then the share of the gates with the lowest logits is cut, exactly; weights that are zero already are never counted.

    retained     prompts whose answer shall stay, beside those without the concept
    spare        {layer path: indices} of neurons whose gates stay open; shares are of the other gates
    base         context manager in which the model is the base model, when it is applied over another eraser; it sets the target.
                 nullcontext: the model is the base model as it is, and target and retention share a pass
    kept, keep   what a killed training had reached: kept(name) -> state or None, keep(name, state)
    progress     called with (step, of, "loss …, … % pruned");  log  list that gets (step, erase, retention, expected share), and
                 first, after a kill, the steps before it
    Raises       MethodError when there are no pairs, or nothing is left to cut
    Source       ours; in the spirit of arXiv 2405.16534, hard concrete of 1712.01312
    """
    from workbench.errors import MethodError
    from workbench.methods.erasers._layers import candidates, watched

    if not pairs:
        raise MethodError("A learned mask needs prompts with the concept and their anchors; the study gives none.")
    weights = candidates(model.unet, parameters.layers)
    run = _Run(model, pairs, parameters, retained, base, weights, watched(weights, spare))
    state = kept("mask")
    if state:
        run.restore(state)
        if log is not None:
            log.extend(tuple(row) for row in state.get("log", ()))
    kept_at = time.monotonic()
    while run.step < parameters.iterations:
        losses = run.improve()
        if log is not None:
            log.append((run.step, *losses))
        if time.monotonic() - kept_at >= KEEP_EVERY:
            keep("mask", run.state() | {"log": list(log or ())})
            kept_at = time.monotonic()
        if progress:
            progress(run.step, parameters.iterations, f"loss {losses[0]:.4f}, {100 * losses[2]:.2f} % pruned")
    return binarised(run.gated, parameters.share, parameters.group)


def binarised(gated, share, group):
    """Masks {"unet.<name>": bool, True = pruned} of exactly this share of the gates, lowest logits first, ties by position."""
    from workbench.methods.erasers._layers import cut

    full = {name: gated.weights[name] for name in gated.phi}
    alive = {name: full[name] if gated.unit == "weight" else _ones(gated.phi[name]) for name in full}
    chosen = cut({name: phi.detach() for name, phi in gated.phi.items()}, share, group, alive, spared=gated.spared)
    spread = gated.spread({name.removeprefix("unet."): mask for name, mask in chosen.items()})
    return {f"unet.{name}": mask.clone() for name, mask in spread.items() if mask.any()}


def _ones(phi):
    import torch

    return torch.ones_like(phi)


class _Run:
    def __init__(self, model, pairs, parameters, retained, base, weights, spared=None):
        import torch

        from workbench.methods.erasers import _pool
        from workbench.methods.erasers._gates import Gated
        from workbench.models import text

        self.model, self.parameters, self.base, self.step = model, parameters, base, 0
        self.generator = torch.Generator().manual_seed(parameters.seed)
        n = max(parameters.trajectories, len(pairs))
        with base():
            made = _pool.along_trajectories if parameters.objective == "esd" else _pool.of_images
            self.pool = made(model, pairs, parameters, n)
        self.prompts = [pair[0] for pair in pairs]
        with torch.no_grad():
            others = [*dict.fromkeys([*retained, *(pair[1] for pair in pairs)])]
            self.others = torch.cat([self.pool.empty, text.encode(model, others)])
        self.gated = Gated(model.unet, weights, parameters.unit, parameters.start, spared)
        self.optimiser = torch.optim.Adam(self.gated.phi.values(), lr=parameters.learning_rate, fused=True)

    def state(self):
        return {
            "step": self.step,
            "phi": [phi.detach() for phi in self.gated.phi.values()],
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
        }

    def restore(self, state):
        self.step = state["step"]
        for own, found in zip(self.gated.phi.values(), state["phi"], strict=True):
            own.data.copy_(found)
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])

    def improve(self):
        """One step; (erasing loss, retention loss, expected pruned share) before it."""
        import torch

        settings, model, n = self.parameters, self.model, self.parameters.batch
        drawn = self.pool.draw(model, self.generator, n)
        weights = self.gated.applied(self.gated.drawn(self.generator))
        states = self.pool.concept[drawn.pair]
        if settings.adversarial_steps:
            states = self.attacked(drawn, {name: weight.detach() for name, weight in weights.items()})
        noised, at = drawn.noised, drawn.at
        if settings.retention:
            places = torch.arange(settings.retained_batch) % n
            asked = self.others[torch.randint(len(self.others), places.shape, generator=self.generator)]
            beside = noised[places], at[places], asked
            noised, at, states = (torch.cat(both) for both in zip((noised, at, states), beside, strict=True))
        target, before = self.targets(drawn, weights, beside if settings.retention else None)
        predicted = model.predict(noised, at, states, weights)
        erasing = (predicted[:n] - target).square().mean()
        change = (predicted[n:] - before).square().mean() if settings.retention else torch.zeros(())
        share = self.gated.pruned_share()
        loss = erasing + settings.retention * change + settings.penalty * (share / settings.share - 1).square()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.step += 1
        return erasing.item(), change.item(), share.item()

    def targets(self, drawn, weights, beside):
        """What the objective asks for on the drawn rows, and what the unpruned model says on those beside them (or None)."""
        import torch

        from workbench.methods.erasers import _pool

        settings, before, shared = self.parameters, None, self.parameters.objective == "esd" and self.base is nullcontext
        if beside is not None and not shared:
            with torch.no_grad():
                before = self.model.predict(*beside)
        if settings.objective == "ac":
            with torch.no_grad():
                return self.model.predict(drawn.noised, drawn.at, self.pool.anchor[drawn.pair], weights), before
        with self.base():
            found = _pool.wanted(self.model, self.pool, drawn, settings.form, settings.eta, beside if shared else None)
        return found if beside is not None and shared else (found, before)

    def attacked(self, drawn, weights):
        """Text states with a vector v before the words that wakes the concept in the masked model.

        v <- v - size sign(grad_v || eps_{theta m}(x_t, t, [v, p]) - eps_0(x_t, t, p) ||^2), from a random word's vector
        """
        import torch

        from workbench.models import text

        prompts, model = [self.prompts[pair] for pair in drawn.pair.tolist()], self.model
        with torch.no_grad(), self.base():
            wanted = model.predict(drawn.noised, drawn.at, self.pool.concept[drawn.pair])
        table = text.token_vectors(model).detach()
        v = table[torch.randint(len(table), (len(prompts), 1), generator=self.generator)]
        for _ in range(self.parameters.adversarial_steps):
            v = v.detach().requires_grad_(True)
            predicted = model.predict(drawn.noised, drawn.at, text.encode(model, prompts, v), weights)
            (slope,) = torch.autograd.grad((predicted - wanted).square().sum(), v)
            v = v - self.parameters.adversarial_size * slope.sign()
        with torch.no_grad():
            return text.encode(model, prompts, v.detach())


def passes(parameters, n_pairs, passes_per_image=0):
    """UNet row passes of one training, for the estimate; a row with gradient counts as 2.5."""
    sampled = max(parameters.trajectories, n_pairs) * parameters.steps * 2
    asked = parameters.retained_batch if parameters.retention else 0
    targets = {"esd": 2 if parameters.form == "anchor" else 3, "ac": 1}[parameters.objective]
    attack = (1 + 2.5 * parameters.adversarial_steps) if parameters.adversarial_steps else 0
    return sampled + parameters.iterations * (parameters.batch * (targets + 2.5 + attack) + 3.5 * asked)
