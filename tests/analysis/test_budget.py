"""Laws and a slow reference of workbench.analysis.budget, on logs made by hand and by the search itself."""

from itertools import pairwise

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import wilson, wilson_by_unit
from workbench.analysis import budget
from workbench.errors import StatisticsError
from workbench.methods.attacks import Context, Look
from workbench.methods.attacks._search import Budget, Drawn, search
from workbench.study.prompts import PromptSet

IDS = ["owl", "cat", "house", "church"]
LOOKS = st.lists(st.tuples(st.sampled_from(IDS), st.integers(1, 30), st.sampled_from([None, False, True])), max_size=40)


def log(*rows):
    """A log of (id, passes, found)."""
    return pandas.DataFrame(rows, columns=["id", "passes", "found"]).astype({"found": object, "passes": float})


@given(LOOKS, st.lists(st.integers(0, 40), min_size=1, max_size=5))
def test_the_rate_counts_prompts_with_a_success_within_the_budget(rows, points):
    found = budget.success_rows(log(*rows), IDS, sorted(points), attack="x")
    for point, row in zip(sorted(points), found, strict=True):
        assert row["attack"] == "x" and row["budget"] == point
        if all(seen is None for _, _, seen in rows):
            assert row["rate"] is row["low"] is None and "no detector query" in row["reason"]
            continue
        done, looks = 0, []
        for one in IDS:
            done += any(name == one and passes <= point and seen is True for name, passes, seen in rows)
            looks.append(sum(name == one and passes <= point and seen is not None for name, passes, seen in rows))
        assert (row["successes"], row["n"], row["looks"], row["reason"]) == (done, 4, max(looks), None)
        assert (row["low"], row["high"]) == pytest.approx(wilson(done, 4), abs=1e-6)
        assert row["ended"] == (point > max(passes for _, passes, seen in rows if seen is not None))
    rates = [row["rate"] for row in found if row["rate"] is not None]
    assert all(a <= b for a, b in pairwise(rates))


def test_steps_without_a_look_neither_succeed_nor_end_a_search():
    rows = log(("owl", 10, False), ("owl", 900, None), ("cat", 20, True))
    at = {row["budget"]: row for row in budget.success_rows(rows, IDS, [9, 10, 20, 21])}
    assert [at[point]["successes"] for point in (9, 10, 20, 21)] == [0, 0, 1, 1]
    assert [at[point]["looks"] for point in (9, 10, 20, 21)] == [0, 1, 1, 1]
    assert [at[point]["ended"] for point in (9, 10, 20, 21)] == [False, False, False, True]


def test_a_prompt_that_was_never_looked_at_counts_as_not_succeeded():
    (row,) = budget.success_rows(log(("owl", 5, True)), IDS, [100])
    assert (row["successes"], row["n"]) == (1, 4)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60), st.integers(2, 9))
def test_budgets_are_those_of_looks_thinned_but_for_the_first_and_the_last(spent, most):
    rows = log(*(("owl", passes, False) for passes in spent), ("owl", 1000, None))
    points = budget.budgets(rows, most)
    assert set(points) <= set(spent) and points == sorted(set(points)) and len(points) <= most
    assert (points[0], points[-1]) == (min(spent), max(spent))
    assert len(points) == min(most, len(set(spent)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: budget.success_rows(log(("owl", 5, True)), [], [1]), "no prompts"),
        (lambda: budget.success_rows(log(("bear", 5, True)), IDS, [1]), '"bear", which is not among the targets'),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(StatisticsError, match=message):
        call()


class Words(Drawn):
    """A search that spends 3 passes a step and shows the number of the step."""

    passes_per_step = 3.0

    def candidate(self, rows):
        part = self.targets.picked(rows)
        return PromptSet("x", "adversarial", part.table.assign(prompt=[str(self.iteration)] * len(rows)))


def test_the_log_of_a_search_gives_the_budget_at_which_each_prompt_was_planned_to_succeed():
    table = pandas.DataFrame({"id": IDS, "unit": IDS, "prompt": IDS, "seed": 0, "expect": None})
    targets, plan = PromptSet("target", "target", table), {"owl": 2, "cat": 4, "house": 99, "church": 4}

    def succeeds(made):
        at = zip(made.table["id"], made.prompts, strict=True)
        return [Look(int(step) >= plan[one], float(step)) for one, step in at]

    context = Context(["ink"], succeeds=succeeds, passes_per_look=10.0)
    search(Words(targets, context), targets, context, Budget(looks=3), 6)  # looks after steps 2, 4, 6
    made = pandas.DataFrame(context.log)
    spent = [2 * 3 + 10, 4 * 3 + 20, 6 * 3 + 30]
    assert budget.budgets(made) == spent
    assert budget.first_success(made, IDS).tolist() == [spent[0], spent[1], float("inf"), spent[1]]
    rows = budget.success_rows(made, IDS, [spent[0] - 1, *spent])
    assert [row["successes"] for row in rows] == [0, 1, 3, 3] and [row["looks"] for row in rows] == [0, 1, 2, 3]


def test_prompts_of_one_unit_count_together():
    found = log(("owl", 5, True), ("cat", 5, True), ("house", 5, False), ("church", 5, False))
    (alone,), (together,) = (budget.success_rows(found, IDS, [9], units) for units in (None, ["a", "a", "b", "c"]))
    assert (alone["n_units"], together["n_units"], together["rate"]) == (4, 3, alone["rate"])
    assert (together["low"], together["high"]) == pytest.approx(wilson_by_unit([2, 0, 0], [2, 1, 1]), abs=1e-9)
