"""What the commands share: consoles, arguments, rows as a table or as JSON, durations and sizes in words.

All text reaches the terminal through here: `console` and `errors` style it, and `safely` guards what is written past them.
Neither lets a control character of a name, a prompt or a message through; see `workbench.terminal`.
"""

import json
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.text import Text
from typer.core import TyperGroup

from workbench.terminal import Visible, visible


class VisibleConsole(Console):
    """A console that shows control characters of what it prints as escapes; its own styles and cursor movements stay."""

    def render_str(self, text: str, **options: Any) -> Text:
        """A string as rich text; here already, so that tables are as wide as what they show."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Anything as segments of text."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)

    @property
    def file(self) -> IO[str]:
        """Where it writes: behind a progress bar, which stands in front of `safely`."""
        file = super().file
        while hasattr(file, "rich_proxied_file"):
            file = file.rich_proxied_file
        return file

    @file.setter
    def file(self, new_file: IO[str]) -> None:
        self._file = new_file


class VisibleGroup(TyperGroup):
    """The commands. Usage errors are printed without control characters of the words given, and Ctrl-C ends with a message."""

    def make_context(self, *words: Any, **options: Any) -> Any:
        """As in typer."""
        with _visible_message():
            return super().make_context(*words, **options)

    def invoke(self, context: Any) -> Any:
        """As in typer, with a message after Ctrl-C."""
        try:
            with _visible_message():
                return super().invoke(context)
        except KeyboardInterrupt:
            errors.print("\nStopped. Finished results are kept; run the same command again to continue.")
            raise typer.Exit(130) from None


@contextmanager
def _visible_message() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message"):  # a usage error, which typer prints itself
            message = visible(error.format_message())
            error.format_message = lambda: message
        raise


@contextmanager
def safely() -> Iterator[None]:
    """Guard standard output and standard error; an unexpected error is printed with its traceback and ends with exit code 1."""
    kept = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Visible(kept[0]), Visible(kept[1])
    try:
        yield
    except Exception:
        traceback.print_exc()
        sys.exit(1)
    finally:
        sys.stdout, sys.stderr = kept


# names and prompts may hold :heart: and the like, which is no emoji there
console, errors = VisibleConsole(emoji=False), VisibleConsole(stderr=True, emoji=False)

RunName = Annotated[str, typer.Argument(help="a run: its folder, or its name under runs/")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, for scripts")]


def say(value: Any, as_json: bool, columns: Sequence[str] | None = None) -> None:
    """Print [{column: value}] as a table, or as JSON for scripts."""
    if as_json:
        typer.echo(json.dumps(value, indent=1, default=str))
        return
    from rich.table import Table

    table = Table(*(columns or list(value[0]) if value else ["nothing yet"]))
    for row in value:
        table.add_row(*(escape(str(row[column])) for column in columns or row))
    console.print(table)


def duration(seconds: float) -> str:
    """Seconds in words: 80 s, 12 min, 3.1 h."""
    seconds = max(0, round(seconds))
    return f"{seconds} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size(n_bytes: float) -> str:
    """Bytes in words: 3.4 MB, 1.2 GB."""
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes < 1e9 else f"{n_bytes / 1e9:,.1f} GB"


def shortened(names: Sequence[str], width: int) -> list[str]:
    """Names of parameters or layers cut in the middle to a width, so that they can still be told apart; in their order.

    First the words between the numbers go, then letters in the middle. Where no cut keeps them apart, they stay longer than the width.
    """
    if all(len(name) <= width for name in names):
        return list(names)
    without_words = [_without_words(name) for name in names]
    if all(len(name) <= width for name in without_words) and len(set(without_words)) == len(set(names)):
        return without_words
    for candidates in (without_words, names):
        for head in sorted(range(1, max(2, width - 1)), key=lambda n: abs(n - width // 2)):
            cut = [name if len(name) <= width else f"{name[:head]}…{name[head + 1 - width :]}" for name in candidates]
            if len(set(cut)) == len(set(names)):
                return cut
    return without_words if len(set(without_words)) == len(set(names)) else list(names)


def _without_words(name: str) -> str:
    """down_blocks.0.attentions.1.transformer_blocks.0.attn2.to_k.weight -> down_blocks.0…1…0.attn2.to_k.weight."""
    parts = name.split(".")
    first = 2 if parts[0] in ("unet", "text_encoder", "text_encoder_2") else 1
    last = max((place for place, part in enumerate(parts[:-2]) if part.isdigit()), default=0)
    kept = ".".join(parts[:first])
    for place in range(first, len(parts)):
        if place > last or parts[place].isdigit():
            kept += ("" if kept.endswith("…") else ".") + parts[place]
        elif not kept.endswith("…"):
            kept += "…"
    return kept
