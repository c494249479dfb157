"""How large the inputs of linear layers are while prompts are sampled: what ConceptPrune, FIA and Wanda measure."""

from contextlib import contextmanager

from pydantic import BaseModel, Field

from workbench.study.part import MOST_CALL, MOST_GUIDANCE, MOST_ROWS, MOST_STEPS, Seed

ROWS_AT_ONCE = 8


class Sampled(BaseModel):
    """How prompts are sampled for measuring; part of the parameters."""

    steps: int = Field(20, ge=2, le=MOST_STEPS, description="sampling steps; published: 50")
    calls: int = Field(10, ge=1, le=MOST_CALL, description="how many of the first calls are measured; published: 10")
    guidance: float = Field(3.0, ge=0, le=MOST_GUIDANCE, description="guidance scale while sampling; published: 7.5")
    seeds: int = Field(2, ge=1, le=MOST_ROWS, description="images sampled of each prompt")
    seed: Seed = Field(0, description="the first of them")


def norm(inputs):
    """||X_i|| over tokens; (row, token, neuron) -> (row, neuron)."""
    return inputs.float().square().sum(dim=1).sqrt()


def row_norm(inputs):
    """The same after each token's inputs are brought to length 1."""
    import torch

    return norm(torch.nn.functional.normalize(inputs.float(), dim=-1))


@contextmanager
def inputs_seen(unet, names, measure, found):
    """While open, `found[name]` gathers measure(inputs) (row, neuron) of the layers of these weights, once per UNet call."""

    def watch(name):
        return lambda module, inputs: found[name].append(measure(inputs[0].detach()).cpu())

    modules, handles = dict(unet.named_modules()), []
    try:
        for name in names:
            handles.append(modules[name.removesuffix(".weight")].register_forward_pre_hook(watch(name)))
        yield found
    finally:
        for handle in handles:
            handle.remove()


def sizes(model, prompts, parameters, names, measure):
    """{parameter name: (prompt, call, neuron)} sizes of layer inputs along each prompt's own trajectory, cond branch only.

    The prompts are sampled, then every call is asked once more without guidance, so that branches never mix.
    """
    import torch

    from workbench.diffusion.denoise import denoise, n_calls
    from workbench.models import text

    shown = [(prompt, parameters.seed + seed) for seed in range(parameters.seeds) for prompt in prompts]
    calls, gathered = range(min(parameters.calls, n_calls(model, parameters.steps))), {name: [] for name in names}
    for start in range(0, len(shown), ROWS_AT_ONCE):
        part = shown[start : start + ROWS_AT_ONCE]
        with torch.no_grad():
            states, empty = text.encode(model, [prompt for prompt, _ in part]), text.unconditional(model)
            _, path = denoise(
                model,
                states,
                empty,
                [seed for _, seed in part],
                n_steps=parameters.steps,
                guidance=parameters.guidance,
                keep=calls,
            )
            found = {name: [] for name in names}
            with inputs_seen(model.unet, names, measure, found):
                for position, timestep in enumerate(path.timesteps):
                    model.run_unet(path.inputs[:, position], torch.tensor(timestep, device=model.device), states)
        for name in names:
            gathered[name].append(torch.stack(found[name], dim=1))
    return {name: torch.cat(parts) for name, parts in gathered.items()}


def both(model, pairs, parameters, names, measure, method):
    """`sizes` of the prompts with the concept and of those without.

    Raises   MethodError when there are no pairs
    """
    from workbench.errors import MethodError

    if not pairs:
        raise MethodError(f"{method} needs prompts with the concept and their anchors; the study gives none.")
    return tuple(sizes(model, [pair[side] for pair in pairs], parameters, names, measure) for side in (0, 1))


def sampling_passes(parameters, n_prompts):
    """UNet row passes of `sizes` of so many prompts: every image with guidance, then its measured calls once more."""
    guided = 2 if parameters.guidance != 1 else 1
    return n_prompts * parameters.seeds * (guided * parameters.steps + min(parameters.calls, parameters.steps))
