"""What a module must and may declare to be an eraser, an attack, a detector or a score.

A module is a method when it has what the protocol of its kind asks for: `Eraser`, `Attack`, `DetectorModule` or `Score`. Each of the
other protocols is one optional declaration; the kinds it is for stand in its first line. `workbench.registry` checks every declaration
when it finds the module, holds the defaults, and is the only one that reads modules. Nothing is imported here at run time.

Shapes   prompt sets hold (prompt,) rows; images are (prompt, 3, height, width) in [0, 1]; scores are (neuron,)
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel

if TYPE_CHECKING:
    import numpy
    import torch

    from workbench.methods.attacks import Context
    from workbench.methods.detectors import Detector
    from workbench.models.changes import Change
    from workbench.models.load import Model
    from workbench.study.prompts import PromptSet
    from workbench.study.published import Published


class Settable(Protocol):
    """Every kind: what can be set."""

    Parameters: type[BaseModel]


class Eraser(Settable, Protocol):
    """An eraser: how a concept is taken out of the base model or of the parent variant."""

    def erase(
        self, model: "Model", pairs: Sequence[tuple[str, str]], parameters: Any, **context: Any
    ) -> "Mapping[str, torch.Tensor] | Change":
        """{parameter of the model: its new values, or a boolean mask, True = pruned}, or a Change that is no weights.

        The model is left as it was.

        pairs     (prompt with the concept, anchor without it)
        context   what the eraser names by keyword it is given: progress, folder, prune ({layer: neurons}), spare, like, retained,
                  detector ({"detector": as a study gives it, "labels"}), base, kept, keep, log, base_digest
        Raises    MethodError for pairs or settings that it cannot work with
        """
        ...


class Attack(Settable, Protocol):
    """An attack: a prompt set that tries to bring the concept back, and its control. The model is the attacked variant.

    OPTIMISED   whether it needs a model to work against
    """

    OPTIMISED: bool

    def attack(self, model: "Model", targets: "PromptSet", parameters: Any, context: "Context") -> "PromptSet":
        """A set of kind `adversarial` with the rows of the targets."""
        ...

    def control(self, model: "Model", targets: "PromptSet", adversarial: "PromptSet", parameters: Any, context: "Context") -> "PromptSet":
        """A set of kind `control` with the same rows and as many detector queries, made without the search."""
        ...


class DetectorModule(Settable, Protocol):
    """A detector: does an image show the concept?"""

    def load(self, parameters: Any) -> "Detector":
        """The detector, its network read; ModelError when its files cannot be."""
        ...


class Score(Settable, Protocol):
    """A score: how strongly a neuron is tied to the concept; larger values for neurons that do more for it.

    NEEDS   what it reads: target, reference, erased; norm or row_norm in place of the mean of |a|; calls, weights
    UNIT    what its values count, in words
    """

    NEEDS: tuple[str, ...]
    UNIT: str

    def score(
        self, target: "numpy.ndarray", reference: "numpy.ndarray", erased: "numpy.ndarray", layer: "numpy.ndarray", **given: Any
    ) -> "numpy.ndarray":
        """(neuron,) float. Arrays are (prompt, neuron), or (prompt, call, neuron) where NEEDS has `calls`."""
        ...


class Versioned(Protocol):
    """Erasers, attacks, scores. VERSION: a number above 1 when the code gives other results than at first; default 1."""

    VERSION: int


class Cited(Protocol):
    """Every kind. CITATIONS: the publications it implements, as keys of citations.bib or whole BibTeX entries; default none."""

    CITATIONS: tuple[str, ...]


class Masking(Protocol):
    """Erasers. MASK: whether it returns masks, not weights; default False."""

    MASK: bool


class TakesNeurons(Protocol):
    """Erasers. NEEDS = ("neurons",): it is given the neurons to prune, as `prune`; default nothing."""

    NEEDS: tuple[str, ...]


class StressTest(Protocol):
    """Erasers. OVER_OTHER_PARENTS: whether it is compared with itself over other parents; default False."""

    OVER_OTHER_PARENTS: bool


class Defends(Protocol):
    """Erasers. DEFENDS: what it does while images are sampled, in place of changing the model: guidance, transform or corrector.

    guidance    a rule of guidance, which acts only where images are sampled with guidance
    transform   a prompt transform, between the text encoder and the UNet
    corrector   it looks at the image while it is sampled, and corrects it
    Default None: it changes the model itself.
    """

    DEFENDS: str


class HasFurtherBranch(Protocol):
    """Erasers. FURTHER_BRANCH: whether its rule of guidance takes a third branch, so that an image costs half as much again."""

    FURTHER_BRANCH: bool


class LiftsMasks(Protocol):
    """Erasers: whether its weights hold where a parent pruned; default False."""

    def lifts_masks(self, parameters: Any) -> bool:
        """For these parameters."""
        ...


class Learns(Protocol):
    """Erasers: the sides of the erasing pairs it learns from, "prompt" and "anchor"; default both, none for one with `files`."""

    def learns_from(self, parameters: Any) -> tuple[str, ...]:
        """No measured prompt may be among these sides."""
        ...


class ChecksTraining(Protocol):
    """Erasers: pairs it cannot learn from are refused by the dry run."""

    def check_training(self, parameters: Any, pairs: Sequence[tuple[str, str]]) -> None:
        """Raises MethodError."""
        ...


class PublishedEraser(Protocol):
    """Erasers. PUBLISHED: the authors' settings by task, for `preset = "published"`; default none."""

    PUBLISHED: "Published"


class WithoutPreset(Protocol):
    """Erasers. NO_PRESET: why nothing was published, a sentence."""

    NO_PRESET: str


class PublishedAttack(Protocol):
    """Attacks. PUBLISHED: {parameter: value} of the publication, for `preset = "published"`; default none."""

    PUBLISHED: dict[str, Any]


class SearchesOnce(Protocol):
    """Attacks. SHARED: whether one search serves many prompts, so that intervals over prompts hold for that search; default False."""

    SHARED: bool


class FollowsGradient(Protocol):
    """Attacks. GRADIENT: whether it follows the gradient of the noise that an attack sees (`objectives.seen`); default False.

    Such an attack passes through a rule of guidance and a prompt transform: on a variant that has one it is adaptive.
    """

    GRADIENT: bool


class MadeElsewhere(Protocol):
    """Attacks: the variant that imported prompts were made against; default None."""

    def made_against(self, parameters: Any, folder: str | Path) -> str | None:
        """Its name, as the note beside the file says."""
        ...


class ChecksTargets(Protocol):
    """Attacks: targets it cannot work on are refused by the dry run."""

    def check_targets(self, parameters: Any, targets: "PromptSet", names: Sequence[str]) -> None:
        """Raises MethodError."""
        ...


class ReadsFiles(Protocol):
    """Erasers and attacks: the files it reads, whose content belongs to the key of what it makes; default none."""

    def files(self, parameters: Any, folder: str | Path) -> Mapping[str, str]:
        """{name: digest}."""
        ...


class Checks(Protocol):
    """Erasers and attacks: files that do not fit a model are refused by the dry run."""

    def check(self, parameters: Any, model: "Model") -> None:
        """Raises an expected error."""
        ...


class Costs(Protocol):
    """Erasers and attacks: what it costs, for the estimate; default 0."""

    def passes(self, parameters: Any, n: int, passes_per_image: float) -> float:
        """UNet row passes for n erasing pairs or n prompts; a pass with gradient counts 2.5."""
        ...


class Unremembered(Protocol):
    """Detectors. REMEMBERED: whether its answers are kept in the run folder, so that an image is judged once; default True."""

    REMEMBERED: bool


class Neutral(Protocol):
    """Scores. NEUTRAL: the value of a neuron that carries no information about the concept; default 0."""

    NEUTRAL: float


class UnitByParameters(Protocol):
    """Scores: what the values count where that depends on parameters; default UNIT."""

    def unit(self, parameters: Any) -> str:
        """In words."""
        ...


KINDS = {"erasers": Eraser, "attacks": Attack, "detectors": DetectorModule, "scores": Score}
OPTIONAL: dict[str, tuple[type, ...]] = {
    "erasers": (
        Cited,
        Versioned,
        Masking,
        TakesNeurons,
        StressTest,
        Defends,
        HasFurtherBranch,
        LiftsMasks,
        Learns,
        ChecksTraining,
        PublishedEraser,
        WithoutPreset,
        ReadsFiles,
        Checks,
        Costs,
    ),
    "attacks": (Cited, Versioned, PublishedAttack, SearchesOnce, FollowsGradient, MadeElsewhere, ChecksTargets, ReadsFiles, Checks, Costs),
    "detectors": (Cited, Unremembered),
    "scores": (Cited, Versioned, Neutral, UnitByParameters),
}
