"""report.html: one file that opens offline, years later, and asks nothing of any network."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from workbench.errors import RunError
from workbench.report import images, region_cards, wording
from workbench.report.charts.style import CONFIG
from workbench.report.content import Report
from workbench.report.section import Drawing, Figure, Part, Text, found
from workbench.report.table import Table, in_words

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    # blob: is how plotly.js saves a figure as PNG; it stays on the reader's machine.
    "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'"
)
MEGABYTE = 1_000_000


def render_html(document: dict[str, Any], folder: Path, neurons: Sequence[dict[str, Any]] = (), max_mb: float = 10) -> str:
    """The report as one HTML text of at most max_mb megabytes (10^6 bytes).

    neurons   rows of neurons.parquet
    Rows of the image matrix and pictures of regions are left out until the file fits; the report says how many.
    The same document and files give the same bytes.
    """
    from plotly.offline import get_plotlyjs

    report, budget = Report(document, list(neurons)), max_mb * MEGABYTE
    context = {
        "report": report,
        "policy": POLICY,
        "plotly": Markup(get_plotlyjs()),
        "sections": _sections(report),
        "regions": {"cards": [], "pixels": {}, "left_out": 0},
    }
    blocks = images.matrix(document["images"], report.variants)
    total = sum(len(block["rows"]) for block in blocks)
    bare = _render(context, blocks, {}, [0] * len(blocks), total)
    if len(bare) > budget:
        raise RunError(
            f"A report of at most {max_mb} MB was asked for; without any image it has "
            f"{len(bare) / MEGABYTE:.1f} MB ({len(get_plotlyjs()) / MEGABYTE:.1f} MB of it are "
            "plotly.js). Allow more with max_mb, or write the Markdown report."
        )
    # a third of what is left at most, so that they never push out the images
    cards, drawn, left_out, used = region_cards.fitting(report, folder, int(min(region_cards.ROOM, (budget - len(bare)) // 3)))
    context["regions"] = {"cards": cards, "pixels": drawn, "left_out": left_out}
    pixels, kept = _fitting(blocks, folder, budget - len(bare) - used)
    while True:
        page = _render(context, blocks, pixels, kept, total - sum(kept))
        if len(page) <= budget or not any(kept):
            return page.decode("utf-8")
        last = max(place for place, count in enumerate(kept) if count)
        kept[last] -= 1


def _fitting(blocks: list[dict[str, Any]], folder: Path, room: float) -> tuple[dict[str, str], list[int]]:
    """(pixels by path, rows kept per block): rows are taken in turn while their images fit."""
    pixels: dict[str, str] = {}
    kept = [0] * len(blocks)
    turns = sorted((place, number) for number, block in enumerate(blocks) for place in range(len(block["rows"])))
    for place, number in turns:
        row = blocks[number]["rows"][place]
        paths = [image["path"] for cell in row["cells"] for image in cell]
        new = {path: images.data_uri(folder, path) for path in paths if path not in pixels}
        room -= sum(len((new | pixels)[path]) + 600 for path in paths)
        if room < 0:
            break
        pixels |= new
        kept[number] += 1
    return pixels, kept


def _render(context: dict[str, Any], blocks: list[dict[str, Any]], pixels: dict[str, str], kept: list[int], left_out: int) -> bytes:
    shown = [block | {"rows": block["rows"][:count]} for block, count in zip(blocks, kept, strict=True) if count]
    page = _environment().get_template("report.html.j2")
    return page.render(**context, blocks=shown, pixels=pixels, left_out=left_out).encode("utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("workbench.report.renderers", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=wording.number, integer=wording.integer)
    environment.globals.update(
        percent=wording.percent,
        number=wording.number,
        span=wording.span,
        provenance=wording.provenance,
        neuron_set=lambda row: wording.named(wording.NEURON_SETS, row["neuron_set"]),
        retained=lambda row: wording.named(wording.RETAINED, row["kind"]),
    )
    return environment


def _sections(report: Report) -> list[dict[str, Any]]:
    """{name, title, short, lead, parts} of every section that has something to show."""
    shown = []
    for module, section in found().items():
        name, figures, parts = module.replace("_", "-"), 0, []
        for part in section.parts:
            made = _part(part, report, f"figure-{name}", figures)
            figures += len(made.get("drawn", ())) if made else 0
            parts += [made] if made else []
        if section.always or any(part["kind"] != "text" for part in parts):
            words = {"title": section.title, "short": section.short, "lead": in_words(section.lead, report)}
            shown.append({"name": name, "parts": parts, **words})
    return shown


def _part(part: Part, report: Report, figure: str, n: int) -> dict[str, Any] | None:
    """What the template needs of a part; None when it has nothing to show. Figures get the ids figure-n, figure-n+1 ..."""
    if isinstance(part, Table):
        view = part.view(report)
        name = part.name.replace("_", "-")
        fold = part.fold.replace("{n}", wording.integer(len(view.rows)))
        return {"kind": "table", "id": f"table-{name}", "view": view, "fold": fold} if view.rows else None
    if isinstance(part, Figure):
        drawings = list(part.drawings(report)) if part.drawings else []
        drawn = [_drawn(part, drawing, f"{figure}-{n + place}") for place, drawing in enumerate(drawings)]
        return {"kind": "figures", "drawn": drawn, "more": part.more, "beside": part.beside} if drawn else None
    if isinstance(part, Text):
        words = in_words(part.words, report)
        return {"kind": "text", "words": words} if words else None
    mine = part.context(report)
    return None if mine is None else {"kind": "template", "html": part.html, "mine": mine}


def _drawn(figure: Figure, drawing: Drawing, name: str) -> dict[str, Any]:
    """A figure as HTML without plotly.js, with its title and its alternative text."""
    from plotly.io import to_html

    html = to_html(
        figure.drawn(drawing, webgl=False),
        include_plotlyjs=False,
        full_html=False,
        div_id=name,
        config=CONFIG,
        default_width="100%",
    )
    return {"title": drawing.title, "alt": figure.words(drawing), "html": Markup(html)}
