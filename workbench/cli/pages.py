"""The command that opens the pages: app. Starts without Streamlit until it is called."""

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli.output import console


def app(
    runs: Annotated[Path, typer.Option("--runs", help="the folder that holds the runs")] = Path("runs"),
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="port on 127.0.0.1")] = 8501,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="only print the address")] = False,
) -> None:
    """Open the pages for the runs of a folder, on this machine only. Stop with Ctrl-C."""
    from workbench.ui.launch import serve

    serve(runs, port, not no_browser, lambda text: console.print(text, soft_wrap=True, markup=False))
