"""Activity along the sampling run: concept activity at every UNet call."""

from collections.abc import Iterator, Sequence
from html import escape

from workbench.report import wording
from workbench.report.charts import lines
from workbench.report.charts.style import COLOURS, DASHES, SYMBOLS, Plot
from workbench.report.content import Report, Row, arranged, values
from workbench.report.section import Drawing, Figure, Section
from workbench.report.table import CONDITION, NEURON_SET, NEW, UNITS, Column, Table, hidden

PALETTE = [COLOURS[name] for name in ("blue", "black", "vermillion", "orange", "green", "purple")]
ACTIVITY_BY_CALL = Table(
    "activity_by_call",
    columns=(
        *(column.but(since=NEW) if column.name == "against" else column for column in hidden(CONDITION) if column.name != "control"),
        Column("control", "flag?", since=NEW),
        NEURON_SET,
        Column("trajectory", "text"),
        Column("call", "count"),
        Column("timestep", "number"),
        UNITS,
        Column("value", "number?"),
        Column("low", "number?"),
        Column("high", "number?"),
    ),
    hidden=True,
)


def lines_by_call(
    rows: list[Row], variants: Sequence[str] = (), *, y_title: str, guides: Sequence[float] = (), shaded: Sequence[float] | None = None
) -> Plot:
    """Values along the sampling run, one panel per variant, one line per condition.

    rows     variant, condition of the variant, call, timestep, n, value, low, high
    guides   levels drawn as dotted lines;   shaded   (first, last) calls
    """
    rows = arranged(rows, variants)
    panels = list(dict.fromkeys(row["variant"] for row in rows))
    runs: dict[tuple, list] = {}
    for row in rows:
        runs.setdefault((row["variant"], wording.condition_made(row), row["prompt_set"]), []).append(row)
    looks = {name: place for place, name in enumerate(dict.fromkeys(name for _, name, _ in runs))}
    drawn = []
    for (variant, name, _), points in runs.items():
        place = looks[name]
        points = sorted(points, key=lambda row: row["call"])
        drawn.append(
            lines.Line(
                variant,
                name,
                [point["call"] for point in points],
                [point["value"] for point in points],
                PALETTE[place % len(PALETTE)],
                SYMBOLS[place % len(SYMBOLS)],
                DASHES[place % len(DASHES)],
                band=([point["low"] for point in points], [point["high"] for point in points]),
                data=[[point["timestep"], point["n"]] for point in points],
                hover=f"call %{{x}}, timestep %{{customdata[0]}}: %{{y:.3g}}, n = %{{customdata[1]}}<extra>{escape(name)}</extra>",
            )
        )
    return lines.figure(drawn, panels, "UNet call (0 = noisiest)", y_title, shared_x=True, guides=guides, shaded=shaded)


def ends_by_call(rows: list[Row], variants: Sequence[str] = ()) -> str:
    """'esd, attack p4d: 0.10 at call 0, 0.62 at call 19; ...': first and last call of each line."""
    runs: dict[tuple, list] = {}
    for row in arranged(rows, variants):
        key = (row["variant"], wording.condition_made(row), row.get("neuron_set"), row["prompt_set"])
        runs.setdefault(key, []).append(row)
    parts = []
    for (variant, condition, *_), points in runs.items():
        first, last = (pick(points, key=lambda row: row["call"]) for pick in (min, max))
        parts.append(
            f"{variant}, {condition}: {wording.number(first['value'])} at call {first['call']}, "
            f"{wording.number(last['value'])} at call {last['call']}"
        )
    return f"{'; '.join(parts)}."


def activity_by_call_figure(rows: list[Row], variants: Sequence[str] = (), window: Sequence[float] | None = None) -> Plot:
    """Concept activity along the sampling run; the calls of the study's window are shaded."""
    return lines_by_call(rows, variants, y_title="activity A", guides=(0, 1), shaded=window)


def activity_by_call_alt(rows: list[Row], variants: Sequence[str] = (), window: Sequence[float] | None = None) -> str:
    """First and last call of each line."""
    calls = f" (shaded: calls {window[0]} to {window[-1]})" if window else ""
    return f"Concept activity along the sampling run{calls}. {ends_by_call(rows, variants)}"


def neuron_by_call_figure(rows: list[Row], variants: Sequence[str] = (), window: Sequence[float] | None = None) -> Plot:
    """How active one neuron is along the sampling run, in its own units; rows as of activity_by_call."""
    return lines_by_call(rows, variants, y_title="mean |a| of the neuron", shaded=window)


def neuron_by_call_alt(rows: list[Row], variants: Sequence[str] = (), window: Sequence[float] | None = None) -> str:
    """First and last call of each line."""
    calls = f" (shaded: calls {window[0]} to {window[-1]})" if window else ""
    return f"Activity of one neuron along the sampling run{calls}. {ends_by_call(rows, variants)}"


def _drawn(report: Report) -> Iterator[Drawing]:
    by_call = report["activity_by_call"]
    for neuron_set in values(by_call, "neuron_set"):
        for trajectory in values(by_call, "trajectory"):
            rows = [row for row in by_call if (row["neuron_set"], row["trajectory"]) == (neuron_set, trajectory)]
            if rows:
                name, place = wording.named(wording.NEURON_SETS, neuron_set), wording.named(wording.TRAJECTORIES, trajectory)
                yield Drawing(f"{name[0].upper()}{name[1:]}, {place}", (rows, report.variants, report.study["window"]))


BY_CALL_FIGURE = Figure(activity_by_call_figure, activity_by_call_alt, _drawn, more="The same for other neurons or trajectories")
NEURON_FIGURE = Figure(neuron_by_call_figure, neuron_by_call_alt)

SECTION = Section(
    order=70,
    title="Activity along the sampling run",
    short="By call",
    lead=lambda report: (
        "Concept activity at every UNet call of the sampling loop, the noisiest at the left"
        f"{'; shaded: the calls that the numbers above are averaged over' if report.study['window'] else ''}."
    ),
    parts=(BY_CALL_FIGURE, ACTIVITY_BY_CALL),
)
