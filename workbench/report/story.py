"""The story of a study in one figure: does the concept go, does it return, does it stay away, and do its neurons go along?

Two panels over the same columns: base, erased, erased + attack, pruned, pruned + attack. Above, the share of images that show the
concept; below, the activity of its neurons. Made from report.json alone; Overview, report and README show the same.

Step      one column: the rows of report.json that stand in it
chains    the variants that can be told as one story: an erased one, and the one pruned from it
steps     the columns of a chain
"""

from collections.abc import Iterator, Sequence
from html import escape
from textwrap import wrap
from typing import NamedTuple

from workbench.analysis import headline
from workbench.report import looks, wording
from workbench.report.charts.style import BAND, LEGEND, Plot, layout, level, overlaid
from workbench.report.content import Report, Row
from workbench.report.headline import rate_without_attack
from workbench.report.section import Drawing, Figure
from workbench.report.wording import number, percent

COMPARABLE, RANDOM = "range of comparable sets of other neurons", "range of matched random sets"
SETS = {COMPARABLE: "comparable neurons", RANDOM: "random sets of neurons"}  # in the legend
NAME, SMALL, SHORT = 15, 22, 8  # letters of a line below a column, and of a name with "+ attack" beside it
WORDS = {"size": 11, "color": "#595959"}
NEAR = 8  # per cent: lines so near to each other share their words
NO_SET = "no valid set"


class Step(NamedTuple):
    """A column of the figure: a variant without attack, or under one.

    rate, activity       their rows of report.json, beside those of the attack's control; None where there are none
    band                 (low, high) of the activity of other sets of neurons in the same condition
    sets                 what those sets are called
    why                  why there is no activity to show; "" where there is, or where the study has none
    """

    variant: str
    role: str | None
    attack: Row | None = None
    rate: Row | None = None
    rate_of_control: Row | None = None
    activity: Row | None = None
    activity_of_control: Row | None = None
    band: tuple[float, float] | None = None
    sets: str = COMPARABLE
    why: str = ""

    @property
    def name(self) -> str:
        """'erased', or 'erased + attack'."""
        return self.variant + (" + attack" if self.attack else "")

    @property
    def made(self) -> str:
        """'p4d, optimised against it'; empty without attack."""
        return ", ".join(filter(None, (self.attack["attack"], wording.provenance(self.attack)))) if self.attack else ""


class Story(NamedTuple):
    """What the figure shows: its columns, the concept, the base model's rate and the false-positive rate."""

    steps: list[Step]
    concept: str
    ceiling: Row | None
    floor: Row | None


def chains(report: Report) -> dict[str, list[str]]:
    """{name: variants} of every story: each erased variant and the one pruned from it, then what was made in another way."""
    roles, parents = report.roles, {row["variant"]: row["parent"] for row in report["models"]}
    erased = [name for name in report.subjects if roles[name] == "erased"]
    found = []
    for name in erased:
        pruned = [child for child in report.subjects if roles[child] == "pruned" and parents[child] == name]
        found += [[name, child] for child in pruned] or [[name]]
    told = {name for chain in found for name in chain}
    rest = [[name] for name in report.subjects if name not in told]
    return {" and ".join(chain): chain for chain in found + rest}


def story(report: Report, chain: Sequence[str]) -> Story:
    """The figure's data for a chain of variants."""
    ceiling = rate_without_attack(report, report.base)
    floor = next((row for row in report["rates"] if row["variant"] == report.base and row["definition"] == "false_positive"), None)
    return Story(steps(report, chain), report.concept, ceiling, floor)


def steps(report: Report, chain: Sequence[str]) -> list[Step]:
    """The columns: the base model, then each variant without attack and under the attack that is shown first of the erased one."""
    found = [_step(report, report.base, None)] if report.base else []
    first: Row | None = None
    for name in chain:
        attack = _attack(report, name, first)
        first = first or attack
        found += [_step(report, name, None)] + ([_step(report, name, attack)] if attack else [])
    return found


def _attack(report: Report, variant: str, like: Row | None) -> Row | None:
    """The attack shown of a variant: that of the variant it was made from, optimised against it where there is one, else its first."""
    if like:
        there = [row for row in report["rates"] if _is_asr(row, variant) and row["attack"] == like["attack"] and row["rate"] is not None]
        there.sort(key=lambda row: (row["provenance"] != "optimised", row["against"] != like["against"]))
        if there:
            return headline.made(there[0])
    where, validity = headline.trajectory(report["effects"]), report.document.get("set_validity") or ()
    return headline.first_attack(report["effects"], report["rates"], variant, report.roles.get(variant), where, validity)


def _is_asr(row: Row, variant: str, control: bool = False) -> bool:
    return (row["variant"], row["definition"], row["control"]) == (variant, "asr", control)


def _step(report: Report, variant: str, attack: Row | None) -> Step:
    role = report.roles.get(variant)
    if attack is None:
        rate, control = rate_without_attack(report, variant), None
    else:
        rates = [row for row in report["rates"] if _under(row, attack)]
        rate, control = (next((row for row in rates if _is_asr(row, variant, kind)), None) for kind in (False, True))
    where, validity = headline.trajectory(report["effects"] or report["activity"]), report.document.get("set_validity") or ()
    measured = [row for row in report["activity"] if row["variant"] == variant and row["trajectory"] == where and row["site"] == "ff"]
    measured = [row for row in measured if (_under(row, attack) if attack else _is_target(row))]
    own = [row for row in measured if row["neuron_set"] == headline.own_set(role)]
    activity, beside = (next((row for row in own if row["control"] is kind), None) for kind in (False, True))
    if activity and not headline.valid_set(validity, role, where):
        row = headline.validity_row(validity, role, where)
        why = (row and row["reason"]) or "whether these neurons are about the concept was not tested"
        return Step(variant, role, attack, rate, control, why=why)
    band, sets = _band(report, variant, attack, where, [row for row in measured if row["neuron_set"] == "random" and not row["control"]])
    why = activity["reason"] or "" if activity and activity["value"] is None else ""
    return Step(variant, role, attack, rate, control, activity, beside, band, sets, why)


def _under(row: Row, attack: Row) -> bool:
    return bool(row["attack"]) and headline.same(row, attack)


def _is_target(row: Row) -> bool:
    return row["attack"] is None and row["prompt_set"] == "target" and not row["control"]


def _band(report: Report, variant: str, attack: Row | None, where: str, random: Sequence[Row]) -> tuple[tuple[float, float] | None, str]:
    """Where the activity of other sets of neurons lies, and what they are called.

    Comparable sets: 1 minus the range of their deactivation; under an attack the range of what it adds, on top of their mean without it.
    An older report has random sets alone.
    """
    wanted = {"variant": variant, "trajectory": where, "neuron_set": headline.own_set(report.roles.get(variant))}
    effects = [row for row in report["effects"] if wanted.items() <= row.items() and row.get("comparable_low") is not None]
    lost = next((row for row in effects if row["effect"] == "deactivation"), None)
    if lost and attack is None:
        return (1 - lost["comparable_high"], 1 - lost["comparable_low"]), COMPARABLE
    gained = next((row for row in effects if attack and row["effect"] == "gross_reactivation" and _under(row, attack)), None)
    if lost and gained:
        left = 1 - lost["comparable"]
        return (left + gained["comparable_low"], left + gained["comparable_high"]), COMPARABLE
    if any(row.get("comparable_low") is not None for row in report["effects"]) or report.roles.get(variant) == "base":
        return None, COMPARABLE
    row = next(iter(random), None)
    return ((row["low"], row["high"]) if row and row["low"] is not None else None), RANDOM


def story_figure(told: Story) -> Plot:
    """Two panels over the columns of a story."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.13, row_heights=[0.5, 0.5])
    look = {name: looks.KINDS[name] for name in ("target", "attack", "control")}
    area = {"type": "rect", "xref": "x2", "yref": "y2", "fillcolor": BAND, "line": {"width": 0}, "layer": "below"}
    overlaid(
        figure,
        [
            area | {"x0": place - 0.34, "x1": place + 0.34, "y0": step.band[0], "y1": step.band[1]}
            for place, step in enumerate(told.steps)
            if step.band
        ],
    )
    shown: set[str] = set()
    for panel, value, scale, form in ((1, "rate", 100, _short_percent), (2, "value", 1, number)):
        rows = [step.rate if panel == 1 else step.activity for step in told.steps]
        beside = [step.rate_of_control if panel == 1 else step.activity_of_control for step in told.steps]
        known = [(place, row) for place, row in enumerate(rows) if row and row[value] is not None]
        figure.add_trace(
            go.Scatter(
                x=[place for place, _ in known],
                y=[scale * row[value] for _, row in known],
                mode="lines",
                line={"color": "#c4c4c4", "width": 2},
                hoverinfo="skip",
                showlegend=False,
            ),
            row=panel,
            col=1,
        )
        for name, points in (
            ("target", [(place, row) for place, row in known if not told.steps[place].attack]),
            ("attack", [(place, row) for place, row in known if told.steps[place].attack]),
            ("control", [(place, row) for place, row in enumerate(beside) if row and row[value] is not None]),
        ):
            if points:
                figure.add_trace(_points(points, value, scale, form, look[name], name, name not in shown), row=panel, col=1)
                shown.add(name)
    if any(step.band for step in told.steps):
        name = SETS[next(step.sets for step in told.steps if step.band)]
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", name=name, marker={"symbol": "square", "size": 14, "color": BAND}))
    _guides(figure, told)
    _frame(figure, told)
    return figure


def _points(
    points: Sequence[tuple[int, Row]], value: str, scale: float, form: wording.Form, look: dict[str, str], kind: str, first: bool
) -> Plot:
    """Markers with intervals; the control stands a little to the left of what it is the control of."""
    import plotly.graph_objects as go

    control = kind == "control"
    ends = [
        [None if row[end] is None else max(0.0, scale * sign * (row[end] - row[value])) for _, row in points]
        for end, sign in (("high", 1), ("low", -1))
    ]
    return go.Scatter(
        x=[place - (0.2 if control else 0) for place, _ in points],
        y=[scale * row[value] for _, row in points],
        mode="markers+text",
        text=[f"<b>{form(row[value])}</b>" if not control else form(row[value]) for _, row in points],
        textposition="middle left" if control else "middle right",
        textfont={"size": 11 if control else 14, "color": "#595959" if control else "#1b1b1b"},
        name={"target": "without attack", "attack": "attack", "control": "its control"}[kind],
        legendgroup=kind,
        showlegend=first,
        marker={
            "color": look["colour"],
            "symbol": look["symbol"],
            "size": 9 if control else 12,
            "line": {"color": look["colour"], "width": 2 * control},
        },
        error_y={
            "type": "data",
            "symmetric": False,
            "array": ends[0],
            "arrayminus": ends[1],
            "color": look["colour"],
            "thickness": 1 if control else 1.8,
            "width": 3 if control else 5,
        },
        cliponaxis=False,
        customdata=[[row["n"], wording.span(row["low"], row["high"], percent if scale == 100 else number)] for _, row in points],
        hovertemplate=("%{y:.1f} %" if scale == 100 else "%{y:.2f}") + " (%{customdata[1]}), n = %{customdata[0]}<extra></extra>",
    )


def _guides(figure: Plot, told: Story) -> None:
    """Dashed lines: the base model as the ceiling, the false-positive rate as the floor; 1 and 0 of the activity."""
    known = [
        (100 * row["rate"], words)
        for row, words in ((told.ceiling, "base model"), (told.floor, "false positives"))
        if row and row["rate"] is not None
    ]
    if len(known) == 2 and abs(known[0][0] - known[1][0]) < NEAR:
        words = [("y", known[0][0], "<br>".join(f"{name} {_short_percent(at / 100)}" for at, name in known))]
    else:
        words = [("y", at, f"{name} {_short_percent(at / 100)}") for at, name in known]
    words += [("y2", 1, "base model = 1"), ("y2", 0, "without the concept = 0")]
    dashed = {"color": "#767676", "width": 1.2, "dash": "dash"}
    lines = [level(at, dashed, axis, layer="below") for axis, levels in (("", [at for at, _ in known]), ("2", [0, 1])) for at in levels]
    look = {"x": 1, "xref": "paper", "xanchor": "right", "yanchor": "bottom", "showarrow": False, "font": WORDS}
    overlaid(figure, lines, [look | {"y": at, "yref": axis, "text": text} for axis, at, text in words])


def _frame(figure: Plot, told: Story) -> None:
    """Sizes, titles, columns, and words where there is no number."""
    n, said = len(told.steps), []
    for place, step in enumerate(told.steps):
        for axis, row, value in (("y", step.rate, "rate"), ("y2", step.activity, "value")):
            if row is None or row[value] is None:
                why = (NO_SET if axis == "y2" and step.why and not step.activity else None) or "not measured"
                at = {"x": place, "y": 0.5 if axis == "y2" else 50, "yref": axis}
                said.append(at | {"text": f"<i>{wording.DASH}<br>{why}</i>", "showarrow": False, "font": WORDS})
    titles = ((1.0, f"<b>Images that show {escape(told.concept)}</b> (per cent)"), (0.435, "<b>Activity of its neurons</b>"))
    look = {"x": 0, "xref": "paper", "xanchor": "left", "yref": "paper", "yanchor": "bottom", "yshift": 8}
    look |= {"showarrow": False, "align": "left", "font": {"size": 13}}
    overlaid(figure, annotations=[*said, *(look | {"y": y, "text": text} for y, text in titles)])
    layout(figure, height=420, margin={"l": 40, "r": 8, "t": 66, "b": 78}, legend=LEGEND)
    for axis in ("xaxis", "xaxis2"):
        figure.update_layout({axis: {"range": [-0.5, n + 0.5], "showgrid": False, "tickvals": list(range(n)), "fixedrange": True}})
    figure.update_xaxes(ticktext=[_column(step) for step in told.steps], ticks="", tickangle=0, row=2, col=1)
    figure.update_yaxes(range=[-8, 112], tickvals=[0, 25, 50, 75, 100], row=1, col=1)
    lows, highs = [0.0], [1.0]
    for step in told.steps:
        for row in (step.activity, step.activity_of_control):
            if row and row["value"] is not None:
                lows.append(row["value"] if row["low"] is None else row["low"])
                highs.append(row["value"] if row["high"] is None else row["high"])
        if step.band:
            lows.append(step.band[0])
            highs.append(step.band[1])
    room = 0.1 * (max(highs) - min(lows))
    figure.update_yaxes(range=[min(lows) - room, max(highs) + 1.5 * room], row=2, col=1)


def _column(step: Step) -> str:
    name = "<br>".join(f"<b>{escape(line)}</b>" for line in wrap(step.variant, NAME)[:2])
    if not step.attack:
        return name
    lines = [line for words in (step.attack["attack"], wording.provenance(step.attack)) for line in wrap(words, SMALL)]
    small = "<br>".join(map(escape, lines[:3]))
    beside = " " if len(step.variant) <= SHORT else "<br>"
    return f"{name}{beside}<b>+ attack</b><br><span style='font-size:10.5px;color:#595959'>{small}</span>"


def _short_percent(value: float) -> str:
    return percent(value, 0)


def story_alt(told: Story) -> str:
    """Each column: its rate and its activity, with interval and n, beside those of the attack's control."""
    parts = []
    for step in told.steps:
        rate = wording.NO_PART if step.rate is None else wording.with_n(step.rate, "rate", percent)
        activity = (NO_SET if step.why else wording.NO_PART) if step.activity is None else wording.with_n(step.activity)
        controls = [
            f"{name} {wording.with_interval(row, column, form)}"
            for name, row, column, form in (
                ("images", step.rate_of_control, "rate", percent),
                ("activity", step.activity_of_control, "value", number),
            )
            if row is not None
        ]
        beside = f"; its control: {', '.join(controls)}" if controls else ""
        other = f" ({step.sets} {wording.span(*step.band)})" if step.band else ""
        name = step.name + (f" ({step.made})" if step.attack else "")
        parts.append(f"{name}: images that show {told.concept} {rate}, activity of its neurons {activity}{other}{beside}")
    why = next((f" {step.why.rstrip('.')}." for step in told.steps if step.why and step.activity is None), "")
    floor = "" if told.floor is None else f" False positives: {wording.with_n(told.floor, 'rate', percent)}."
    return f"What happens to {told.concept}, column by column. {'. '.join(parts)}.{floor}{why}"


def story_caption(told: Story) -> str:
    """How the figure is read: n, intervals, the band, and which neurons."""
    images = sorted({step.rate["n"] for step in told.steps if step.rate and step.rate["n"] is not None})
    units = sorted({step.activity["n"] for step in told.steps if step.activity and step.activity["n"] is not None})
    parts = [f"Bars: 95 % intervals; n = {_counts(images)} images" + (f" and {_counts(units)} units" if units else "") + "."]
    parts += ["Dashed: the base model and the false-positive rate of the judge; activity 1 = base model with the concept, 0 = without it."]
    if any(step.band for step in told.steps):
        sets = next(step.sets for step in told.steps if step.band)
        more = (
            "; under an attack, of its change on top of their mean"
            if sets == COMPARABLE and any(step.attack for step in told.steps)
            else ""
        )
        parts.append(f"Grey: {sets}{more}.")
    if any(step.role == "pruned" for step in told.steps):
        parts.append("Pruned variants are read on watched neurons, which were not pruned.")
    return " ".join(parts)


def _counts(counts: Sequence[int]) -> str:
    return (
        wording.integer(counts[0]) + (f" to {wording.integer(counts[-1])}" if len(counts) > 1 else "") if counts else "an unknown number of"
    )


def _drawn(report: Report) -> Iterator[Drawing]:
    for name, chain in chains(report).items():
        told = story(report, chain)
        if any(step.rate or step.activity for step in told.steps):
            yield Drawing(f"What happens to {report.concept}: {name}", (told,))


STORY_FIGURE = Figure(story_figure, story_alt, _drawn, more="Other variants")
