"""What the process of the lab computes for the page: pictures and numbers before and after an ablation, attacks, masks.

The page asks for it over `lab_session.py`. Needs no Streamlit; imports torch where it is first needed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from workbench import resources
from workbench.errors import WorkbenchError
from workbench.study.study import Study
from workbench.ui.lab_state import Asked

if TYPE_CHECKING:
    import torch

    from workbench.lab import Lab, NeuronAblation

MOST_BYTES = 2_000_000_000  # of model files; a larger model is no work for a page
DIFFERENCE = 3  # a difference image is shown that many times as strong
RELATED = 4  # related prompts that the page asks about

Neurons = dict[str, list[int]]


@dataclass
class Outcome:
    """One variant before and after an ablation.

    before, after     pictures, one a seed;  difference   of them, shown DIFFERENCE times as strong
    found             ((bool, score) before, (bool, score) after) of the judge, a pair a seed
    target, activity  (before, after), or None with the reason in `why`
    reference         the prompt that the target compares with
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
    reference: str = ""


def model_bytes(study: Study) -> int | None:
    """Size of the base model's files; None when they are not on this machine."""
    path = resources.find_model(study.model.base, study.folder)
    if path is None or not path.exists():
        return None
    return path.stat().st_size if path.is_file() else sum(one.stat().st_size for one in path.rglob("*.safetensors"))


def ablation_of(asked: Asked, neurons: Neurons) -> "NeuronAblation":
    """What workbench/lab.py applies."""
    from workbench.lab import NeuronAblation

    return NeuronAblation(neurons, asked.mode, asked.strength, asked.calls, asked.branch)  # type: ignore[arg-type]  # checked there


def outcomes(
    lab: "Lab", variants: Sequence[str], asked: Asked, neurons: Neurons, rest: Neurons, vectors: Mapping[str, np.ndarray] | None = None
) -> list[Outcome]:
    """Variants before and after.

    rest      the concept neurons that are not ablated, whose activity says what the others do
    vectors   {variant: (seed, k, channel)} of an attack
    """
    import torch

    before_words = {name: torch.from_numpy(one) for name, one in (vectors or {}).items()}
    ablation, numbers = ablation_of(asked, neurons), asked.branch != "uncond"
    lab.prepare([asked.prompt] * len(asked.seeds), list(asked.seeds), variants, ablation, before_words, numbers)
    return [_outcome(lab, name, asked, ablation, rest, before_words.get(name)) for name in variants]


def _outcome(
    lab: "Lab", variant: str, asked: Asked, ablation: "NeuronAblation", rest: Neurons, before_words: "torch.Tensor | None"
) -> Outcome:
    rows = [asked.prompt] * len(asked.seeds), list(asked.seeds)
    before, after = lab.before_and_after(*rows, variant, ablation, before_words)
    found = [tuple(zip(*(part.tolist() for part in lab.found(images)), strict=True)) for images in (before, after)]
    why, target, activity, others = "", None, None, None
    if asked.branch != "uncond":
        try:
            target = tuple(float(np.mean(lab.target(*rows, variant, change, before_words))) for change in (None, ablation))
            activity = tuple(lab.activity(ablation.neurons, *rows, variant, change, before_words) for change in (None, ablation))
            if rest:
                others = tuple(lab.activity(rest, *rows, variant, change, before_words) for change in (None, ablation))
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
        lab.reference(asked.prompt),
    )


def attack(
    lab: "Lab", variant: str, asked: Asked, neurons: Neurons, iterations: int, stop: Callable[[], bool], tell: Callable[..., object]
) -> np.ndarray:
    """(seed, k, channel) vectors of embedding PGD against a variant as it is with the ablation."""
    from workbench.lab import stopping

    with stopping(lab, stop, tell):
        found = lab.attack([asked.prompt] * len(asked.seeds), list(asked.seeds), variant, ablation_of(asked, neurons), iterations)
    return found.numpy()


def retained(lab: "Lab", variant: str, asked: Asked, neurons: Neurons) -> tuple[int, int, int] | None:
    """(shown before, shown after, n): how many of n related prompts show what they ask for; None when the study has none."""
    name = next((name for name in ("near", "far") if name in lab.sets), None)
    if name is None:
        return None
    rows = lab.prompts(name, RELATED)
    shown = []
    for images in lab.before_and_after(rows.prompts, rows.seeds, variant, ablation_of(asked, neurons)):
        wanted = [str(label) for label in rows.table["expect"]]
        shown.append(sum(bool(lab.found(images[[place]], [label])[0][0]) for place, label in enumerate(wanted)))
    return shown[0], shown[1], len(rows)


def save_mask(lab: "Lab", path: str, neurons: Neurons) -> None:
    """Write the mask of a pruned variant."""
    lab.save_mask(Path(path), neurons)


def _picture(image: "torch.Tensor") -> Image.Image:
    pixels = (image.permute(1, 2, 0).nan_to_num().numpy() * 255).round().astype("uint8")
    return Image.fromarray(pixels)


def _difference(before: "torch.Tensor", after: "torch.Tensor") -> Image.Image:
    pixels = ((after - before).abs().mean(dim=0).nan_to_num() * DIFFERENCE).clamp(0, 1).numpy()
    return Image.fromarray(255 - (pixels * 255).round().astype("uint8"))


REQUESTS: dict[str, Callable[..., Any]] = {one.__name__: one for one in (outcomes, attack, retained, save_mask)}
