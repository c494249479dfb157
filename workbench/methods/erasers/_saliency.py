"""Which weights images of the concept ask about, by the gradients of their denoising loss: what SalUn and Scissorhands share.

gradients   of the loss of batches of images, one batch after the other
outside     what is not among the largest
"""

import torch

from workbench.diffusion.objectives import add_noise
from workbench.methods.erasers._layers import lowest


def gradients(model, pool, batches, names, guidance, generator):
    """Yield {name: d/dW mean || noise - ((1 + g) eps(x_t, t, c) - g eps(x_t, t, empty)) ||^2} of each batch of images of a pool.

    batches   rows of the pool, a tensor each;  names   of weights, without the `unet.` prefix;  guidance   g, 0 = the cond branch alone
    """
    own, g = dict(model.unet.named_parameters()), guidance
    weights = {name: own[name].detach().clone().requires_grad_(True) for name in names}
    for rows in batches:
        n = len(rows)
        at = torch.randint(model.scheduler.config.num_train_timesteps, (n,), generator=generator).to(model.device)
        noise = torch.randn(n, *model.latent_shape, generator=generator).to(model.device, model.dtype)
        noised, states = add_noise(model, pool.latents[rows], noise, at), pool.concept[pool.owner[rows]]
        if g:
            both = torch.cat([states, pool.empty.expand_as(states)])
            cond, uncond = model.predict(noised.repeat(2, 1, 1, 1), at.repeat(2), both, weights).chunk(2)
            predicted = (1 + g) * cond - g * uncond
        else:
            predicted = model.predict(noised, at, states, weights)
        found = torch.autograd.grad((noise - predicted).square().mean(), list(weights.values()))
        yield dict(zip(names, found, strict=True))


def outside(sizes, share):
    """{name: bool tensor}, True = not among the int(share n) weights with the largest sizes over all layers."""
    flat = torch.cat([one.flatten() for one in sizes.values()])
    mask = ~lowest(-flat, int(share * len(flat)))
    parts = mask.to(flat.device).split([one.numel() for one in sizes.values()])
    return {name: part.reshape(one.shape) for (name, one), part in zip(sizes.items(), parts, strict=True)}
