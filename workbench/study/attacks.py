"""[[attacks]]: the attacks, each with its own control."""

from collections.abc import Sequence, Set
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from workbench import registry
from workbench.errors import nearest
from workbench.study.fields import MOST_NAME, Seed, StudyTable, Unique
from workbench.study.method_settings import check_parameters
from workbench.study.parts import SETS
from workbench.study.variants import BASE


class AttackTable(StudyTable):
    """One attack; each brings its own control."""

    added_later: ClassVar[tuple[str, ...]] = ("name", "preset", "transfer", "seeds")

    method: str
    name: str | None = Field(
        None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=MOST_NAME, description="its name in every table; default: its method"
    )
    preset: Literal["published"] | None = Field(
        None, description="published: start from the paper's values for Stable Diffusion, not from values scaled for the emoji model"
    )
    against: Annotated[list[str], Unique] = Field(
        default_factory=list, description="variants that it is optimised against; empty for a static attack"
    )
    transfer: bool | None = Field(None, description="false: it is shown only to the variant it was made against and to the base model")
    parameters: dict = Field(default_factory=dict)
    seeds: Annotated[list[Seed], Unique] | None = Field(
        None, description="run it once with each seed; intervals then include other searches"
    )

    _run_of: tuple[str, int] | None = None

    @property
    def run_of(self) -> tuple[str, int] | None:
        """(name as written, seed) of a run of an attack with seeds, else None."""
        return self._run_of

    @property
    def label(self) -> str:
        """Its name in every table."""
        return self.name or self.method

    @property
    def settings(self) -> dict[str, Any]:
        """Its parameters, over those of the preset."""
        given = registry.method("attacks", self.method).published if self.preset else {}
        return given | self.parameters


def check_attacks(attacks: Sequence[AttackTable], variants: Set[str]) -> None:
    """Refuse attacks of unknown settings, against what is no variant, or called like something else.

    variants   names of the study's variants
    Raises     ValueError that names the attack and the way out
    """
    for attack in attacks:
        _check_attack(attack)
        for name in attack.against:
            if name not in variants:
                raise ValueError(f'attack "{attack.label}" is against "{name}", which is not a variant.' + nearest(name, variants))
        optimised = registry.method("attacks", attack.method).optimised
        if optimised and not attack.against:
            raise ValueError(f'attack "{attack.label}" is optimised against a variant. Name it with `against`')
        if not optimised and attack.against:
            raise ValueError(f'attack "{attack.label}" is static. Remove `against`')
    labels = [attack.label for attack in attacks]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(
                f'two attacks are called "{label}": give each a `name`, or, if they are the same attack, list their '
                f"variants in one `against`"
            )


def _check_attack(attack: AttackTable) -> None:
    """Its preset, parameters and name; an attack is never called like another method or like a prompt set."""
    known = registry.methods("attacks")
    there = attack.method in known
    if attack.preset and there and known[attack.method].published is None:
        having = ", ".join(name for name, method in known.items() if method.published is not None) or "none"
        raise ValueError(
            f'attack "{attack.label}": {attack.method} states no published values. Remove `preset` and give `parameters`. '
            f"Attacks with the preset: {having}"
        )
    check_parameters("attacks", attack.method, attack.settings if there else {}, f"attack {attack.label}")
    if attack.name in {*known, *SETS, BASE} - {attack.method}:
        raise ValueError(
            f'an attack by {attack.method} cannot be called "{attack.name}", a name that is already used for something '
            f"else. Choose another `name`"
        )
