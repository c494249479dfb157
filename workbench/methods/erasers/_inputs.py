"""What linear layers read and write while prompts are sampled: what ConceptPrune, FIA and Wanda measure.

Sampled      how prompts are sampled, and which branches are measured; part of the parameters
sizes        the size of each neuron's input, of every prompt at every call;  both: with the concept and without
signals      FIA's Eq. 1 of every prompt, streamed into mean and standard deviation over prompts
"""

from contextlib import contextmanager
from typing import Literal

from pydantic import BaseModel, Field

from workbench.study.fields import MOST_CALL, MOST_GUIDANCE, MOST_ROWS, MOST_STEPS, Seed

ROWS_AT_ONCE = 8


class Sampled(BaseModel):
    """How prompts are sampled for measuring; part of the parameters."""

    steps: int = Field(20, ge=2, le=MOST_STEPS, description="sampling steps; published: 50")
    calls: int = Field(10, ge=1, le=MOST_CALL, description="how many of the first calls are measured; published: 10")
    guidance: float = Field(3.0, ge=0, le=MOST_GUIDANCE, description="guidance scale while sampling; published: 7.5")
    seeds: int = Field(2, ge=1, le=MOST_ROWS, description="images sampled of each prompt; published: 1")
    seed: Seed = Field(0, description="the first of them")


class Branched(Sampled):
    """The same of a method whose authors measure both branches of guidance together."""

    branches: Literal["both", "cond"] = Field(
        "both",
        description="both: the tokens of the cond and the uncond branch together, as published; cond: those of the prompt alone",
    )


def norm(inputs):
    """||X_i|| over tokens; (row, token, neuron) -> (row, neuron)."""
    return inputs.float().square().sum(dim=1).sqrt()


def row_norm(inputs):
    """The same after each token's inputs are brought to length 1."""
    import torch

    return norm(torch.nn.functional.normalize(inputs.float(), dim=-1))


@contextmanager
def layers_seen(unet, names, seen):
    """While open, seen(name, inputs, outputs) is called for the layers of these weights, once per UNet call."""

    def watch(name):
        return lambda module, inputs, outputs: seen(name, inputs[0].detach(), outputs.detach())

    modules, handles = dict(unet.named_modules()), []
    try:
        for name in names:
            handles.append(modules[name.removesuffix(".weight")].register_forward_hook(watch(name)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _measured(model, prompts, parameters, names, seen):
    """Sample the prompts; seen(name, call, inputs, outputs), both (row, token, …), of every measured call, in the order of prompts.

    Every measured call is asked once more without guidance on the latents it had, so that the branches are told apart. With
    `branches = "both"` a row's tokens are those of its cond branch, then those of its uncond branch.
    """
    import torch

    from workbench.diffusion.denoise import denoise, n_calls
    from workbench.models import text

    pooled = getattr(parameters, "branches", "cond") == "both"
    shown = [(prompt, parameters.seed + seed) for seed in range(parameters.seeds) for prompt in prompts]
    calls = range(min(parameters.calls, n_calls(model, parameters.steps)))
    together = lambda x: torch.cat(x.chunk(2), dim=1) if pooled else x  # noqa: E731
    for start in range(0, len(shown), ROWS_AT_ONCE):
        part = shown[start : start + ROWS_AT_ONCE]
        with torch.no_grad():
            states, empty = text.encode(model, [prompt for prompt, _ in part]), text.unconditional(model)
            seeds = [seed for _, seed in part]
            _, path = denoise(model, states, empty, seeds, n_steps=parameters.steps, guidance=parameters.guidance, keep=calls)
            asked = torch.cat([states, empty.expand_as(states)]) if pooled else states
            for position, timestep in enumerate(path.timesteps):
                latents = path.inputs[:, position]
                tell = lambda name, x, y, call=position: seen(name, call, together(x), together(y))  # noqa: E731
                with layers_seen(model.unet, names, tell):
                    model.run_unet(torch.cat([latents, latents]) if pooled else latents, torch.tensor(timestep, device=model.device), asked)


def sizes(model, prompts, parameters, names, measure):
    """{parameter name: (prompt, call, neuron)} sizes of layer inputs along each prompt's own trajectory.

    measure   (row, token, neuron) -> (row, neuron): `norm` or `row_norm`, over the tokens of the branches that are measured
    """
    import torch

    gathered = {name: {} for name in names}
    _measured(model, prompts, parameters, names, lambda name, call, x, y: gathered[name].setdefault(call, []).append(measure(x).cpu()))
    return {name: torch.stack([torch.cat(parts) for parts in found.values()], dim=1) for name, found in gathered.items()}


def both(model, pairs, parameters, names, measure, method):
    """`sizes` of the prompts with the concept and of those without.

    Raises   MethodError when there are no pairs
    """
    check_pairs(pairs, method)
    return tuple(sizes(model, [pair[side] for pair in pairs], parameters, names, measure) for side in (0, 1))


def check_pairs(pairs, method):
    """MethodError when there are no pairs."""
    from workbench.errors import MethodError

    if not pairs:
        raise MethodError(f"{method} needs prompts with the concept and their anchors; the study gives none.")


def signals(model, prompts, parameters, weights):
    """{parameter name: (mean, sd)} over prompts of `neurons.weights.signal`, each (call, output, neuron) float64; sd divided by n.

    Only sums are kept, so that memory does not grow with the prompts: twice the weights of the layers for every call.

    weights   {parameter name: weight}
    """
    import torch

    from workbench.neurons.weights import signal

    sums, n = {name: {} for name in weights}, len(prompts) * parameters.seeds

    def seen(name, call, inputs, outputs):
        if call not in sums[name]:
            sums[name][call] = [torch.zeros(weights[name].shape, dtype=torch.float64) for _ in range(2)]
        for x, y in zip(inputs, outputs, strict=True):
            own = signal(weights[name].float(), x.float(), y.float()).double().cpu()
            for total, power in zip(sums[name][call], (1, 2), strict=True):
                total += own**power

    _measured(model, prompts, parameters, list(weights), seen)
    found = {}
    for name, by_call in sums.items():
        mean, square = (torch.stack([one[k] for one in by_call.values()]) / n for k in (0, 1))
        found[name] = mean.numpy(), (square - mean**2).clamp(min=0).sqrt().numpy()
    return found


def sampling_passes(parameters, n_prompts):
    """UNet row passes of measuring so many prompts: every image with guidance, then its measured calls once more."""
    guided = 2 if parameters.guidance != 1 else 1
    again = 2 if getattr(parameters, "branches", "cond") == "both" else 1
    return n_prompts * parameters.seeds * (guided * parameters.steps + again * min(parameters.calls, parameters.steps))
