"""What a section of the report is: its tables, its figures each with its alt text, its words, in the order they are shown.

A section is a module of workbench/report/sections/ with a SECTION. From it follow the check of report.json, the CSV files, the HTML and
Markdown reports and what pages show of it; nothing else lists it.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from workbench.report.content import Document, Report
from workbench.report.table import Object, Table, Words

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Drawing:
    """One figure of a report: its title and what `draw` and `alt` are given."""

    title: str
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """A figure with its alternative text: both are made from the same arguments, so that they say the same.

    draw, alt   arguments -> plotly figure; arguments -> the sentence a reader without the picture needs
    drawings    report -> what the report draws of it; nothing where its rows are missing. None: only a page draws it
    more        words on the fold that holds all drawings but the first; "" = all are open
    beside      whether drawings stand side by side
    points      whether it is a cloud of points, so that `draw` takes webgl (see charts/scatter.py)
    forest      whether it is a forest plot, whose legend needs more room on a page than in the report
    """

    draw: Callable[..., "go.Figure"]
    alt: Callable[..., str]
    drawings: Callable[[Report], Iterable[Drawing]] | None = None
    more: str = ""
    beside: bool = False
    points: bool = False
    forest: bool = False

    def drawn(self, drawing: Drawing, webgl: bool | None = None) -> "go.Figure":
        """The figure."""
        options = drawing.options | ({"webgl": webgl} if self.points else {})
        return self.draw(*drawing.arguments, **options)

    def words(self, drawing: Drawing) -> str:
        """Its alternative text."""
        return self.alt(*drawing.arguments, **drawing.options)


@dataclass(frozen=True)
class Text:
    """A paragraph; "" = nothing. One about a figure is left out where there are no figures, as in Markdown."""

    words: Words
    about_figure: bool = False


@dataclass(frozen=True)
class Template:
    """What is neither table nor figure nor paragraph.

    html       file in renderers/templates; it sees the report and, as `mine`, what `context` returns
    markdown   report -> text of the Markdown report
    context    report -> what the template needs; None = nothing to show
    """

    html: str
    markdown: Callable[[Report], str] | None = None
    context: Callable[[Report], dict[str, Any] | None] = lambda report: {}


Part = Table | Figure | Text | Template


@dataclass(frozen=True)
class Section:
    """A section of the report.

    order     place among the sections;   short   its entry in the contents
    lead      what it answers, in a sentence or two
    parts     what it shows, in order; tables that readers do not see are declared here too
    always    whether it is there without tables and figures
    objects   parts of report.json it declares that are no tables
    upgrade   document -> document, of a report that an older version wrote
    """

    order: int
    title: str
    short: str
    lead: Words
    parts: tuple[Part, ...]
    always: bool = False
    objects: tuple[Object, ...] = ()
    upgrade: Callable[[Document], Document] | None = None

    @property
    def tables(self) -> list[Table]:
        """The tables of report.json it declares."""
        return [part for part in self.parts if isinstance(part, Table) and not part.derived]


@cache
def found() -> dict[str, Section]:
    """{name: section} of the folder sections/, in the order of the report."""
    from workbench.report import sections

    names = [name for _, name, _ in pkgutil.iter_modules(sections.__path__) if not name.startswith("_")]
    modules = {name: importlib.import_module(f"{sections.__name__}.{name}") for name in names}
    return dict(sorted(((name, module.SECTION) for name, module in modules.items()), key=lambda one: (one[1].order, one[0])))
