"""Ablations in one step: a scalar of the predicted noise on given inputs, without sampling.

Each row joins the batch at the step that holds its first ablated layer (diffusion/steps.py), so that what lies before is
computed once per input; and a half (cond, uncond) in which nothing changes is computed once for all ablations.

one_step   the scalar for every (ablation, prompt, call)
record     raw values of named neurons on the same inputs, for `mean`, `resampled` and `held`
OneStep    several prompt sets measured by one call, for ablation_effects.py
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from workbench.analysis.ablation import check, gating, layers_of
from workbench.analysis.ablation_effects import Reading
from workbench.diffusion.steps import branched, first_step, steps
from workbench.errors import MethodError
from workbench.models.variants import applied
from workbench.neurons.columns import Columns
from workbench.neurons.taps import Rows, Taps


@dataclass
class Values:
    """What one_step returns.

    ablated   (ablation, prompt, call) scalar under each ablation;  intact (prompt, call) without
    shared    whether the steps before the first ablated layer were computed once; False = every pass was whole
    """

    ablated: torch.Tensor
    intact: torch.Tensor
    shared: bool


@dataclass
class Scalar:
    """A plain function of predicted noise as a target: function (row, channel, height, width) -> (row,)."""

    function: Callable

    def at(self, model, batch):
        """The same function on every batch."""
        return self

    def value(self, eps, row=None):
        """(row,)."""
        return self.function(eps)


@torch.no_grad()
def one_step(model, items, ablations, target, *, guidance=1.0, empty=None, batch=64, share=True):
    """The target under each ablation.

    items      diffusion.targets.Items: inputs, calls, states and units of some prompts
    target     one of diffusion/targets.py, or Scalar(function of noise)
    guidance   1 = the cond half alone; else noise = uncond + guidance (cond - uncond), `empty` (1, token, channel) is needed
    batch      rows of the UNet at a time
    share      False = whole passes only; the same numbers up to rounding
    """
    ablations = list(ablations)
    if guidance != 1 and empty is None:
        raise MethodError(f"Guidance {guidance} mixes two halves; give the text state of the empty prompt as `empty`.")
    check(ablations, items.units, guidance)
    shared = share and model.scheduler.config.prediction_type == "epsilon" and model.transform is None
    found = steps(model.unet) if shared else None
    run = _Run(model, ablations, guidance, empty, batch, found)
    groups = list(items.batches(torch.arange(len(items))))
    ablated = torch.zeros(len(ablations), len(items), len(groups), dtype=torch.float64)
    intact = torch.zeros(len(items), len(groups), dtype=torch.float64)
    for position, group in enumerate(groups):
        ablated[..., position], intact[:, position] = run.call(group, target.at(model, group))
    return Values(ablated, intact, run.steps is not None)


class _Run:
    """Some ablations on one model."""

    def __init__(self, model, ablations, guidance, empty, batch, found):
        self.model, self.ablations, self.guidance, self.empty, self.batch = model, ablations, guidance, empty, batch
        self.halves = ("cond",) if guidance == 1 else ("uncond", "cond")
        starts = [first_step(found, one.layers) for one in ablations] if found else []
        self.steps = found if found and None not in starts else None
        self.start = starts if self.steps else [0] * len(ablations)
        gating(model.unet, ablations)  # refuses what cannot be before anything runs

    def call(self, group, target):
        """Values (ablation, prompt) and (prompt,) of one UNet call."""
        intact = torch.zeros(len(group), dtype=torch.float64)
        ablated = torch.zeros(len(self.ablations), len(group), dtype=torch.float64)
        for prompts, jobs in self._chunks(group):
            roots, changed = self._noise(group, prompts, jobs)
            intact[prompts] = target.value(roots, torch.tensor(prompts, device=roots.device)).double().cpu()
            if jobs:
                mine, which = (torch.tensor(side) for side in zip(*jobs, strict=True))
                ablated[which, mine] = target.value(changed, mine.to(roots.device)).double().cpu()
        idle = [which for which, one in enumerate(self.ablations) if not self._halves(one, group.call)]
        ablated[idle] = intact
        return ablated, intact

    def _halves(self, ablation, call):
        """The halves an ablation changes at a call."""
        return [half for half in self.halves if ablation.limit.allows(call, half)]

    def _chunks(self, group):
        """(prompts, [(prompt, ablation)]) of about `batch` rows; every prompt occurs, ablations that leave late side by side."""
        order = sorted(range(len(self.ablations)), key=lambda which: self.start[which])
        active = [(which, len(self._halves(self.ablations[which], group.call))) for which in order]
        prompts, jobs, n = [], [], 0
        for prompt in range(len(group)):
            for which, cost in [(None, 0), *active]:
                if which is not None and not cost:
                    continue
                more = cost + (prompt not in prompts) * len(self.halves)
                if n and n + more > self.batch:
                    yield prompts, jobs
                    prompts, jobs, n, more = [], [], 0, cost + len(self.halves)
                if prompt not in prompts:
                    prompts.append(prompt)
                if which is not None:
                    jobs.append((prompt, which))
                n += more
        yield prompts, jobs

    def _noise(self, group, prompts, jobs):
        """Noise of the prompts as they are (prompt, ...), and of the jobs (job, ...)."""
        roots = [(prompt, half) for half in self.halves for prompt in prompts]
        used = sorted({which for _, which in jobs})
        leaves = sorted(
            (self.start[which], roots.index((prompt, half)), used.index(which) + 1, job, half)
            for job, (prompt, which) in enumerate(jobs)
            for half in self._halves(self.ablations[which], group.call)
        )
        root = [leaf[1] for leaf in leaves]
        of = [*range(len(roots)), *root]
        prompt = group.prompt[[roots[place][0] for place in of]]
        gate = torch.tensor([0] * len(roots) + [leaf[2] for leaf in leaves])
        half = [roots[place][1] for place in of]
        rows = lambda n: Rows(group.call, group.timestep, prompt[:n], half[:n], gate[:n])  # noqa: E731
        inputs = group.inputs[[p for p, _ in roots]].to(self.model.device, self.model.dtype)
        states = torch.stack([group.states[p] if h == "cond" else self.empty[0] for p, h in roots]).to(inputs)
        made = gating(self.model.unet, [self.ablations[which] for which in used])
        with Taps(self.model.unet, made.layers, gates=made.gates, limits=made.limits, held=made.held) as taps:
            taps.tell(rows(len(roots)))
            if self.steps:
                timesteps = torch.full((len(roots),), group.timestep, device=inputs.device)
                start = [leaf[0] for leaf in leaves]
                noise = branched(self.model.unet, self.steps, inputs, timesteps, states, root, start, lambda n: taps.regroup(rows(n)))
            else:
                taps.regroup(rows(len(of)))
                at = torch.tensor(group.timestep, device=inputs.device)
                noise = self.model.predict(inputs[of], at, states[of])
            taps.check()
        place = {(job, half): len(roots) + i for i, (*_, job, half) in enumerate(leaves)}
        plain = {half: noise[[roots.index((p, half)) for p in prompts]] for half in self.halves}
        if not jobs:
            return self._guided(plain), None
        pick = {h: [place.get((job, h), roots.index((p, h))) for job, (p, _) in enumerate(jobs)] for h in self.halves}
        return self._guided(plain), self._guided({half: noise[where] for half, where in pick.items()})

    def _guided(self, halves):
        if self.guidance == 1:
            return halves["cond"]
        return halves["uncond"] + self.guidance * (halves["cond"] - halves["uncond"])


@torch.no_grad()
def record(model, items, neurons, batch=64):
    """Columns of named neurons on the items' inputs, cond branch; neurons {layer path: indices}."""
    kept = Columns(neurons, len(items), items.trajectory.calls, units=items.units)
    with Taps(model.unet, layers_of(model.unet, kept.neurons.keys()), kept) as taps:
        for prompts in torch.arange(len(items)).split(batch):
            for group in items.batches(prompts):
                taps.tell(Rows(group.call, group.timestep, group.prompt, ["cond"] * len(group)))
                at = torch.tensor(group.timestep, device=model.device)
                inputs = group.inputs.to(model.device, model.dtype)
                model.run_unet(inputs, at, group.states.to(inputs))
                taps.check()
    return kept


class OneStep:
    """One-step measurements of several prompt sets: call it with ablations, get one Reading per set.

    groups    {name: (Items, target)}, e.g. target, near, far
    variant   the model computes as this merged variant; None = base
    """

    def __init__(self, model, groups, variant=None, **settings):
        self.model, self.groups, self.variant, self.settings = model, groups, variant, settings

    def __call__(self, ablations):
        readings = []
        with applied(self.model, self.variant):
            for name, (items, target) in self.groups.items():
                found = one_step(self.model, items, ablations, target, **self.settings)
                outcome = getattr(target, "name", "scalar")
                ablated, intact = found.ablated.mean(dim=-1).numpy(), found.intact.mean(dim=-1).numpy()
                readings.append(Reading(name, outcome, list(items.units), intact, ablated))
        return readings

    def record(self, group, neurons):
        """Columns of a prompt set under this variant."""
        with applied(self.model, self.variant):
            return record(self.model, self.groups[group][0], neurons)
