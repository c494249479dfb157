"""[choose]: how concept neurons are chosen, from one score or from several that agree."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from workbench import registry
from workbench.study.fields import MOST_RESAMPLES, MOST_SETS, Once, Part, Seed
from workbench.study.method_settings import check_parameters


class Choose(Part):
    """How concept neurons are chosen, and how sure we want to be."""

    later: ClassVar[tuple] = ("agree", "by", "votes")

    score: str = Field("contrast", description="what chooses; with `agree`, the one of them that is listed first")
    parameters: dict = Field(default_factory=dict, description="of the score")
    compare: Annotated[list[str], Once] | None = Field(None, description="scores listed beside it; default: every one")
    agree: list[str] | None = Field(None, description="scores that choose together, at least 2")
    by: Literal["rank", "votes"] | None = Field(
        None, description="of agree: the best mean rank (default), or in the top share of at least `votes` of them"
    )
    votes: int | None = Field(None, ge=1, le=100, description="how many of the scores in agree must have a neuron in their top share")
    share: float = Field(0.04, gt=0, lt=0.5, description="share of the neurons of the site ff in the concept set")
    seed: Seed = Field(0, description="of the halves, the coin of pruned or watched, and the random sets")
    n_random: int = Field(199, ge=19, le=MOST_SETS, description="matched random sets")
    n_resamples: int = Field(1000, ge=100, le=MOST_RESAMPLES, description="bootstrap resamples of units")

    @property
    def choosing(self):
        """The scores that choose: one, or those that must agree."""
        return self.agree or [self.score]


def check_choice(choose):
    """Refuse scores and rules that mean nothing: one score of the base model alone, or several that agree, the listed one among them.

    Raises   ValueError that names the field and the way out
    """
    check_parameters("scores", choose.score, choose.parameters, "choose.score")
    for where, names in (("compare", choose.compare), ("agree", choose.agree)):
        for name in names or []:
            check_parameters("scores", name, {}, f"choose.{where}")
    for where, names in (("score", [choose.score]), ("agree", choose.agree or [])):
        for name in names:
            if "erased" in registry.method("scores", name).module.NEEDS:
                raise ValueError(f'choose.{where}: "{name}" needs an erased model; choose by a score of the base model alone')
    if choose.agree is None:
        for name in ("by", "votes"):
            if getattr(choose, name) is not None:
                raise ValueError(f"choose.{name} says how scores agree, but none are given: list at least 2 in choose.agree")
        return
    if len(set(choose.agree)) < max(2, len(choose.agree)):
        raise ValueError(f"choose.agree needs at least 2 scores, each once, not {choose.agree}. One score chooses as choose.score")
    if choose.score not in choose.agree:
        raise ValueError(
            f'choose.score "{choose.score}" is not among choose.agree: it is the one listed first, so set it to one of '
            + ", ".join(choose.agree)
        )
    if choose.by == "votes" and choose.votes is None:
        raise ValueError(f"choose.by is votes: say with choose.votes how many of the {len(choose.agree)} scores must agree")
    if choose.by != "votes" and choose.votes is not None:
        raise ValueError('choose.votes counts only with choose.by = "votes"; by rank all scores weigh the same')
    if (choose.votes or 0) > len(choose.agree):
        raise ValueError(f"choose.votes = {choose.votes}, but only {len(choose.agree)} scores are listed in choose.agree")


def in_words(choose):
    """The rule, such as "rank of contrast, welch_z" or "2 of 3 votes: contrast, z, welch_z"."""
    if not choose.agree:
        return choose.score
    how = f"{choose.votes} of {len(choose.agree)} votes:" if choose.by == "votes" else "rank of"
    return f"{how} {', '.join(choose.agree)}"
