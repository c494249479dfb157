"""What the verbs of the command line share: the two consoles, and a list of rows as a table or as JSON."""

import json

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

console, errors = Console(), Console(stderr=True)


def say(value, as_json, columns=None):
    """Print [{column: value}] as a table, or as JSON for scripts."""
    if as_json:
        typer.echo(json.dumps(value, indent=1, default=str))
        return
    table = Table(*(columns or list(value[0]) if value else ["nothing yet"]))
    for row in value:
        table.add_row(*(escape(str(row[column])) for column in columns or row))
    console.print(table)
