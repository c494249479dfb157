"""A condition as attribution and one-step ablation take it: prompts, latents and the target, with the model as the variant.

layers, here    the layers and neurons of the site ff, which these analyses are about
rows_of         rows of the target set that belong to a half of the units
condition       context manager: (Items, target) of a condition, the model computing as its variant inside
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from workbench.diffusion import targets
from workbench.diffusion.denoise import Trajectory, initial_noise
from workbench.diffusion.objectives import add_noise
from workbench.errors import MethodError
from workbench.execution.workspace import Workspace
from workbench.models import text
from workbench.models.variants import applied, base_again
from workbench.neurons.sites import Layer
from workbench.storage import read_arrays
from workbench.study.prompts import PromptSet, pairing
from workbench.study.study import BASE

Target = targets.Quadratic | targets.Linear | targets.Denoising | targets.Detected
SITE = "ff"
IMAGE_NOISE = 13_000_003
OVER_EMPTY = "T2 J_lin over the empty prompt"


def layers(workspace: Workspace) -> list[Layer]:
    """The recorded layers of the site ff."""
    return [layer for layer in workspace.layers if layer.site.name == SITE]


def here(workspace: Workspace) -> np.ndarray:
    """(neuron,) bool: which recorded neurons are at the site ff."""
    return (workspace.neurons["site"] == SITE).to_numpy()


def spread(workspace: Workspace, values: np.ndarray) -> np.ndarray:
    """(neuron,) over all recorded neurons from values at the site ff; NaN elsewhere."""
    found = np.full(len(workspace.neurons), np.nan)
    found[here(workspace)] = values
    return found


def rows_of(workspace: Workspace, half: str, n_units: int | None = None) -> np.ndarray:
    """Row numbers of the target set in the first n_units units of half "a" or "b"."""
    inside = workspace.units_in_half_a() == (half == "a")
    wanted = [unit for unit, mine in zip(workspace.units, inside, strict=True) if mine][:n_units]
    return np.flatnonzero(np.isin(workspace.prompt_set("target").units, wanted))


def picked(workspace: Workspace, name: str, rows: np.ndarray | Sequence[int]) -> PromptSet:
    """The prompts of a set that pair with these rows of the target set, in their order."""
    return workspace.prompt_set(name).picked(np.array(pairing(workspace.prompt_set("target"), workspace.prompt_set(name)))[rows])


@torch.no_grad()
def encoded(workspace: Workspace, prompts: PromptSet) -> torch.Tensor:
    """(prompt, token, channel) text states by the model as it is now."""
    return text.encode(workspace.model, prompts.prompts, prompts.prefix)


@contextmanager
def condition(
    workspace: Workspace,
    variant: str | None,
    name: str,
    rows: np.ndarray,
    calls: Sequence[int] | None = None,
    target: str = "T2",
    own_direction: bool = False,
) -> Iterator[tuple[targets.Items, Target]]:
    """(Items, target) of some rows; the latents are the base model's on the way to its target images.

    rows            row numbers of the target set; other sets are paired with them
    calls           default: all recorded ones at which the target makes sense
    own_direction   of T2: not the concept's direction but that of these prompts themselves, seen from the empty prompt, so that
                    it is 1 in the base model: for retained concepts
    Raises          MethodError when the target can be asked at none of the calls
    """
    model, own = workspace.model, {key: parameter.data for key, parameter in workspace.model.parameters().items()}
    plain = {one: picked(workspace, one, rows) for one in ("target", "reference")}
    trajectory = _some_calls(workspace, workspace.trajectory("target", plain["target"]), calls, target)
    units = list(plain["target"].units)
    before = {one: encoded(workspace, prompts) for one, prompts in (plain | {name: picked(workspace, name, rows)}).items()}
    empty = text.unconditional(model)
    with applied(model, workspace.variant(variant)):
        states = encoded(workspace, picked(workspace, name, rows))
        found: Target
        if target == "T1":
            found = targets.Quadratic(text.unconditional(model))
        elif target == "T2" and own_direction:
            lone = text.unconditional(model).expand_as(states)
            found = targets.Linear(lone, before[name], empty.expand_as(states), base=lambda: base_again(model, own))
            found.name = OVER_EMPTY
        elif target == "T2":
            base = before["target"], before["reference"]
            found = targets.Linear(encoded(workspace, plain["reference"]), *base, base=lambda: base_again(model, own))
        elif target == "T3":
            trajectory, noise = _noised(workspace, trajectory, plain["target"], rows)
            found = targets.Denoising(noise, text.unconditional(model))
        else:
            found = targets.Detected(targets.detector_logit(workspace.detector("steer"), workspace.labels[0]))
        yield targets.Items(trajectory, states, units), found


def _some_calls(workspace: Workspace, trajectory: Trajectory, calls: Sequence[int] | None, target: str) -> Trajectory:
    wanted = trajectory.calls if calls is None else calls
    kept = [(place, call) for place, call in enumerate(trajectory.calls) if call in wanted]
    if target == "T4" and calls is None:
        signal = [float(workspace.model.signal(timestep, torch.zeros(()))) for timestep in trajectory.timesteps]
        kept = [(place, call) for place, call in kept if signal[place] >= targets.LEAST_SIGNAL]
    if not kept:
        raise MethodError(
            f"The target {target} can be asked at none of the recorded calls {trajectory.calls}: they are too noisy to hold an image. "
            "Record later calls, or take T2."
        )
    places = [place for place, _ in kept]
    return Trajectory(trajectory.inputs[:, places], [call for _, call in kept], [trajectory.timesteps[place] for place in places])


def _noised(workspace: Workspace, trajectory: Trajectory, prompts: PromptSet, rows: np.ndarray) -> tuple[Trajectory, torch.Tensor]:
    """The base model's images of the concept, noised to the timesteps of a trajectory; (Trajectory, noise)."""
    kept = torch.cat(workspace.gather("generate", BASE, "target", lambda folder: read_arrays(folder / "latents.safetensors")["latents"]))
    clean = kept[rows].float()
    noise = initial_noise(workspace.model, [seed + IMAGE_NOISE for seed in prompts.seeds])
    made = [add_noise(workspace.model, clean, noise, torch.full((len(clean),), float(t))) for t in trajectory.timesteps]
    return Trajectory(torch.stack(made, dim=1), trajectory.calls, trajectory.timesteps), noise
