"""Losses that erasers and attacks share.

add_noise         x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps
seen              the predicted noise as a rule of guidance lets it act
denoising_loss    per row, mean squared error of the predicted noise (of a UNet that predicts v as well)
erased_target     what ESD wants the model to predict
"""

import torch

from workbench.models.changes import guidance


def add_noise(model, clean, noise, timesteps):
    """Noise latents to given timesteps (row,) with the model's own schedule."""
    signal = model.signal(timesteps, clean)
    return signal.sqrt() * clean + (1 - signal).sqrt() * noise


def draw_noise(model, generators, low=0.0, high=1.0):
    """Timesteps (row,) uniform between two shares of the schedule, and standard normal noise, one CPU generator per row."""
    n_train = model.scheduler.config.num_train_timesteps
    first, last = int(low * n_train), max(int(low * n_train) + 1, int(high * n_train))
    timesteps = torch.cat([torch.randint(first, last, (1,), generator=one) for one in generators])
    noise = torch.stack([torch.randn(model.latent_shape, generator=one) for one in generators])
    return timesteps.to(model.device), noise.to(model.device, model.dtype)


def seen(model, noised, timesteps, states):
    """The noise an attack works against: the UNet's, behind the rule of guidance that a variant has; gradients flow through it."""
    return guidance.of(model).seen(model, noised, timesteps, states)


def denoising_loss(model, clean, noise, timesteps, states):
    """|| noise - eps(x_t, t, c) ||^2, mean over latent elements; (row,). Of a variant with a rule of guidance: `seen`."""
    noised = add_noise(model, clean, noise, timesteps)
    predicted = seen(model, noised, timesteps, states)
    return (predicted - noise).square().mean(dim=(1, 2, 3))


@torch.no_grad()
def erased_target(model, noised, timesteps, concept, start, without, eta, beside=None):
    """eps_0(start) - eta (eps_0(concept) - eps_0(without)), predicted by the base model; (row, channel, height, width).

    With `beside` = (noised, timesteps, states) of other rows: (the same, the prediction of those rows, made in the same pass).

    concept, start, without   text states (row, token, channel). ESD of 2024 starts at the concept, of 2023 at the empty
                              prompt; starting at the same prompt without the concept keeps what the prompts share.
    """
    parts = [concept, start] if start is without else [concept, start, without]
    n = len(noised)
    together = [noised] * len(parts), [timesteps] * len(parts), parts
    if beside is not None:
        together = ([*rows, more] for rows, more in zip(together, beside, strict=True))
    predicted = model.predict(*map(torch.cat, together)).split(n)
    with_concept, begin, other = predicted[0], predicted[1], predicted[len(parts) - 1]
    target = begin - eta * (with_concept - other)
    return target if beside is None else (target, torch.cat(predicted[len(parts) :]))
