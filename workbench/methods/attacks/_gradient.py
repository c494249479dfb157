"""What gradient attacks share: the noise levels they ask about, how each counts, and the tensors they learn.

Levels       parameters: which noise levels, and whether each counts alike
encoded      images' latents made anew by the model's encoder
denoising    the loss of text against an image's noise
minimised    what is minimised of such losses
Learned      a searcher that improves tensors by an optimiser
direction, along_directions   a gradient by its direction alone, and the optimiser that follows it
"""

from pydantic import Field

from workbench.methods.attacks._search import Budget, Searcher

GRADIENT_PASSES = 2.5
LEAST_LOSS = 1e-12


class Levels(Budget):
    """Which noise levels are asked about, and how each counts; part of every gradient attack's parameters."""

    noise: float = Field(0.4, ge=0, lt=1, description="share of the noise schedule that is left out at its quiet end; published: 0")
    log: bool = Field(True, description="minimise the log of the loss, so that every noise level counts alike; published: false")


def denoising(model, clean, prompts, vectors, generators, parameters, timesteps=None):
    """|| noise - eps(x_t, t, [v, prompt]) ||^2, mean over latent elements; (row,).

    clean        (row, channel, height, width) latents x_0, on any device
    vectors      (row, k, channel) v, put before the words
    generators   one a row, which draws t from the levels of `parameters`, then the noise
    timesteps    (row,) t instead of the drawn one
    """
    from workbench.diffusion.objectives import denoising_loss, draw_noise
    from workbench.models import text

    drawn, noise = draw_noise(model, generators, low=parameters.noise)
    at = drawn if timesteps is None else timesteps
    return denoising_loss(model, clean.to(model.device, model.dtype), noise, at, text.encode(model, prompts, vectors))


def encoded(model, clean, batch=16):
    """x_0 of the images of latents: decoded, rounded to 8 bits, and encoded again by the mean of the autoencoder; shaped as `clean`.

    It differs from the latents an image was decoded from, for encoding does not undo decoding.
    """
    import torch

    parts = []
    with torch.no_grad():
        for part in clean.split(batch):
            pixels = (model.decode(part) * 255).round() / 127.5 - 1
            with model.at_work(model.vae):
                mean = model.vae.encode(pixels.to(model.device, model.vae.dtype)).latent_dist.mean
            parts.append((mean * model.vae.config.scaling_factor).to(clean.device, clean.dtype))
    return torch.cat(parts)


def minimised(losses, parameters):
    """What is minimised of losses (row,): they themselves or their logs; (row,), at least in single precision.

    Little noise is hard to tell from an image, so that in a plain sum the quiet timesteps decide, where words matter least.
    Losses below 1e-12 count as that, so that a perfect match has a finite log and no gradient.
    """
    import torch

    losses = losses.to(torch.promote_types(losses.dtype, torch.float32))
    return losses.clamp(min=LEAST_LOSS).log() if parameters.log else losses


def direction(gradient):
    """A gradient (place, element) over its root mean square over the elements; zero stays zero."""
    return gradient / gradient.square().mean(dim=-1, keepdim=True).sqrt().clamp(min=LEAST_LOSS)


def along_directions(learned, step, weight_decay):
    """The optimiser for such gradients: their running mean over some ten steps, the first one whole.

    weight_decay   what is added to the gradient, in shares of a tensor
    """
    import torch

    return torch.optim.SGD(learned, lr=step, momentum=0.9, dampening=0.9, weight_decay=weight_decay)


class Learned(Searcher):
    """A searcher that improves tensors by gradient: `learned`, one leaf tensor a prompt, and their `optimiser`."""

    def state(self):
        """The tensors and what the optimiser remembers."""
        return {"learned": [one.detach() for one in self.learned], "optimiser": self.optimiser.state_dict()}

    def restore(self, state):
        """Go on from them."""
        for own, kept in zip(self.learned, state["learned"], strict=True):
            own.data.copy_(kept)
        self.optimiser.load_state_dict(state["optimiser"])
