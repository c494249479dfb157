"""Targets: the scalar that attribution and one-step ablation explain, one value per row of predicted noise.

Formulas: docs/reference/definitions.md#targets.

T1 Quadratic   || eps(P) - eps(null) ||^2                                    CAD's; fades in every neuron at once when the concept does
T2 Linear      < eps(P) - eps(ref), d > / ||d||^2,  d = eps_0(tgt) - eps_0(ref)      the default; base x target = 1
T3 Denoising   || noise - eps(null) ||^2 - || noise - eps(P) ||^2            needs concept images
T4 Detected    the detector's logit on x0hat = (x_t - sqrt(1 - abar) eps) / sqrt(abar)      low and middle noise only

A target is made once, and bound to each batch of rows that share one UNet call: target.at(model, batch) -> Bound. What it
compares with (the other prompt) is predicted then, ungated and without gradient, by the model as it is; `setup` says how many
UNet passes per item that takes.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch

from workbench.errors import MethodError

LEAST_SIGNAL = 0.1


@dataclass
class Batch:
    """Rows of one UNet call.

    prompt   (row,) long, positions in the prompt set
    inputs   (row, channel, height, width) UNet inputs x_t
    states   (row, token, channel) text states, by the model that is attributed
    """

    call: int
    timestep: float
    prompt: torch.Tensor
    inputs: torch.Tensor
    states: torch.Tensor

    def __len__(self):
        return len(self.prompt)


@dataclass
class Items:
    """What is attributed: each prompt at each kept call, on given inputs (shared regime).

    trajectory   inputs (prompt, call, channel, height, width), calls, timesteps
    states       (prompt, token, channel) text states, by the model that is attributed
    units        (prompt,) names; prompts of one unit are averaged before anything is resampled
    """

    trajectory: object
    states: torch.Tensor
    units: list

    def __post_init__(self):
        if not len(self.states) == len(self.units) == len(self.trajectory.inputs):
            raise MethodError(
                f"{len(self.states)} text states, {len(self.units)} units and inputs of {len(self.trajectory.inputs)} prompts do not "
                "pair; give one of each per prompt."
            )
        if not len(self.units) or not len(self.trajectory.calls):
            raise MethodError("Nothing to attribute: at least one prompt and one call are needed.")

    def __len__(self):
        return len(self.units)

    def batches(self, prompts):
        """One Batch per call, of these prompts (positions)."""
        prompts = torch.as_tensor(prompts)
        for position, (call, timestep) in enumerate(zip(self.trajectory.calls, self.trajectory.timesteps, strict=True)):
            yield Batch(call, timestep, prompts, self.trajectory.inputs[prompts, position], self.states[prompts])


def predict(model, batch, states, item=slice(None)):
    """Noise that the model predicts for rows of a batch under other text states (row, token, channel); (row, ...)."""
    inputs = batch.inputs[item].to(model.device, model.dtype)
    timestep = torch.tensor(batch.timestep, device=model.device)
    return model.predict(inputs, timestep, states.to(model.device, model.dtype))


@dataclass
class Bound:
    """A target on one batch.

    name      as in every result
    n_rows    rows of the batch
    formula   (eps, other eps, row) -> (row,)
    other     (row, token, channel) text states of the prompt it compares with; None = it compares with none
    fixed     (row, channel, height, width) noise of that prompt, ungated
    """

    name: str
    n_rows: int
    formula: Callable
    other: torch.Tensor | None = None
    fixed: torch.Tensor | None = None

    def value(self, eps, row=None, other=None):
        """The scalar of each row of predicted noise (row, channel, height, width); (row,).

        row     (row,) long, which row of the batch each belongs to; None = the batch in order, repeated whole
        other   the other prompt's noise, where it is gated too; None = the fixed one
        """
        if row is None:
            row = torch.arange(len(eps), device=eps.device) % self.n_rows
        if other is None and self.fixed is not None:
            other = self.fixed[row]
        return self.formula(_wide(eps), other if other is None else _wide(other), row)


class Quadratic:
    """T1: how much the prompt changes the noise at all, summed over latent elements; empty (1, token, channel)."""

    name, setup = "T1 J_quad", 1

    def __init__(self, empty):
        self.empty = empty

    def at(self, model, batch):
        """Bind to a batch."""
        return _bound(self.name, model, batch, self.empty.expand(len(batch), -1, -1), lambda eps, other, row: _norm(eps - other))


class Linear:
    """T2: how far the prompt goes along the base model's concept direction at the same x_t and t.

    reference        (prompt, token, channel) text states by the attributed model
    base_target, base_reference    the same prompts by the base model; they define d for every model and prompt set
    base             opens a context in which the model computes with the base model's weights
    """

    name, setup = "T2 J_lin", 3

    def __init__(self, reference, base_target, base_reference, base=nullcontext):
        self.reference, self.base_target, self.base_reference, self.base = reference, base_target, base_reference, base

    def at(self, model, batch):
        """Bind to a batch; MethodError where the concept does not change the base model's prediction."""
        scaled = self.direction(model, batch)

        def formula(eps, other, row):
            return ((eps - other) * scaled[row]).flatten(1).sum(1)

        return _bound(self.name, model, batch, self.reference[batch.prompt], formula)

    def direction(self, model, batch):
        """d / |d|^2 of each row (row, channel, height, width), which no attributed model changes."""
        with torch.no_grad(), self.base():
            target, reference = (predict(model, batch, s[batch.prompt]) for s in (self.base_target, self.base_reference))
        return concept_direction(target, reference, batch.call, batch.prompt)


def concept_direction(target, reference, call, prompt):
    """d / |d|^2 (row, channel, height, width) of T2: d is the base model's noise for the target prompt minus that for its reference.

    Raises   MethodError that names the call and the prompt (of `prompt` (row,)) where d is 0
    """
    direction = _wide(target) - _wide(reference)
    size = _norm(direction)
    if not (size > 0).all():
        raise MethodError(
            f"At call {call} the base model predicts the same noise for target and reference of prompt "
            f"{int(prompt[int((size <= 0).nonzero()[0])])}; T2 has no direction. Is the concept in the target prompt?"
        )
    return direction / size[:, None, None, None]


class Denoising:
    """T3: how much better the prompt denoises an image of the concept than the empty prompt does.

    noise    (prompt, channel, height, width) that was added to the clean latents to make the inputs
    empty    (1, token, channel); None leaves out the empty prompt's term
    """

    name = "T3 J_den"

    def __init__(self, noise, empty=None):
        self.noise, self.empty, self.setup = noise, empty, 0 if empty is None else 1

    def at(self, model, batch):
        """Bind to a batch."""
        noise = _wide(self.noise[batch.prompt].to(model.device))
        if self.empty is None:
            return Bound(self.name, len(batch), lambda eps, other, row: -_norm(noise[row] - eps))
        states = self.empty.expand(len(batch), -1, -1)
        return _bound(self.name, model, batch, states, lambda eps, other, row: _norm(noise[row] - other) - _norm(noise[row] - eps))


class Detected:
    """T4: what a differentiable detector says of the image the model is heading for.

    logit          images (row, 3, height, width) in [0, 1] -> (row,); see `detector_logit`
    least_signal   lowest abar_t at which x0hat is an image worth judging [our definition]
    """

    name, setup = "T4 J_det", 0

    def __init__(self, logit, least_signal=LEAST_SIGNAL):
        self.logit, self.least_signal = logit, least_signal

    def at(self, model, batch):
        """Bind to a batch; MethodError where there is too much noise."""
        abar = float(model.signal(batch.timestep, torch.zeros(())))
        if abar < self.least_signal:
            raise MethodError(
                f"T4 was asked for at call {batch.call}, where abar = {abar:.3g}: x0hat is still noise. "
                f"Choose later calls (abar >= {self.least_signal:g}), or T2, which works at every call."
            )
        noised = batch.inputs.to(model.device, model.dtype)

        def formula(eps, other, row):
            clean = (noised[row] - (1 - abar) ** 0.5 * eps) / abar**0.5
            return self.logit(model.decode_with_gradient(clean).clamp(0, 1))

        return Bound(self.name, len(batch), formula)


TARGETS = {"T1": Quadratic, "T2": Linear, "T3": Denoising, "T4": Detected}


def detector_logit(detector, label):
    """log p - log(1 - p) of one label, differentiable: images (row, 3, height, width) -> (row,).

    Raises   MethodError for an unknown label, or a detector without gradient
    """
    if not detector.differentiable:
        raise MethodError(f"The detector {detector.name} has no gradient, which T4 needs. Use T2, or another detector.")
    (column,) = detector.columns([label])
    return lambda images: torch.logit(detector.network(images.float())[:, column], eps=1e-6)


def _bound(name, model, batch, states, formula):
    with torch.no_grad():
        return Bound(name, len(batch), formula, states, predict(model, batch, states))


def _norm(x):
    return x.flatten(1).square().sum(1)


def _wide(x):
    """At least float32, whatever the model computes in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
