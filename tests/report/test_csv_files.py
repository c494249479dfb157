import csv
import io

import pytest

from tests.report.example import example
from workbench.errors import RunError
from workbench.report import document as schema
from workbench.report.renderers.csv_files import from_csv, to_csv


@pytest.mark.parametrize("table", schema.tables())
def test_csv_round_trip_is_the_identity(table):
    rows = example()[table]
    assert from_csv(to_csv(rows, table), table) == rows


@pytest.mark.parametrize("table", schema.tables())
def test_header_is_the_canonical_order(table):
    rows = example()[table]
    text = to_csv(rows, table)
    silent = lambda name: all(row[name] is None for row in rows)  # noqa: E731
    rare = {column.name for column in schema.tables()[table].columns if column.rare and silent(column.name)}
    assert next(csv.reader(io.StringIO(text))) == [name for name in schema.columns(table) if name not in rare]


def test_a_rare_column_is_written_where_it_says_something():
    silent = example()["rates"]
    telling = [silent[0] | {"adaptive": False}, *silent[1:]]
    header = lambda rows: next(csv.reader(io.StringIO(to_csv(rows, "rates"))))  # noqa: E731
    assert "adaptive" not in header(silent) and "adaptive" in header(telling)
    assert from_csv(to_csv(telling, "rates"), "rates") == telling and from_csv(to_csv(silent, "rates"), "rates") == silent


def test_nulls_are_empty_cells_never_zero():
    rows = [row for row in example()["rates"] if row["rate"] is None]
    cells = list(csv.DictReader(io.StringIO(to_csv(rows, "rates"))))
    assert rows and all(cell["rate"] == cell["n"] == "" and cell["reason"] for cell in cells)


def test_cells_that_a_spreadsheet_would_run_are_defused_and_restored():
    row = example()["images"][0] | {"prompt": '=HYPERLINK("x")'}
    text = to_csv([row], "images")
    assert "'=HYPERLINK" in text
    assert from_csv(text, "images") == [row]


def test_prompts_with_line_breaks_and_quotes_survive():
    row = example()["images"][0] | {"prompt": 'a "heart",\nred\r\n'}
    assert from_csv(to_csv([row], "images"), "images") == [row]


def test_a_csv_of_another_table_is_refused():
    with pytest.raises(RunError, match="The CSV of rates has the columns"):
        from_csv("a,b\n1,2\n", "rates")
