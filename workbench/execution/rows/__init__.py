"""Rows of report.json, a file per part of the report.

Row       one row of a table, {column: value};  Tables   {table: rows}
records   the rows of a data frame
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

Row = dict[str, Any]
Tables = dict[str, list[Row]]


def records(table: "pandas.DataFrame") -> list[Row]:
    """The rows of a data frame, each {column: value}."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
