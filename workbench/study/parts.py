"""The tables of a study that every study has, or that need few words: [model], [prompts], [detectors], [sampling], [record], [quality]."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from workbench.study.concept import OTHER, OtherConcept
from workbench.study.fields import MOST_GUIDANCE, MOST_ROWS, MOST_STEPS, MOST_UNITS, Call, NonEmpty, StudyTable, Unique
from workbench.study.method_settings import check_parameters

CONCEPT, RETAINED = ("target", "reference"), ("near", "far")
SETS = (*CONCEPT, *RETAINED, *OTHER)


class ModelTable(StudyTable):
    """The base model."""

    added_later: ClassVar[tuple[str, ...]] = ("offload",)

    base: NonEmpty = Field(description="bundled name, diffusers folder, single file (beside the study file first) or hub id")
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    offload: bool = Field(
        False, description="for small cards: text encoders and VAE wait in the computer's memory, and only the UNet stays on the GPU"
    )
    note: str | None = Field(None, description="what a reader must know about this model; printed in the report")


class Prompts(StudyTable):
    """CSV files, relative to the study file or to data/."""

    added_later: ClassVar[tuple[str, ...]] = ("retain", "trained_and_measured", "units", "other")

    target: NonEmpty = Field(description="prompts with the concept")
    reference: NonEmpty = Field(description="the same prompts without the concept, unit by unit")
    near: NonEmpty | None = Field(None, description="prompts of related concepts, which should survive; needs a column `expect`")
    far: NonEmpty | None = Field(None, description="prompts of unrelated concepts, which should survive; needs a column `expect`")
    erase: NonEmpty | None = Field(
        None, description="pairs (prompt, anchor) that erasers train on; default: each name of the concept with the empty prompt"
    )
    retain: NonEmpty | None = Field(
        None, description="prompts whose images a learned mask preserves, in a column prompt; none of them may be measured"
    )
    trained_and_measured: Literal["leave out"] | None = Field(
        None,
        description="leave out: erasing pairs and retained prompts that are also measured are left out of the training; default: refused",
    )
    units: Literal["prompt", "column"] | None = Field(
        None,
        description="what is resampled and split into halves. prompt (default): rows with the same target prompt are one unit, whatever "
        "their seed; column: as the column `unit` says",
    )
    limit: int | None = Field(None, ge=4, le=MOST_UNITS, description="use only the first rows of every set")
    other: OtherConcept | None = Field(
        None,
        description="another concept, for comparison: its neurons are chosen by the same rule and measured like those "
        "of the study's concept",
    )

    @property
    def files(self) -> dict[str, str]:
        """{what it is: file} of every list that the study names."""
        names = ("target", "reference", "near", "far", "erase", "retain")
        found = {name: getattr(self, name) for name in names} | ({} if self.other is None else self.other.files)
        return {name: file for name, file in found.items() if file is not None}


class Detectors(StudyTable):
    """Which detectors are used, and what they look for."""

    labels: Annotated[list[NonEmpty], Unique] = Field(min_length=1, description="the concept is present when any of these labels is found")
    steer: dict = Field(description="the attack-visible detector, which attacks may query: method and its parameters")
    judge: dict = Field(description="the judge, whose verdict is reported: method and its parameters")


class Sampling(StudyTable):
    """How images are made."""

    steps: int = Field(20, ge=2, le=MOST_STEPS, description="sampling steps; at most the number of timesteps that the model was trained on")
    guidance: float = Field(5.0, ge=1, le=MOST_GUIDANCE, description="classifier-free guidance scale of all rows; 1 = no guidance")
    batch: int = Field(20, ge=1, le=MOST_ROWS, description="images per UNet evaluation, and prompts per shard")


class Record(StudyTable):
    """What is recorded on the base model's trajectories."""

    sites: Annotated[list[str], Unique] = Field(["ff"], min_length=1, description="kinds of places whose neurons are recorded")
    trajectories: Annotated[list[Literal["target", "reference"]], Unique] = Field(
        ["target", "reference"],
        min_length=1,
        description="prompt sets whose trajectories (latents of the base model) all variants are recorded on",
    )
    calls: list[Call] | None = Field(
        None, min_length=1, description="recorded calls: positions in the sampling loop; default: every second one"
    )
    window: tuple[float, float] = Field(
        (0.0, 1.0), description="part of the sampling loop over which activity is averaged, from 0 (noisiest) to 1 (cleanest)"
    )


class Quality(StudyTable):
    """What is measured on images of retained concepts, beside their distance to the base model's images."""

    clip: NonEmpty | None = Field(None, description="transformers folder of a CLIP model, for CLIP scores")
    noise_floor: Annotated[list[Literal["seed", "dtype"]], Unique] = Field(
        ["seed"],
        description="how the noise floor is measured: the base model's images again, from other noise (seed) or in "
        "another number format (dtype); "
        "without `seed` distances are reported without a verdict",
    )


def check_detectors(detectors: Detectors) -> None:
    """Refuse detectors without a method or with parameters it does not take; ValueError that names the field."""
    for which in ("steer", "judge"):
        given = dict(getattr(detectors, which))
        name = given.pop("method", None)
        if name is None:
            raise ValueError(f"detectors.{which} needs a `method`")
        check_parameters("detectors", name, given, f"detectors.{which}")


def check_window(record: Record) -> None:
    """Refuse a window that does not rise from 0 to 1; ValueError."""
    low, high = record.window
    if not 0 <= low < high <= 1:
        raise ValueError(f"record.window must be two rising numbers from 0 to 1, not {low} to {high}")
