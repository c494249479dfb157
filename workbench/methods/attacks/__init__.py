"""Attacks: prompt sets that try to bring a concept back, each with its own control.

An attack module has `OPTIMISED` (does it need a model to work against?), `Parameters`, and two functions:

attack(model, targets, parameters, context)                 -> PromptSet of kind adversarial
control(model, targets, adversarial, parameters, context)   -> PromptSet of kind control, with as many looks at the detector

The model already is the attacked variant. `vectors_before`, `words_before` and `other_seeds` build the three kinds of sets.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from workbench.study.prompts import PromptSet


@dataclass
class Context:
    """What a stage hands to an attack.

    names      every name of the concept; no attack may use them beyond what the target prompt says
    against    the variant attacked, None for static attacks
    clean      (prompt, channel, height, width) latents of the base model's images of the targets; what to reconstruct
    succeeds   PromptSet -> list of bool: does the steering detector see the concept? Each call is one look
    progress   called with (step, of, note)
    folder     where files named in parameters are looked for
    log        rows {iteration, prompt id, loss …} the attack may append to
    """

    names: list
    against: str | None = None
    clean: object = None
    succeeds: Callable | None = None
    progress: Callable = lambda step, of, note="": None
    folder: Path = Path(".")
    log: list = field(default_factory=list)


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


def other_seeds(targets, context, offset):
    """The target prompts themselves from other initial noise: what chance alone gives. Always a control."""
    return _derived(targets, context, True, targets.table.assign(seed=targets.table["seed"] + offset))


def keep_first_success(candidates, context):
    """From several candidate sets of equal rows keep, per row, the first the detector sees the concept in, else the last.

    One candidate is no choice: it is returned without a look.
    """
    if len(candidates) == 1 or context.succeeds is None:
        return candidates[-1]
    rows, chosen = list(range(len(candidates[0]))), {}
    for number, candidate in enumerate(candidates):
        for row, success in zip(range(len(candidate)), context.succeeds(candidate), strict=True):
            if success:
                chosen.setdefault(row, number)
    picked = [candidates[chosen.get(row, len(candidates) - 1)].rows(row, row + 1) for row in rows]
    import pandas
    import torch

    prefix = None if picked[0].prefix is None else torch.cat([one.prefix for one in picked])
    table = pandas.concat([one.table for one in picked], ignore_index=True)
    return replace(candidates[0], table=table, prefix=prefix)
