"""From base over erased to attacked: how much of the base model's contrast is left, of all concept neurons and of each cluster.

A page draws it; the report shows the same numbers as effects. Imports plotly when it draws.
"""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from workbench.analysis import headline
from workbench.report import looks, wording
from workbench.report.charts.style import COLOURS, DASHES, LEGEND, Plot, layout, level, overlaid
from workbench.report.content import Report, Row
from workbench.report.section import Figure
from workbench.report.story import Story

STEP = 0.06  # between lines, so that intervals do not hide each other


class Slope(NamedTuple):
    """A line: what it is of, and (value, low, high, n) at base, erased and attacked; None where there is no number."""

    name: str
    place: int
    points: list[tuple[float, float, float, int | None] | None]


def slopes(report: Report, told: Story) -> list[Slope]:
    """The lines of the first variant of a story: all its neurons, then each cluster.

    At base 1; at erased 1 minus deactivation; at attacked that plus reactivation, the attack minus its control.
    """
    own = [step for step in told.steps if step.role != "base"]
    if not own or (own[0].activity is None and own[0].why):
        return []
    variant, attack = own[0].variant, next((step.attack for step in own if step.variant == own[0].variant and step.attack), None)
    wanted = {"variant": variant, "neuron_set": headline.own_set(own[0].role), "trajectory": headline.trajectory(report["effects"])}
    of_all = [row for row in report["effects"] if wanted.items() <= row.items()]
    found = [_slope("all concept neurons", -1, of_all, attack)]
    of_clusters = [row for row in report["cluster_effects"] if row["variant"] == variant and not row["control"]]
    for cluster in sorted({row["cluster"] for row in of_clusters}):
        found.append(_slope(f"cluster {cluster}", cluster, [row for row in of_clusters if row["cluster"] == cluster], attack))
    return [one for one in found if one.points[1]]


def _slope(name: str, place: int, rows: Sequence[Row], attack: Row | None) -> Slope:
    lost = next((row for row in rows if row["effect"] == "deactivation" and row["value"] is not None), None)
    again = [row for row in rows if row["effect"] == "reactivation" and row["value"] is not None]
    gained = next((row for row in again if attack and row["attack"] and headline.same(row, attack)), None)
    points: list[tuple[float, float, float, int | None] | None] = [(1.0, 1.0, 1.0, None), None, None]
    if lost:
        points[1] = (1 - lost["value"], 1 - (lost["high"] or lost["value"]), 1 - (lost["low"] or lost["value"]), lost["n"])
    if lost and gained:
        left, ends = 1 - lost["value"], [gained["value"] if gained[end] is None else gained[end] for end in ("low", "high")]
        points[2] = (left + gained["value"], left + ends[0], left + ends[1], gained["n"])
    return Slope(name, place, points)


def slope_figure(found: Sequence[Slope], variant: str) -> Plot:
    """A line per set of neurons over base, erased, attacked."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for at, line in enumerate(found):
        look = looks.cluster(line.place) if line.place >= 0 else {"colour": COLOURS["black"], "symbol": "circle"}
        known = [(x, point) for x, point in enumerate(line.points) if point]
        shift = STEP * (at - (len(found) - 1) / 2)
        figure.add_trace(
            go.Scatter(
                x=[x + shift for x, _ in known],
                y=[point[0] for _, point in known],
                mode="lines+markers+text",
                name=line.name,
                text=[f"{wording.number(point[0])}" if x and line.place < 0 else "" for x, point in known],
                textposition="bottom left",
                textfont={"size": 13},
                line={"color": look["colour"], "width": 3 if line.place < 0 else 1.8, "dash": DASHES[at % len(DASHES)]},
                marker={"symbol": look["symbol"], "size": 10 if line.place < 0 else 8, "color": look["colour"]},
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [max(0.0, point[2] - point[0]) for _, point in known],
                    "arrayminus": [max(0.0, point[0] - point[1]) for _, point in known],
                    "color": look["colour"],
                    "thickness": 1.4,
                    "width": 4,
                },
                customdata=[[wording.span(point[1], point[2]), point[3]] for _, point in known],
                hovertemplate="%{y:.2f} (%{customdata[0]}), n = %{customdata[1]}<extra>%{fullData.name}</extra>",
            )
        )
    overlaid(figure, [level(at, {"color": "#767676", "width": 1, "dash": "dash"}, layer="below") for at in (0, 1)])
    layout(figure, height=360, margin={"l": 52, "r": 16, "t": 64, "b": 40}, legend=LEGEND)
    names = ["base", variant, f"{variant} + attack"]
    figure.update_xaxes(
        range=[-0.35, 2.35], tickvals=[0, 1, 2], ticktext=[f"<b>{escape(name)}</b>" for name in names], showgrid=False, ticks=""
    )
    figure.update_yaxes(title={"text": "activity A (1 = base model)"})
    return figure


def slope_alt(found: Sequence[Slope], variant: str) -> str:
    """Each line with its intervals and n."""
    names = ("base", variant, f"{variant} under the attack")
    parts = []
    for line in found:
        known = [(name, point) for name, point in zip(names, line.points, strict=True) if point]
        said = [
            f"{name} {wording.number(point[0])}" + (f" ({wording.span(point[1], point[2])}, n = {point[3]})" if point[3] else "")
            for name, point in known
        ]
        parts.append(f"{line.name}: {', '.join(said)}")
    return f"Activity left from base over erased to attacked, 1 = base model. {'; '.join(parts)}."


SLOPE_FIGURE = Figure(slope_figure, slope_alt)
