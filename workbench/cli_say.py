"""What the verbs of the command line share: consoles, arguments, rows as a table or as JSON, durations and sizes in words."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

console, errors = Console(), Console(stderr=True)

RunName = Annotated[str, typer.Argument(help="a run: its folder, or its name under runs/")]
AsJson = Annotated[bool, typer.Option("--json", help="for scripts")]


def say(value, as_json, columns=None):
    """Print [{column: value}] as a table, or as JSON for scripts."""
    if as_json:
        typer.echo(json.dumps(value, indent=1, default=str))
        return
    table = Table(*(columns or list(value[0]) if value else ["nothing yet"]))
    for row in value:
        table.add_row(*(escape(str(row[column])) for column in columns or row))
    console.print(table)


def duration(seconds):
    """Seconds in words: 80 s, 12 min, 3.1 h."""
    seconds = max(0, round(seconds))
    return f"{seconds} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size(n_bytes):
    """Bytes in words: 3.4 MB, 1.2 GB."""
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes < 1e9 else f"{n_bytes / 1e9:,.1f} GB"
