"""The tables of a study that say with what and how it is run: [model], [prompts], [detectors], [sampling], [record], [quality]."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from workbench.study.concept import OTHER, OtherConcept
from workbench.study.fields import MOST_GUIDANCE, MOST_ROWS, MOST_STEPS, MOST_UNITS, Call, Once, Part, Said
from workbench.study.method_settings import check_parameters

SETS = ("target", "reference", "near", "far", *OTHER)


class ModelPart(Part):
    """The base model."""

    base: Said = Field(description="bundled name, diffusers folder, single file (beside the study file first) or hub id")
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    note: str | None = Field(None, description="what a reader must know about this model; printed in the report")


class Prompts(Part):
    """CSV files, relative to the study file or to data/."""

    later: ClassVar[tuple] = ("retain", "trained_and_measured", "units", "other")

    target: Said = Field(description="prompts with the concept")
    reference: Said = Field(description="the same units without it")
    near: Said | None = Field(None, description="retained concepts close to it; needs a column `expect`")
    far: Said | None = Field(None, description="retained concepts far from it; needs a column `expect`")
    erase: Said | None = Field(
        None, description="pairs prompt, anchor that erasers train on; without it each name of the concept against the empty prompt"
    )
    retain: Said | None = Field(None, description="prompts a learned mask keeps as they are, column prompt; none of them may be measured")
    trained_and_measured: Literal["leave out"] | None = Field(
        None,
        description="leave out: erasing pairs and retained prompts that are measured are left out of training; default: refused",
    )
    units: Literal["prompt", "column"] | None = Field(
        None,
        description="what is resampled and split into halves. prompt, the default: rows with the same target prompt are one unit, whatever "
        "their seed; column: as the column `unit` says",
    )
    limit: int | None = Field(None, ge=4, le=MOST_UNITS, description="use only the first rows of every set")
    other: OtherConcept | None = Field(
        None, description="another concept: its neurons, chosen by the same rule, are measured beside those of the study's"
    )

    @property
    def files(self):
        """{what it is: file} of every list that the study names."""
        names = ("target", "reference", "near", "far", "erase", "retain")
        found = {name: getattr(self, name) for name in names} | ({} if self.other is None else self.other.files)
        return {name: file for name, file in found.items() if file is not None}


class Detectors(Part):
    """Which detectors look, and for what."""

    labels: Annotated[list[Said], Once] = Field(min_length=1, description="the concept is present when any of these labels is found")
    steer: dict = Field(description="detector that attacks may look at: method and its parameters")
    judge: dict = Field(description="detector whose verdict is reported")


class Sampling(Part):
    """How images are made."""

    steps: int = Field(20, ge=2, le=MOST_STEPS, description="of sampling; at most the timesteps the model was trained on")
    guidance: float = Field(5.0, ge=1, le=MOST_GUIDANCE, description="classifier-free guidance scale, the same for all rows; 1 = none")
    batch: int = Field(20, ge=1, le=MOST_ROWS, description="images per UNet call and prompts per shard")


class Record(Part):
    """What is recorded in the shared regime."""

    sites: Annotated[list[str], Once] = Field(["ff"], min_length=1, description="kinds of places whose neurons are recorded")
    trajectories: Annotated[list[Literal["target", "reference"]], Once] = Field(
        ["target", "reference"], min_length=1, description="prompt sets on whose latents of the base model every variant is recorded"
    )
    calls: list[Call] | None = Field(None, min_length=1, description="positions in the sampling loop; default: every second")
    window: tuple[float, float] = Field(
        (0.0, 1.0), description="share of the loop, from noisiest to cleanest, that activity is averaged over"
    )


class Quality(Part):
    """What is asked of images of retained concepts beyond their distance to the base model's."""

    clip: Said | None = Field(None, description="transformers folder of a CLIP model: how well images fit their prompts")
    noise_floor: Annotated[list[Literal["seed", "dtype"]], Once] = Field(
        ["seed"],
        description="make the base model's images again, from other noise or in another number format: what no change looks like; "
        "without `seed` distances get no word",
    )


def check_detectors(detectors):
    """Refuse detectors without a method or with parameters it does not take; ValueError that names the field."""
    for which in ("steer", "judge"):
        given = dict(getattr(detectors, which))
        name = given.pop("method", None)
        if name is None:
            raise ValueError(f"detectors.{which} needs a `method`")
        check_parameters("detectors", name, given, f"detectors.{which}")


def check_window(record):
    """Refuse a window that is none; ValueError."""
    low, high = record.window
    if not 0 <= low < high <= 1:
        raise ValueError(f"record.window must rise within 0 to 1, not {low} to {high}")
