"""Rules of guidance: how the noise of the branches becomes the noise of a step.

of          the rule that a model has now
Ordinary    classifier-free guidance: eps_u + g (eps_c - eps_u)
Negative    a negative prompt instead of the empty one
SafeLatent  SLD: a third branch with a text about the concept, from which the step is led away

A rule asks for the text states of the uncond branch and, where it has one, of a further branch; `start` gives what combines the
branches of one batch, call after call. `seen` is the same for whoever attacks the model with gradients: the noise of the cond branch by
which ordinary guidance would take the same step, without what a rule remembers of earlier calls, differentiable in the text states.
"""

from contextlib import contextmanager

import torch

from workbench.errors import ModelError
from workbench.models import text


class Ordinary:
    """Classifier-free guidance."""

    further = None  # text states (1, token, channel) of a further branch

    def uncond(self, empty):
        """Text states (1, token, channel) of the uncond branch."""
        return empty

    def start(self):
        """What combines the branches of one batch: a function (call, scale, without, with_text, further) -> noise."""
        return lambda call, scale, without, with_text, further: without + scale * (with_text - without)

    def seen(self, model, noised, timesteps, states):
        """The noise (row, channel, height, width) an attack works against."""
        return model.predict(noised, timesteps, states)


ORDINARY = Ordinary()


def of(model):
    """The rule a model has now."""
    return ORDINARY if model.guidance is None or model.as_base else model.guidance


def words(change):
    """What it is, for the report."""
    if change.kind == "negative_prompt":
        return f'guidance with the negative prompt "{change.settings["prompt"]}"'
    return f'guidance away from "{change.settings["concept"]}" (SLD), scale {change.settings["scale"]:g}'


@contextmanager
def installed(model, change):
    """While open, the model samples by this rule; ModelError when it has another one already."""
    if model.guidance is not None:
        raise ModelError(f"{words(change)}: the model has a rule of guidance already, and two of them do not add up. Choose one.")
    states = change.tensors["states"].to(model.device, model.dtype)
    model.guidance = Negative(states) if change.kind == "negative_prompt" else SafeLatent(states, **_numbers(change.settings))
    try:
        yield model
    finally:
        model.guidance = None


def _numbers(settings):
    return {name: value for name, value in settings.items() if name != "concept"}


class Negative(Ordinary):
    """eps_n + g (eps_c - eps_n), eps_n the noise of the negative prompt; states (1, token, channel)."""

    def __init__(self, states):
        self.states = states

    def uncond(self, empty):
        """Those of the negative prompt."""
        return self.states

    def seen(self, model, noised, timesteps, states):
        """eps_c + (g - 1) / g (eps_u - eps_n): ordinary guidance at the scale g that the model is sampled with takes the same step."""
        n, scale = len(noised), model.expected_guidance
        beside = [_wide(text.unconditional(model), n, states), _wide(self.states, n, states)]
        with_text, without, negative = _three(model, noised, timesteps, [states, *beside])
        return with_text + (scale - 1) / scale * (without - negative)


class SafeLatent(Ordinary):
    """SLD (Schramowski et al. 2023): eps_u + g (eps_c - eps_u - gamma_t)

    mu_t    = min(1, s |eps_c - eps_s|) where eps_c - eps_s < threshold, else 0            s: scale
    gamma_t = mu_t (eps_s - eps_u) + momentum_scale nu_t,      nu_t+1 = momentum nu_t + (1 - momentum) gamma_t

    gamma acts from call `warmup` on; nu is gathered from the first call on. eps_s: noise of the text about the concept.
    Source   arXiv 2211.05105; |.| is cut at 1 from above as in the authors' code, where the paper's equation 6 says max
    """

    def __init__(self, states, scale, warmup, threshold, momentum_scale, momentum):
        self.further = states
        self.scale, self.warmup, self.threshold = scale, warmup, threshold
        self.momentum_scale, self.momentum = momentum_scale, momentum

    def start(self):
        """The momentum of a batch begins at 0."""
        remembered = None

        def combine(call, scale, without, with_text, further):
            nonlocal remembered
            if remembered is None:
                remembered = torch.zeros_like(without)
            gamma = self._led_away(without, with_text, further) + self.momentum_scale * remembered
            remembered = self.momentum * remembered + (1 - self.momentum) * gamma
            return without + scale * (with_text - without - (gamma if call >= self.warmup else 0))

        return combine

    def _led_away(self, without, with_text, further):
        difference = with_text - further
        share = (self.scale * difference.abs()).clamp(max=1)
        return torch.where(difference < self.threshold, share, torch.zeros_like(share)) * (further - without)

    def seen(self, model, noised, timesteps, states):
        """eps_c - gamma without momentum, as after the warm-up."""
        n = len(noised)
        beside = [_wide(text.unconditional(model), n, states), _wide(self.further, n, states)]
        with_text, without, further = _three(model, noised, timesteps, [states, *beside])
        return with_text - self._led_away(without, with_text, further)


def _wide(states, n, like):
    return states.to(like.device, like.dtype).expand(n, -1, -1)


def _three(model, noised, timesteps, states):
    """Noise of three text states for the same latents, in one pass."""
    at = torch.as_tensor(timesteps, device=noised.device)
    at = at.repeat(3) if at.ndim else at
    return model.predict(noised.repeat(3, 1, 1, 1), at, torch.cat(states)).chunk(3)
