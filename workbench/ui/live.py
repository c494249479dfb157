"""The lab's model in the page process: loaded once, one computation at a time. Imports torch where it is first needed."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st
from PIL import Image

from workbench import resources
from workbench.errors import WorkbenchError
from workbench.study.study import Study
from workbench.ui.lab_state import Asked
from workbench.ui.run_list import State

if TYPE_CHECKING:
    import torch

    from workbench.lab import Lab, NeuronAblation

MOST_BYTES = 2_000_000_000  # of model files; a larger model is no work for the process of the pages
DIFFERENCE = 3  # a difference image is shown that many times as strong


@dataclass
class Outcome:
    """One variant before and after an ablation.

    before, after     pictures, one a seed;  difference   of them, shown DIFFERENCE times as strong
    found             ((bool, score) before, (bool, score) after) of the judge, a pair a seed
    target, activity  (before, after), or None with the reason in `why`
    """

    variant: str
    before: list[Image.Image]
    after: list[Image.Image]
    difference: list[Image.Image]
    found: list[tuple[tuple[bool, float], tuple[bool, float]]]
    target: tuple[float, float] | None
    activity: tuple[float, float] | None
    rest: tuple[float, float] | None
    why: str = ""


def model_bytes(study: Study) -> int | None:
    """Size of the base model's files; None when they are not on this machine."""
    path = resources.find_model(study.model.base, study.folder)
    if path is None or not path.exists():
        return None
    return path.stat().st_size if path.is_file() else sum(one.stat().st_size for one in path.rglob("*.safetensors"))


@st.cache_resource(max_entries=1, show_spinner="Loading the model (once) …")
def _lab(folder: str, stamp: int) -> "Lab":
    from workbench.lab import Lab

    lab = Lab(folder)
    lab.warm()
    return lab


def lab(state: State) -> "Lab":
    """The lab of a run; loaded when it is first asked for, and again when the run has changed."""
    return _lab(str(state.folder), (state.folder / "manifest.json").stat().st_mtime_ns)


def unload() -> None:
    """Forget the loaded model."""
    _lab.clear()


def ablation_of(asked: Asked, neurons: dict[str, list[int]]) -> "NeuronAblation":
    """What workbench/lab.py applies."""
    from workbench.lab import NeuronAblation

    return NeuronAblation(neurons, asked.mode, asked.strength, asked.calls, asked.branch)  # type: ignore[arg-type]  # checked there


def outcome(
    one: "Lab", variant: str, asked: Asked, ablation: "NeuronAblation", vectors: "torch.Tensor | None", rest: dict[str, list[int]]
) -> Outcome:
    """A variant before and after.

    rest   the concept neurons that are not ablated, whose activity says what the others do
    """
    rows = [asked.prompt] * len(asked.seeds), list(asked.seeds)
    before, after = one.before_and_after(*rows, variant, ablation, vectors)
    found = [tuple(zip(*(part.tolist() for part in one.found(images)), strict=True)) for images in (before, after)]
    why, target, activity, others = "", None, None, None
    if asked.branch != "uncond":
        try:
            target = tuple(float(np.mean(one.target(*rows, variant, change, vectors))) for change in (None, ablation))
            activity = tuple(one.activity(ablation.neurons, *rows, variant, change, vectors) for change in (None, ablation))
            if rest:
                others = tuple(one.activity(rest, *rows, variant, change, vectors) for change in (None, ablation))
        except WorkbenchError as error:
            why = str(error)
    else:
        why = "Target and activity are measured on the cond branch."
    return Outcome(
        variant,
        [_picture(image) for image in before],
        [_picture(image) for image in after],
        [_difference(*pair) for pair in zip(before, after, strict=True)],
        list(zip(*found, strict=True)),
        target,  # type: ignore[arg-type]
        activity,  # type: ignore[arg-type]
        others,  # type: ignore[arg-type]
        why,
    )


def retained(one: "Lab", variant: str, ablation: "NeuronAblation", n: int = 4) -> tuple[int, int, int] | None:
    """(shown before, shown after, n): how many of n related prompts show what they ask for; None when the study has none."""
    name = next((name for name in ("near", "far") if name in one.sets), None)
    if name is None:
        return None
    rows = one.prompts(name, n)
    shown = []
    for images in one.before_and_after(rows.prompts, rows.seeds, variant, ablation):
        wanted = [str(label) for label in rows.table["expect"]]
        shown.append(sum(bool(one.found(images[[place]], [label])[0][0]) for place, label in enumerate(wanted)))
    return shown[0], shown[1], len(rows)


def _picture(image: "torch.Tensor") -> Image.Image:
    pixels = (image.permute(1, 2, 0).nan_to_num().numpy() * 255).round().astype("uint8")
    return Image.fromarray(pixels)


def _difference(before: "torch.Tensor", after: "torch.Tensor") -> Image.Image:
    pixels = ((after - before).abs().mean(dim=0).nan_to_num() * DIFFERENCE).clamp(0, 1).numpy()
    return Image.fromarray(255 - (pixels * 255).round().astype("uint8"))


def key_of(asked: Asked, variant: str, ablation: Any) -> tuple[Any, ...]:
    """What vectors of an attack were found against."""
    return asked.prompt, asked.seeds, variant, ablation.key
