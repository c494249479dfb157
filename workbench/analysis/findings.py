"""What a study found, as data: one finding per question, its outcome from a closed set, the numbers it rests on.

OUTCOMES      {kind of finding: its outcomes}
Finding       variant, kind, outcome, attack, evidence
Outcomes follow from rows by the rules of analysis/rules.py, sentences from findings by analysis/verdict.py; nothing reads a sentence to
learn what was found.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

UNDECIDED = "undecided"
AT_THE_CEILING = "as in the base model"
NOTHING_TO_REACTIVATE = "nothing to reactivate"
OUTCOMES = {
    "deactivation": ("deactivated", "not deactivated", UNDECIDED),
    "erasure": ("below the base model", AT_THE_CEILING, UNDECIDED),
    "reactivation": ("reactivated", "not reactivated by these attacks", NOTHING_TO_REACTIVATE, UNDECIDED),
    "images": ("concept returns", "concept does not return by this attack", NOTHING_TO_REACTIVATE, UNDECIDED),
    "effect of pruning": ("less active", "more active", "unchanged", UNDECIDED),
    "comparison": ("fewer images", "more images", UNDECIDED),
    "relocation": ("relocated", "not relocated", UNDECIDED),
    "known answer": ("as expected", "set-up is off", "not measured"),
}
# what a reader must not miss: the concept, or its activity, is there after all, or the study cannot be relied on
ALARMING = {"not deactivated", AT_THE_CEILING, "reactivated", "concept returns", "relocated", "set-up is off"}


class Evidence(NamedTuple):
    """A number behind a finding, with its 95 % interval and n where it has them."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class Finding:
    """One answer. `evidence` is {name: Evidence}; `beside` the other variant of a comparison; `about` what else its sentence names."""

    kind: str
    variant: str
    outcome: str
    evidence: dict
    role: str | None = None
    attack: str | None = None
    provenance: str | None = None
    against: str | None = None
    beside: str | None = None
    about: dict = field(default_factory=dict)

    def __post_init__(self):
        if self.outcome not in OUTCOMES.get(self.kind, ()):
            raise ValueError(f'"{self.outcome}" is no outcome of "{self.kind}": {OUTCOMES.get(self.kind)}.')

    @property
    def decided(self):
        """Whether the numbers said one thing or the other."""
        return self.outcome != UNDECIDED
