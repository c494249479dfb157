"""Pictures of a benchmark's tables as PNG files, drawn by plotly in Debian's chromium; nothing is fetched."""

from html import escape
from pathlib import Path

import plotly.graph_objects as go

from workbench.report.charts.style import LEGEND, PALETTE, SYMBOLS, layout
from workbench.report.sections.retention import WITHOUT_ATTACK, plane_figure
from workbench.storage import atomic

CHROMIUM = "/usr/bin/chromium"
WIDTH = 860


def plane(rows, attacks):
    """The figure of `plane_rows`: every variant but the base model, a panel for plain prompts and each attack that was made."""
    points = []
    for row in rows:
        kept = row["retained"]
        if row["variant"] == "base" or kept is None:
            continue
        for condition, found in [(WITHOUT_ATTACK, row["pre_asr"]), *((f"attack {name}", row["asr"][name]) for name in attacks)]:
            if found is not None:
                about = {
                    "variant": row["variant"],
                    "condition": condition,
                    "made": "",
                    "provenance": "optimised",
                    "kept": kept | {"kind": "near and far"},
                }
                points.append(about | {name: found[name] for name in ("n", "rate", "low", "high")})
    return plane_figure(points) if points else None


def scatter(points, x_title, y_title):
    """One marker per variant of {name: (x, y)}."""
    if not points:
        return None
    figure = go.Figure()
    for place, (name, (x, y)) in enumerate(points.items()):
        look = {"color": PALETTE[place % len(PALETTE)], "symbol": SYMBOLS[place % len(SYMBOLS)], "size": 10}
        figure.add_trace(go.Scatter(x=[x], y=[y], mode="markers", name=escape(name), marker=look))
    layout(figure, height=430, margin={"l": 56, "r": 12, "t": 70, "b": 52}, legend=LEGEND)
    figure.update_xaxes(title={"text": x_title, "standoff": 8})
    figure.update_yaxes(title={"text": y_title, "standoff": 4})
    return figure


def save(figures):
    """Write {path: figure} as PNG; the paths that were written, none on a machine without chromium and playwright."""
    figures = {Path(path): figure for path, figure in figures.items() if figure is not None}
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return []
    if not figures or not Path(CHROMIUM).exists():
        return []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 600}, device_scale_factor=2)
        for path, figure in figures.items():
            page.set_content(figure.to_html(include_plotlyjs=True, full_html=True, config={"staticPlot": True}))
            page.wait_for_selector(".js-plotly-plot .main-svg")
            with atomic(path) as temporary:
                temporary.write_bytes(page.locator(".js-plotly-plot").screenshot())
        browser.close()
    return list(figures)
