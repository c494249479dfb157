"""The sampling loop: drives UNet and scheduler by their public interfaces and tells the taps what each row is.

initial_noise   one CPU generator per row, so that batching never changes an image
denoise         own regime: latents from prompts, optionally keeping the UNet's inputs along the way
evaluate        shared regime: one UNet pass per (prompt, call) on given inputs, nothing is sampled
"""

from dataclasses import dataclass

import torch

from workbench.models.changes import corrector as correctors
from workbench.models.changes import guidance as rules
from workbench.neurons.taps import Rows


@dataclass
class Trajectory:
    """What the UNet saw: inputs (prompt, call, channel, height, width) after scaling, calls and timesteps (call,).

    corrected   (prompt,) the call from which a corrector changed an image, -1 = never; None without a corrector
    """

    inputs: torch.Tensor
    calls: list
    timesteps: list
    corrected: torch.Tensor | None = None


def initial_noise(model, seeds):
    """Standard normal latents (row, channel, height, width), each from a CPU generator of its own seed, counted modulo 2^64."""
    generators = [torch.Generator().manual_seed(int(seed) % 2**64) for seed in seeds]
    return torch.stack([torch.randn(model.latent_shape, generator=generator) for generator in generators])


def n_calls(model, n_steps):
    """How often the UNet is called in one run: PNDM makes 51 calls for 50 steps, Heun about twice as many."""
    return len(model.new_scheduler(n_steps).timesteps)


@torch.no_grad()
def denoise(model, states, empty, seeds, *, n_steps, guidance, taps=None, keep=(), last=None, first_prompt=0, prompt=None, gate=None):
    """Sample one batch.

    states     (row, token, channel) text states; empty (1, token, channel) those of the uncond branch, `text.unconditional`
    guidance   classifier-free guidance scale; 1 runs the cond branch alone. A variant may have a rule of its own (`models/changes`)
    taps       an open `Taps`; row r is told as prompt first_prompt + r, or as prompt[r] where `prompt` (row,) is given
    gate       (row,) long, the gate row of each row in both halves; None = gate row 0
    keep       calls whose UNet inputs are kept
    last       the call before which it stops, its input kept; the latents are noisy ones then. None: to the end
    returns    final latents (row, channel, height, width), Trajectory of the kept calls
    """
    scheduler = model.new_scheduler(n_steps)
    n_rows = len(states)
    latents = initial_noise(model, seeds).to(model.device, model.dtype) * scheduler.init_noise_sigma
    guided = guidance != 1
    rule = rules.of(model)
    combine, further = rule.start(), rule.further if guided else None
    others = [rule.uncond(empty), *([] if further is None else [further])] if guided else []
    wide = [one.to(states).expand(n_rows, -1, -1) for one in others]
    context = torch.cat([*wide[:1], states, *wide[1:]])
    prompt = torch.arange(first_prompt, first_prompt + n_rows) if prompt is None else prompt
    names = ["uncond", "cond", "further"][: 1 + len(others)] if guided else ["cond"]
    branch = [name for name in names for _ in range(n_rows)]
    kept, calls, timesteps = [], [], []
    watched = correctors.of(model).start(model, names, len(scheduler.timesteps))
    for call, timestep in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(latents, timestep)
        if call in keep:
            kept.append(scaled)
            calls.append(call)
            timesteps.append(float(timestep))
        if call == last:
            break
        if taps is not None:
            copies = len(names)
            taps.tell(Rows(call, float(timestep), prompt.repeat(copies), branch, None if gate is None else gate.repeat(copies)))
        with watched.correcting():
            predicted = model.run_unet(torch.cat([scaled] * len(names)), timestep, context)
        if taps is not None:
            taps.check()
        if guided:
            without, with_text, *more = predicted.chunk(len(names))
            predicted = combine(call, guidance, without, with_text, more[0] if more else None)
        watched.look(call, scaled, timestep, predicted)
        latents = scheduler.step(predicted, timestep, latents).prev_sample
    inputs = torch.stack(kept, dim=1) if kept else latents.new_zeros(n_rows, 0, *latents.shape[1:])
    return latents, Trajectory(inputs, calls, timesteps, watched.corrected)


@torch.no_grad()
def evaluate(model, states, trajectories, taps, first_prompt=0):
    """Run the cond branch once per prompt, trajectory and call on the trajectories' inputs, for the taps to record.

    states         (row, token, channel) of the prompts; row r uses inputs[r] of every trajectory
    trajectories   list of Trajectory with the same calls; the rows of the second follow those of the first in one batch
    """
    n, k = len(states), len(trajectories)
    prompt = torch.arange(first_prompt, first_prompt + n).repeat(k)
    side_by_side, branch = torch.cat([states] * k), ["cond"] * (n * k)
    for position, (call, timestep) in enumerate(zip(trajectories[0].calls, trajectories[0].timesteps, strict=True)):
        taps.tell(Rows(call, timestep, prompt, branch))
        inputs = torch.cat([one.inputs[:, position] for one in trajectories]).to(model.device, model.dtype)
        at = torch.tensor(timestep, device=model.device)
        model.run_unet(inputs, at, side_by_side)
        taps.check()
