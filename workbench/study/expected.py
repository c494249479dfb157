"""[[expect]]: rates known from elsewhere."""

from typing import Literal

from pydantic import Field

from workbench.errors import nearest
from workbench.study.fields import Part, Said


class Expected(Part):
    """A rate known from elsewhere: when the study does not come near it, the verdict says first that the set-up is off."""

    variant: str
    attack: str | None = Field(None, description="what the study calls the attack; none: plainly asked")
    definition: Literal["success_rate", "pre_asr", "asr", "asr_fail"] = Field(description="as in the table rates")
    low: float = Field(ge=0, le=1, description="the interval of the rate must reach from low ...")
    high: float = Field(ge=0, le=1, description="... to high")
    source: Said = Field(description="where it is known from")


def check_expected(one, variants, attacks):
    """A known rate is of a variant and an attack of the study, and lies between two ends that rise."""
    if one.variant not in variants:
        raise ValueError(f'expect: no variant is called "{one.variant}".{nearest(one.variant, variants)}')
    if one.attack is not None and one.attack not in attacks:
        raise ValueError(f'expect: no attack is called "{one.attack}".{nearest(one.attack, attacks)}')
    if (one.attack is None) != (one.definition == "success_rate"):
        raise ValueError(f"expect: {one.definition} {'needs' if one.attack is None else 'takes no'} `attack`")
    if one.low > one.high:
        raise ValueError(f"expect: low {one.low} is above high {one.high}")
