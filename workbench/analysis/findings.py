"""What a study found, as data: one finding per question, its outcome from a closed set, the numbers it rests on.

OUTCOMES      {kind of finding: its outcomes}
Finding       variant, kind, outcome, attack, evidence
Outcomes follow from rows by the rules of analysis/rules.py, sentences from findings by analysis/verdict.py; nothing reads a sentence to
learn what was found.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

UNDECIDED = "undecided"
TOO_FEW = "too few units"
AT_THE_CEILING = "as in the base model"
NOTHING_TO_REACTIVATE = "nothing to reactivate"
IN_PART = "reactivated in part"
WHILE_DRAWN = "deactivated while drawn"
TRANSFERRED = "transferred attack"
CANNOT_TELL = "cannot tell"
NO_VALID_SET = "no valid set"
NOT_TESTED = "not tested"
OUTCOMES = {
    "set": ("valid set", NO_VALID_SET, NOT_TESTED, TOO_FEW),
    "deactivation": ("deactivated", "not deactivated", WHILE_DRAWN, "changed at large", UNDECIDED, TOO_FEW),
    "erasure": ("below the base model", AT_THE_CEILING, UNDECIDED, TOO_FEW),
    "reactivation": ("reactivated", IN_PART, "not reactivated by these attacks", NOTHING_TO_REACTIVATE, UNDECIDED, TOO_FEW),
    "these neurons": ("more than comparable ones", "no more than comparable ones", CANNOT_TELL),
    "another concept": ("not those of another concept", "also those of another concept", CANNOT_TELL, TOO_FEW),
    "beyond the sham": ("more than the sham", "no more than the sham", UNDECIDED, TOO_FEW),
    "images": ("concept returns", "concept does not return by this attack", NOTHING_TO_REACTIVATE, UNDECIDED, TOO_FEW),
    "effect of pruning": ("less active", "more active", "unchanged", TRANSFERRED, UNDECIDED, TOO_FEW),
    "comparison": ("fewer images", "more images", TRANSFERRED, UNDECIDED, TOO_FEW),
    "relocation": ("relocated", "not relocated", UNDECIDED, TOO_FEW),
    "known answer": ("as expected", "set-up is off", "not measured"),
}
OPEN = {UNDECIDED, TOO_FEW, TRANSFERRED, CANNOT_TELL, NOT_TESTED}
# what a reader must not miss: the concept, or its activity, is there after all, or the study cannot be relied on
ALARMING = {"not deactivated", WHILE_DRAWN, AT_THE_CEILING, "reactivated", IN_PART, "concept returns", "relocated", "set-up is off"}
ALARMING |= {NO_VALID_SET, "changed at large"}


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
        return self.outcome not in OPEN
