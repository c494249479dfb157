"""Fine-tuning some weights of the UNet beside the model: what ESD and AC share."""


def fine_tuned(model, names, parameters, loss_of, progress=None):
    """{"unet.<name>": tensor} after `parameters.iterations` steps of Adam; the model itself is left as it was.

    names      of the weights that are trained, without the `unet.` prefix
    loss_of    {name: weight} -> scalar loss of the next draw
    progress   called with (step, of, loss)
    """
    import torch

    own = dict(model.unet.named_parameters())
    weights = {name: own[name].detach().clone().requires_grad_(True) for name in names}
    optimiser = torch.optim.Adam(weights.values(), lr=parameters.learning_rate)
    for step in range(parameters.iterations):
        loss = loss_of(weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if progress:
            progress(step + 1, parameters.iterations, loss.item())
    return {f"unet.{name}": weight.detach() for name, weight in weights.items()}
