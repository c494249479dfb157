"""Which pages there are: every script in pages/ that begins with PAGE. Reads the scripts without running them; needs no Streamlit.

A page declares PAGE = {"title": ..., "icon": ..., "why": ..., "order": ..., "needs": ..., "hidden": ...}, of plain values: `why` is what
a reader finds there, `order` its place, `needs` the part of report.json without which no link leads to it (left out: there always is
one), `hidden` whether it is opened from other pages only, `of_run` is False for a page that shows something even where there is no run.
"""

import ast
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from workbench.errors import WorkbenchError
from workbench.resources import folder


class Page(NamedTuple):
    """A page; its name is that of its script and stands in the address."""

    name: str
    script: Path
    title: str
    icon: str
    why: str
    order: float
    needs: str | None = None
    hidden: bool = False
    of_run: bool = True


@cache
def pages() -> tuple[Page, ...]:
    """All pages, in their order; the first one opens when the address names none.

    Raises   WorkbenchError for a script without a PAGE that can be read
    """
    found = [_page(path) for path in folder("pages").glob("*.py")]
    return tuple(sorted(found, key=lambda page: (page.order, page.name)))


def linked(document: dict[str, Any] | None) -> list[Page]:
    """The pages that a run's links lead to: all but hidden ones and those whose part of its report.json is not there yet."""
    return [page for page in pages() if not page.hidden and (page.needs is None or (document and document[page.needs]))]


def page(name: str) -> Page | None:
    """The page of a name, hidden or not; None when there is none."""
    return next((one for one in pages() if one.name == name), None)


def _page(path: Path) -> Page:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [getattr(target, "id", None) for target in node.targets] == ["PAGE"]:
            try:
                return Page(name=path.stem, script=path, **ast.literal_eval(node.value))
            except (TypeError, ValueError) as error:
                raise WorkbenchError(f"The PAGE of {path} cannot be read ({error}). It needs title, icon, why and order.") from None
    raise WorkbenchError(f"{path} is no page: it does not begin with PAGE = {{...}}. See workbench/ui/navigation.py.")
