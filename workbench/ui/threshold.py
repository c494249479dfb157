"""What another threshold of the judge would change: rates of each condition, and the images on either side. Needs no Streamlit.

scores   rows like those of report.json's table `images` of every image of a condition, with the score of the judge
at       rows {Condition, rate} at a threshold;  nearest   the images just above and just below it
"""

from collections.abc import Sequence
from typing import NamedTuple

from workbench.report import wording
from workbench.report.content import Report, Row
from workbench.report.story import Step
from workbench.statistics import wilson
from workbench.ui import picture_files
from workbench.ui.run_list import State


class Scores(NamedTuple):
    """A column of the story figure and the scores of its images."""

    name: str
    rows: list[Row]


def own_threshold(report: Report) -> float | None:
    """The threshold of the judge; None where it has several, or none that the report says."""
    known = {
        tuple(row["thresholds"] or (row["threshold"],)) for row in report["rates"] if row["threshold"] is not None or row["thresholds"]
    }
    only = {threshold for thresholds in known for threshold in thresholds}
    return float(next(iter(only))) if len(only) == 1 else None


def scores(state: State, steps: Sequence[Step]) -> list[Scores]:
    """The scores of every condition of a story whose results are there."""
    listed = picture_files.known(state)
    found = []
    for step in steps:
        prompt_set = "target" if not step.attack else step.rate["prompt_set"] if step.rate else None
        rows = picture_files.of_condition(state, step.variant, prompt_set, listed) if prompt_set else []
        if rows:
            found.append(Scores(step.name, rows))
    return found


def at(found: Sequence[Scores], threshold: float) -> list[dict[str, str]]:
    """The share of each condition's images at or above a threshold, with Wilson's interval."""
    told = []
    for one in found:
        n, seen = len(one.rows), sum(row["score"] >= threshold for row in one.rows)
        share = wilson(seen, n)
        rate = {"rate": share.value, "low": share.low, "high": share.high, "n": n}
        told.append(
            {"Condition": one.name, "Images that show the concept": wording.with_n(rate, "rate", wording.digits(0, wording.percent))}
        )
    return told


def nearest(rows: Sequence[Row], threshold: float, most: int = 4) -> tuple[list[Row], list[Row]]:
    """(just below, just above): the images whose scores are nearest to a threshold, each side in the order of its scores."""
    ordered = sorted(rows, key=lambda row: row["score"])
    below = [row for row in ordered if row["score"] < threshold][-most:]
    return below, [row for row in ordered if row["score"] >= threshold][:most]
