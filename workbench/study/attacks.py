"""[[attacks]]: the attacks, each with its own control."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from workbench import registry
from workbench.errors import nearest
from workbench.study.fields import MOST_NAME, Once, Part, Seed
from workbench.study.method_settings import check_parameters
from workbench.study.parts import SETS
from workbench.study.variants import BASE


class AttackPart(Part):
    """One attack; each brings its own control."""

    later: ClassVar[tuple] = ("name", "preset", "transfer", "seeds")

    method: str
    name: str | None = Field(
        None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=MOST_NAME, description="what every table calls it; default: its method"
    )
    preset: Literal["published"] | None = Field(
        None, description="published: start from the paper's values for Stable Diffusion, not from those scaled for the emoji model"
    )
    against: Annotated[list[str], Once] = Field(default_factory=list, description="variants it is optimised against; empty = static")
    transfer: bool | None = Field(None, description="false: only the variant it was made against and the base model meet it")
    parameters: dict = Field(default_factory=dict)
    seeds: Annotated[list[Seed], Once] | None = Field(None, description="make it once with each: intervals are then over runs too")

    _run_of: tuple | None = None

    @property
    def run_of(self):
        """(name as written, seed) of a run of an attack with seeds, else None."""
        return self._run_of

    @property
    def label(self):
        """What every table calls it."""
        return self.name or self.method

    @property
    def settings(self):
        """Its parameters, over those of the preset."""
        given = registry.method("attacks", self.method).module.PUBLISHED if self.preset else {}
        return given | self.parameters


def check_attacks(attacks, variants):
    """Refuse attacks of unknown settings, against what is no variant, or called like something else.

    variants   names of the study's variants
    Raises     ValueError that names the attack and the way out
    """
    for attack in attacks:
        _check_attack(attack)
        for name in attack.against:
            if name not in variants:
                raise ValueError(f'attack "{attack.label}" is against "{name}", which is no variant.' + nearest(name, variants))
        optimised = registry.method("attacks", attack.method).module.OPTIMISED
        if optimised and not attack.against:
            raise ValueError(f'attack "{attack.label}" optimises against a model: say which with `against`')
        if not optimised and attack.against:
            raise ValueError(f'attack "{attack.label}" is static: it takes no `against`')
    labels = [attack.label for attack in attacks]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(
                f'two attacks are called "{label}": give each a `name`, or, if they are the same, put their variants into one `against`'
            )


def _check_attack(attack):
    """Its preset, parameters and name; an attack is never called like another method or like a prompt set."""
    known = registry.methods("attacks")
    there = attack.method in known
    if attack.preset and there and not hasattr(known[attack.method].module, "PUBLISHED"):
        having = ", ".join(name for name, method in known.items() if hasattr(method.module, "PUBLISHED")) or "none"
        raise ValueError(
            f'attack "{attack.label}": {attack.method} states no published values. Leave `preset` out and give `parameters`. '
            f"Attacks with the preset: {having}"
        )
    check_parameters("attacks", attack.method, attack.settings if there else {}, f"attack {attack.label}")
    if attack.name in {*known, *SETS, BASE} - {attack.method}:
        raise ValueError(f'an attack by {attack.method} cannot be called "{attack.name}", which is something else; choose another `name`')
