"""The guide to a report names every table, and explains every column of it."""

import re
from pathlib import Path

import pytest

from workbench.report.document import tables

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "read-a-report.md").read_text(encoding="utf-8")
# ends of an interval, said once for all tables
ENDS = re.compile(r"(.*?)_?(low|high)$")


def said(column):
    return re.search(rf"`[^`]*(?<![a-z_]){re.escape(column)}(?![a-z_])[^`]*`", GUIDE) is not None


@pytest.mark.parametrize("table", tables())
def test_the_guide_names_the_table(table):
    assert said(table)


@pytest.mark.parametrize("table", tables())
def test_the_guide_explains_every_column(table):
    missing = [column for column in tables()[table].names if not said(column)]
    # `x_low` and `x_high` are explained with `x`
    missing = [column for column in missing if not ((end := ENDS.match(column)) and (not end[1] or said(end[1])))]
    assert missing == []


def test_a_column_that_is_not_explained_is_found():
    assert not said("no_such_column") and said("p_change")
