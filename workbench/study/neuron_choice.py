"""[choose]: how concept neurons are chosen, from one score or from several that agree."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from workbench import registry
from workbench.study.fields import MOST_RESAMPLES, MOST_SETS, Seed, StudyTable, Unique
from workbench.study.method_settings import check_parameters


class Choose(StudyTable):
    """How concept neurons are chosen, and how many resamples and random sets are drawn."""

    added_later: ClassVar[tuple[str, ...]] = ("agree", "by", "votes")

    score: str = Field("contrast", description="the score that chooses; with `agree`, the one of them that tables list first")
    parameters: dict = Field(default_factory=dict, description="parameters of the score")
    compare: Annotated[list[str], Unique] | None = Field(None, description="scores that are listed for comparison; default: all")
    agree: list[str] | None = Field(None, description="scores that must agree, at least 2")
    by: Literal["rank", "votes"] | None = Field(
        None,
        description="how the scores in agree are combined: rank (default), the best mean rank; votes, in the top share "
        "of at least `votes` scores",
    )
    votes: int | None = Field(None, ge=1, le=100, description="for votes: in how many of their top shares a neuron must be")
    share: float = Field(0.04, gt=0, lt=0.5, description="share of the neurons of the site ff in the concept set")
    seed: Seed = Field(0, description="seed of the halves, of the split into pruned and watched neurons, and of the random sets")
    n_random: int = Field(199, ge=19, le=MOST_SETS, description="matched random sets")
    n_resamples: int = Field(1000, ge=100, le=MOST_RESAMPLES, description="bootstrap resamples of units")

    @property
    def choosing(self) -> list[str]:
        """The scores that choose: one, or those that must agree."""
        return self.agree or [self.score]


def check_choice(choose: Choose) -> None:
    """Refuse scores and rules that make no sense: one score of the base model, or several that agree, choose.score among them.

    Raises   ValueError that names the field and the way out
    """
    check_parameters("scores", choose.score, choose.parameters, "choose.score")
    for where, names in (("compare", choose.compare), ("agree", choose.agree)):
        for name in names or []:
            check_parameters("scores", name, {}, f"choose.{where}")
    for where, names in (("score", [choose.score]), ("agree", choose.agree or [])):
        for name in names:
            if "erased" in registry.method("scores", name).needs:
                raise ValueError(f'choose.{where}: "{name}" needs an erased model. Choose by a score of the base model only')
    if choose.agree is None:
        for name in ("by", "votes"):
            if getattr(choose, name) is not None:
                raise ValueError(f"choose.{name} says how scores are combined, but choose.agree lists none. List at least 2 there")
        return
    if len(set(choose.agree)) < max(2, len(choose.agree)):
        raise ValueError(f"choose.agree needs at least 2 different scores, not {choose.agree}. Give a single score as choose.score")
    if choose.score not in choose.agree:
        raise ValueError(
            f'choose.score "{choose.score}" is not among choose.agree. It is the score that tables list first: set it to one of '
            + ", ".join(choose.agree)
        )
    if choose.by == "votes" and choose.votes is None:
        raise ValueError(f"choose.by is votes. Set choose.votes, how many of the {len(choose.agree)} scores must agree")
    if choose.by != "votes" and choose.votes is not None:
        raise ValueError('choose.votes needs choose.by = "votes"; by rank, all scores have the same weight')
    if (choose.votes or 0) > len(choose.agree):
        raise ValueError(f"choose.votes = {choose.votes}, but only {len(choose.agree)} scores are listed in choose.agree")


def in_words(choose: Choose) -> str:
    """The rule, such as "rank of contrast, welch_z" or "2 of 3 votes: contrast, z, welch_z"."""
    if not choose.agree:
        return choose.score
    how = f"{choose.votes} of {len(choose.agree)} votes:" if choose.by == "votes" else "rank of"
    return f"{how} {', '.join(choose.agree)}"
