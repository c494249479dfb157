"""Attacks: prompt sets that try to make an erased concept return, each with its own control.

An attack module has `OPTIMISED` (does it need a model to work against?), `SHARED = True` when it searches once for all prompts
(then intervals over prompts are those of one run, and reports say so), `Parameters`, and two functions:

attack(model, targets, parameters, context)                 -> PromptSet of kind adversarial
control(model, targets, adversarial, parameters, context)   -> PromptSet of kind control, with as many looks at the detector

The model already is the attacked variant. `vectors_before`, `reworded` and `reseeded` build the three kinds of sets. The defaults
of an attack are scaled for the emoji model; one that was published for Stable Diffusion says its values in `PUBLISHED`,
from which a study's `preset = "published"` starts.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from workbench.study.prompts import PromptSet


@dataclass(frozen=True)
class Look:
    """What the steering detector sees in one image."""

    found: bool
    score: float


@dataclass
class Context:
    """What a stage hands to an attack.

    names      what no attack may use beyond what the target prompt says: by default every name of the concept
    against    the variant attacked, None for static attacks
    clean      (prompt, channel, height, width) latents of the base model's images of the targets; what to reconstruct
    succeeds   PromptSet -> list of Look: does the steering detector see the concept? Each call is one look, on noise that
               no image of the study starts from, so that the winners are judged on fresh noise
    base       () -> context manager in which the model is the base model
    pairs      (prompt with the concept, prompt without it) of the erasing pairs
    kept, keep what a search had reached before it was killed: kept(name) -> state or None, keep(name, state)
    files      {file name: {tensor name: tensor}} the attack leaves behind, beside its prompts
    called     the names of the concept, where more than they is forbidden; default: names
    progress   called with (step, of, note)
    folder     where files named in parameters are looked for
    log        rows {of, id, iteration, passes, seconds, loss, found, score, prompt}: every step and every look
    passes_per_look   UNet row passes of one image
    """

    names: list
    against: str | None = None
    clean: object = None
    succeeds: Callable | None = None
    base: Callable = nullcontext
    pairs: list = field(default_factory=list)
    kept: Callable = lambda name: None
    keep: Callable = lambda name, state: None
    passes_per_look: float = 0.0
    progress: Callable = lambda step, of, note="": None
    folder: Path = Path(".")
    log: list = field(default_factory=list)
    files: dict = field(default_factory=dict)
    called: list | None = None

    def __post_init__(self):
        self.called = self.called or self.names


def _derived(targets, context, control, table, prefix=None):
    return PromptSet(
        "control" if control else "adversarial",
        "control" if control else "adversarial",
        table,
        prefix,
        against=context.against,
        control=control,
    )


def vectors_before(targets, vectors, context, control=False):
    """The target prompts with vectors (prompt, k, channel) before their words."""
    return _derived(targets, context, control, targets.table.copy(), vectors)


def reworded(targets, prompts, context, control=False):
    """The target rows with other texts."""
    return _derived(targets, context, control, targets.table.assign(prompt=list(prompts)))


def reseeded(targets, context, offset, control=False):
    """The target prompts themselves from other initial noise: what chance alone gives."""
    return _derived(targets, context, control, targets.table.assign(seed=targets.table["seed"] + offset))
