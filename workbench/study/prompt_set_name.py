"""The name of a prompt set, written and read here only: attack, what it was made against, and whether it is the control.

target                          a file of the study
random_tokens                   a static attack
embedding_pgd@erased            an attack made against the variant `erased`
embedding_pgd@erased~control    its control
"""

from typing import NamedTuple

AGAINST, CONTROL = "@", "~control"


class PromptSetName(NamedTuple):
    """The parts of the name of a prompt set; `str` writes it.

    made      what the study calls the attack that makes it, or the name of the set itself
    against   the variant that the attack was made against
    control   whether it is the attack's control
    """

    made: str
    against: str | None = None
    control: bool = False

    def __str__(self) -> str:
        return self.made + (f"{AGAINST}{self.against}" if self.against else "") + (CONTROL if self.control else "")

    @classmethod
    def read(cls, name: str) -> "PromptSetName":
        """The parts of a name."""
        made, _, against = name.removesuffix(CONTROL).partition(AGAINST)
        return cls(made, against or None, name.endswith(CONTROL))


def name_of(attack: str, against: str | None = None, control: bool = False) -> str:
    """The name of the set that an attack makes."""
    return str(PromptSetName(attack, against, control))


def control_of(name: str) -> str:
    """The name of an attack's control. A control has none itself: of its name this is the name of no set."""
    return name + CONTROL
