"""[[expect]]: rates known from elsewhere."""

from collections.abc import Collection
from typing import Literal

from pydantic import Field

from workbench.errors import nearest
from workbench.study.fields import NonEmpty, StudyTable


class Expected(StudyTable):
    """A rate known from elsewhere: where the study does not reproduce it, the verdict says first that the set-up may be wrong."""

    variant: str
    attack: str | None = Field(None, description="name of the attack in the study; leave it out for the rate without attack")
    definition: Literal["success_rate", "pre_asr", "asr", "asr_fail"] = Field(
        description="which rate, as in the table rates of report.json"
    )
    low: float = Field(ge=0, le=1, description="the interval of the measured rate must overlap low ...")
    high: float = Field(ge=0, le=1, description="... to high")
    source: NonEmpty = Field(description="where it is known from")


def check_expected(one: Expected, variants: Collection[str], attacks: Collection[str]) -> None:
    """A known rate names a variant and an attack of the study; its low end is below its high end."""
    if one.variant not in variants:
        raise ValueError(f'expect: no variant is called "{one.variant}".{nearest(one.variant, variants)}')
    if one.attack is not None and one.attack not in attacks:
        raise ValueError(f'expect: no attack is called "{one.attack}".{nearest(one.attack, attacks)}')
    if (one.attack is None) != (one.definition == "success_rate"):
        raise ValueError(f"expect: {one.definition} {'needs' if one.attack is None else 'takes no'} `attack`")
    if one.low > one.high:
        raise ValueError(f"expect: low {one.low} is above high {one.high}")
