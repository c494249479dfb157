"""Rate against budget: how far a search had to go before the steering detector saw the concept.

looked      the rows of a log that are looks at the detector
budgets     the points at which a log is read
success_rows   the share of prompts that had succeeded within each budget

A budget is UNet row passes per prompt, looks included. What counts here is the steering detector's word on the noise of the
search; what the judge says of the winners on fresh noise is another number (rates).
"""

import numpy as np

from workbench.analysis.rates import rate, share
from workbench.errors import StatisticsError

POINTS = 8


def looked(log):
    """The rows of a log that are looks: those that say whether the concept was found."""
    return log[log["found"].notna()]


def budgets(log, most=POINTS):
    """The budgets at which looks took place, ascending; of many, `most` evenly spaced by rank, the first and last always."""
    spent = np.unique(looked(log)["passes"].to_numpy(float))
    if len(spent) <= most:
        return spent.tolist()
    return spent[np.unique(np.linspace(0, len(spent) - 1, most).round().astype(int))].tolist()


def first_success(log, ids):
    """(prompt,) passes spent when a prompt's search first succeeded, its look included; infinity where it never did.

    log   data frame with id, passes (spent by that prompt so far), found (null for rows that are no look)
    Raises   StatisticsError when the log names a prompt that is not among `ids`
    """
    looks = looked(log)
    if unknown := set(looks["id"]) - set(ids):
        raise StatisticsError(f'The log of an attack names the prompt "{min(unknown)}", which is not among the targets.')
    first = looks[looks["found"].astype(bool)].groupby("id")["passes"].min()
    return first.reindex(list(ids)).fillna(np.inf).to_numpy(float)


def success_rows(log, ids, points, units=None, **labels):
    """One row per budget: the share of all prompts whose search had succeeded by then, with its interval as in `rates`.

    rate(budget) = #{prompt: first_success <= budget} / n, which never falls. A prompt whose budget ran out before its first
    look counts as not succeeded. A log without looks gives nulls with a reason.

    ids, units   (prompt,) names; units when a unit has several prompts
    returns  labels, budget, looks (the most any prompt had had), ended (the last look was before this budget, so the search
             stopped and the rate stays), n, n_units, successes, rate, low, high, reason
    Raises   StatisticsError for no prompts
    """
    if not len(ids):
        raise StatisticsError("A success rate of no prompts was asked for; it is undefined, not 0.")
    looks, rows = looked(log), []
    if not len(looks):
        none = {"looks": 0, "ended": True} | rate(0, 0, "this search made no detector query")
        return [labels | {"budget": float(point)} | none for point in points]
    first, last = first_success(log, ids), float(looks["passes"].max())
    for point in points:
        had = looks.loc[looks["passes"] <= point, "id"].value_counts()
        about = {"budget": float(point), "looks": int(had.max()) if len(had) else 0, "ended": bool(point > last)}
        rows.append(labels | about | share(first <= point, units))
    return rows


def spent(log, seconds, ids):
    """What an attack, without its control, spent on a prompt.

    log       data frame of, id, passes (spent so far by that prompt), found (null for rows that are no look)
    seconds   data frame with a column seconds, row by row to the log
    returns   passes, seconds, looks: means over all prompts `ids`, 0 where nothing was spent; most_looks of any prompt. Rows
              without an id are steps for all prompts together, which already say a prompt's share. seconds is None when the
              attack kept a log, but no clock.
    """
    own = (log["of"] == "attack").to_numpy()
    rows, clock = log[own], seconds["seconds"][own].astype(float)
    looks = looked(rows)["id"].value_counts().reindex(ids).fillna(0)
    return {
        "passes": _mean_of_last(rows["id"], rows["passes"].astype(float), ids),
        "seconds": None if own.any() and clock.isna().all() else _mean_of_last(rows["id"], clock, ids),
        "looks": float(looks.mean()),
        "most_looks": int(looks.max()),
    }


def _mean_of_last(names, values, ids):
    """Mean over `ids` of the largest value under each name, plus the largest without a name."""
    shared = values[names.isna()].max()
    return float(values.groupby(names).max().reindex(ids).fillna(0).mean() + (0 if np.isnan(shared) else shared))
