"""The sampling loop: drives UNet and scheduler by their public interfaces and tells the taps what each row is.

initial_noise   one CPU generator per row, so that batching never changes an image
denoise         own regime: latents from prompts, optionally keeping the UNet's inputs along the way
Short           rows of a batch that are not computed whole
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


class Short:
    """Rows of a batch that are not computed whole, because less of them is needed. Ordinary guidance only, without a corrector.

    ends   (row,) bool, rows that end before the call `last`; what comes after it of these rows means nothing
    alone  (row,) bool, rows with the text of the uncond branch: guidance changes nothing, so the cond branch alone is computed
    tell   called before each UNet call with (row of its batch,), the rows of `states` that are in it
    """

    def __init__(self, ends, alone, last, tell=lambda rows: None):
        self.ends, self.alone = (torch.as_tensor(rows, dtype=torch.bool) for rows in (ends, alone))
        self.last, self.tell = last, tell

    def needed(self, call, names):
        """Positions of the (branch, row), counted through, that the UNet is called for at a call."""
        still = ~self.ends if call >= self.last else torch.ones_like(self.ends)
        return torch.cat([still if name == "cond" else still & ~self.alone for name in names]).nonzero()[:, 0]

    def spread(self, part, needed, names):
        """The output for all (branch, row) of the one for those needed: that of cond where the branch was left out, 0 for ended rows."""
        whole = part.new_zeros(len(names) * len(self.ends), *part.shape[1:])
        whole[needed] = part
        by_branch = whole.unflatten(0, (len(names), len(self.ends)))
        alone = self.alone.to(part.device)
        by_branch[:, alone] = by_branch[names.index("cond"), alone]
        return whole


def initial_noise(model, seeds):
    """Standard normal latents (row, channel, height, width), each from a CPU generator of its own seed, counted modulo 2^64."""
    generators = [torch.Generator().manual_seed(int(seed) % 2**64) for seed in seeds]
    return torch.stack([torch.randn(model.latent_shape, generator=generator) for generator in generators])


def n_calls(model, n_steps):
    """How often the UNet is called in one run: PNDM makes 51 calls for 50 steps, Heun about twice as many."""
    return len(model.new_scheduler(n_steps).timesteps)


@torch.no_grad()
def denoise(
    model, states, empty, seeds, *, n_steps, guidance, taps=None, keep=(), last=None, first_prompt=0, prompt=None, gate=None, short=None
):
    """Sample one batch.

    states     (row, token, channel) text states; empty (1, token, channel) those of the uncond branch, `text.unconditional`
    guidance   classifier-free guidance scale; 1 runs the cond branch alone. A variant may have a rule of its own (`models/changes`)
    taps       an open `Taps`; row r is told as prompt first_prompt + r, or as prompt[r] where `prompt` (row,) is given
    gate       (row,) long, the gate row of each row in both halves; None = gate row 0
    keep       calls whose UNet inputs are kept
    last       the call before which it stops, its input kept; the latents are noisy ones then. None: to the end
    short      `Short` rows that need less than the others; None = no row does
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
    of_row = torch.arange(n_rows).repeat(len(names))
    kept, calls, timesteps = [], [], []
    watched = correctors.of(model).start(model, names, len(scheduler.timesteps))
    if short is not None and not (rule is rules.ORDINARY and watched is correctors.NEVER):
        raise ValueError("Rows can be computed in part only under ordinary guidance and without a corrector.")
    for call, timestep in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(latents, timestep)
        if call in keep:
            kept.append(scaled)
            calls.append(call)
            timesteps.append(float(timestep))
        if call == last:
            break
        needed = None if short is None else short.needed(call, names)
        mine = of_row if needed is None else of_row[needed]
        if taps is not None:
            told = branch if needed is None else [branch[place] for place in needed.tolist()]
            taps.tell(Rows(call, float(timestep), prompt[mine], told, None if gate is None else gate[mine]))
        if short is not None:
            short.tell(mine)
        with watched.correcting():
            if needed is None:
                predicted = model.run_unet(torch.cat([scaled] * len(names)), timestep, context)
            else:
                on_device = needed.to(context.device)
                part = model.run_unet(scaled[mine.to(scaled.device)], timestep, context[on_device])
                predicted = short.spread(part, on_device, names)
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
