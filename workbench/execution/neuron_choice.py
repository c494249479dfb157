"""The rule by which a study chooses neurons: the top share of one score, or the agreement of several.

on_half   the values of the choosing scores on the selection or the evaluation half
chosen    what the rule takes, from such values
agreed    where several scores put a neuron together, from -1 (last by all of them) to 1 (first by all of them)
value     how far a neuron of a written neuron table speaks for the concept, by what chose: what halves, rankings and clusters go by
Values are those of scores minus what a neuron has that tells nothing, so that what is above 0 speaks for the concept.
"""

from collections.abc import Mapping

import numpy as np
import pandas

from workbench import registry
from workbench.analysis import selection
from workbench.errors import StatisticsError
from workbench.neurons import sets
from workbench.study.neuron_choice import Choose, in_words


def on_half(choose: Choose, table: pandas.DataFrame, half: str) -> dict[str, np.ndarray]:
    """{score: (neuron,)} of the choosing scores on half `a` or `b`, from a neuron table."""
    return {name: table[f"{name}_{half}"].to_numpy() - registry.method("scores", name).neutral for name in choose.choosing}


def chosen(choose: Choose, values: Mapping[str, np.ndarray], here: np.ndarray) -> np.ndarray:
    """(neuron,) bool: what a study's rule takes at a site; neurons that do not speak for the concept never.

    one score   its top share
    by rank     the top share by mean rank over the site, of the neurons for which every score speaks
    by votes    every neuron that speaks, and is in the top share, by at least `choose.votes` of the scores

    Shapes    values {score: (neuron,)};  here (neuron,) bool
    returns   may be empty
    """
    if not choose.agree:
        return positive(values[choose.score], choose.share, here)
    if choose.by == "votes":
        return sum(positive(value, choose.share, here).astype(int) for value in values.values()) >= (choose.votes or 0)
    every = here & np.all([value > 0 for value in values.values()], axis=0)
    return selection.by_rank(values, choose.share, here, every) if every.any() else every


def positive(value: np.ndarray, share: float, here: np.ndarray) -> np.ndarray:
    """The highest share of the values at a site, as far as they speak for the concept."""
    return sets.top(value, share, here) & (value > 0)


def agreed(values: Mapping[str, np.ndarray], here: np.ndarray) -> np.ndarray:
    """(neuron,) 2 x mean rank - 1 within a site; NaN elsewhere, where a score is NaN, and everywhere when one always is."""
    try:
        return 2 * selection.mean_rank(values, here) - 1
    except StatisticsError:
        return np.full(len(here), np.nan)


def value(choose: Choose, table: pandas.DataFrame, half: str = "a") -> np.ndarray:
    """(neuron,) of a neuron table: what is above 0 speaks for the concept; by agreement, more than half of all do."""
    if choose.agree:
        return table[f"agreement_{half}"].to_numpy()
    return on_half(choose, table, half)[choose.score]


def refuse_empty(choose: Choose, concept: pandas.Series) -> None:
    """StatisticsError when several scores agree on no neuron of the site ff: everything after that needs a set."""
    if choose.agree and not concept.any():
        raise StatisticsError(
            f"The concept set is empty: no neuron of the site ff is chosen by {in_words(choose)}. "
            "Take a larger choose.share, fewer votes, or scores that are more alike."
        )
