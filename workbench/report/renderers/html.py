"""report.html: one file that opens offline, years later, and asks nothing of any network."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from workbench.errors import RunError
from workbench.report import images, region_cards, wording
from workbench.report.charts.style import CONFIG
from workbench.report.content import Report
from workbench.report.renderers.options import MAX_MB, Options
from workbench.report.section import Drawing, Figure, Part, Text
from workbench.report.table import Table, in_words

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    # blob: is how plotly.js saves a figure as PNG; it stays on the reader's machine.
    "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'"
)
MEGABYTE = 1_000_000
EVERYTHING = Options()


class Page(NamedTuple):
    """report.html, and what was left out or made smaller to keep it small, a sentence each."""

    text: str
    left_out: tuple[str, ...]


def render_html(document: dict[str, Any], folder: Path, neurons: Sequence[dict[str, Any]] = (), max_mb: float = MAX_MB) -> str:
    """The whole report as one HTML text of at most max_mb megabytes (10^6 bytes); see `render_page`."""
    return render_page(document, folder, neurons, Options(max_mb=max_mb)).text


def render_page(
    document: dict[str, Any],
    folder: Path,
    neurons: Sequence[dict[str, Any]] = (),
    options: Options = EVERYTHING,
    instead: images.Source | None = None,
) -> Page:
    """The chosen sections of a report as one HTML text.

    neurons   rows of neurons.parquet
    instead   path of an image -> the picture to show in place of its file, or None
    Images are made smaller, then rows of the image matrix and pictures of regions are left out, until the file fits; the report says so.
    The same document, files and options give the same bytes.
    Raises   RunError when the report does not fit without any image
    """
    report, budget = Report(document, list(neurons)), options.max_mb * MEGABYTE
    sections = _sections(report, options)
    drawn = any(part["kind"] == "figures" for section in sections for part in section["parts"])
    context: dict[str, Any] = {
        "report": report,
        "policy": POLICY,
        "plotly": Markup(_plotly()) if drawn else "",
        "sections": sections,
        "regions": {"cards": [], "pixels": {}, "left_out": 0},
        "smaller": False,
        "images": options.images,
    }
    shown = images.with_adaptive(document["images"], document["rates"]) if "images" in options.chosen else []
    blocks = images.matrix(shown, report.variants)
    total = sum(len(block["rows"]) for block in blocks)
    bare = _render(context, blocks, {}, [0] * len(blocks), 0 if options.images == "none" else total)
    if len(bare) > budget:
        raise RunError(
            f"A report of at most {options.max_mb:g} MB was asked for; without any image it has "
            f"{len(bare) / MEGABYTE:.1f} MB" + (f" ({len(_plotly()) / MEGABYTE:.1f} MB of it are plotly.js)" if drawn else "") + ". "
            "Allow more with max_mb, leave out sections, or write the Markdown report."
        )
    if options.images == "none":
        there = [
            name for name, table in (("images", "images"), ("clusters", "cluster_regions")) if name in options.chosen and document[table]
        ]
        return Page(bare.decode("utf-8"), ("All images were left out, as asked.",) if there else ())
    regions: dict[str, Any] = {"cards": [], "pixels": {}, "left_out": 0}
    used = 0
    if "clusters" in options.chosen:
        # a third of what is left at most, so that they never push out the images
        room = int(min(region_cards.ROOM, (budget - len(bare)) // 3))
        cards, pictures, left_out, used = region_cards.fitting(report, folder, room, instead)
        regions = {"cards": cards, "pixels": pictures, "left_out": left_out}
    context["regions"] = regions
    largest = None if options.images == "full" else images.LARGEST_SIDE
    pixels, kept = _fitting(blocks, folder, budget - len(bare) - used, largest, instead)
    if largest is None and sum(kept) < total:
        context["smaller"] = True
        pixels, kept = _fitting(blocks, folder, budget - len(bare) - used, images.LARGEST_SIDE, instead)
    while True:
        page = _render(context, blocks, pixels, kept, total - sum(kept))
        if len(page) <= budget or not any(kept):
            return Page(page.decode("utf-8"), _left_out(context["smaller"], total - sum(kept), regions["left_out"]))
        last = max(place for place, count in enumerate(kept) if count)
        kept[last] -= 1


def _left_out(smaller: bool, rows: int, regions: int) -> tuple[str, ...]:
    """What a reader of the file misses, a sentence each."""
    said = [f"Images were scaled down to {images.LARGEST_SIDE} pixels a side."] if smaller else []
    said += [f"{rows} {'row' if rows == 1 else 'rows'} of images {'was' if rows == 1 else 'were'} left out."] if rows else []
    said += [f"{regions} {'set' if regions == 1 else 'sets'} of pictures of clusters {'was' if regions == 1 else 'were'} left out."] * (
        regions > 0
    )
    return tuple(said)


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _fitting(
    blocks: list[dict[str, Any]], folder: Path, room: float, largest: int | None = images.LARGEST_SIDE, instead: images.Source | None = None
) -> tuple[dict[str, str], list[int]]:
    """(pixels by path, rows kept per block): rows are taken in turn while their images fit."""
    pixels: dict[str, str] = {}
    kept = [0] * len(blocks)
    turns = sorted((place, number) for number, block in enumerate(blocks) for place in range(len(block["rows"])))
    for place, number in turns:
        row = blocks[number]["rows"][place]
        paths = [image["path"] for cell in row["cells"] for image in cell]
        new = {path: images.data_uri(folder, path, largest, instead) for path in paths if path not in pixels}
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


def _sections(report: Report, options: Options) -> list[dict[str, Any]]:
    """{name, title, short, lead, parts} of every chosen section that has something to show."""
    shown = []
    for module, section in options.chosen.items():
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
