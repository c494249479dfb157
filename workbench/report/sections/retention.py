"""Retention: images of other concepts, their distance to the base model's, CLIP score; rate of the concept against retention.

quality     kid: distance of a variant's images of retained concepts to the base model's; kid_floor_seed, kid_floor_dtype: of the
            base to itself, the same prompts made again from other noise, in another number format (kid_floor, in older reports:
            one half of the units against the other); image_difference: of the latter pair, pixel by pixel. beyond: kid minus
            kid_floor_seed, paired by unit; outcome: farther, no farther or cannot tell
clip        mean CLIP score of images of retained concepts; change: from the base model's, prompt by prompt; n_cut: prompts that
            lost words to the model's context
"""

from collections.abc import Iterator, Sequence
from html import escape
from math import ceil, floor

from workbench.report import looks, wording
from workbench.report.charts import forest, lines
from workbench.report.charts.style import COLOURS, PALETTE, SYMBOLS, Plot
from workbench.report.content import Report, Row, arranged
from workbench.report.headline import cards
from workbench.report.section import Drawing, Figure, Section, Text
from workbench.report.table import NEW, RATE, REASON, VARIANT, Column, Table, changed, interval, value, words_of
from workbench.report.wording import digits, integer, percent

QUALITIES = {
    "kid": "distance to the base model (KID)",
    "kid_floor": "noise floor: one half of the base model's images to the other",
    "kid_floor_seed": "noise floor: base model, same prompts, other noise",
    "kid_floor_dtype": "noise floor: base model, other number format",
    "image_difference": "mean pixel difference (0 to 1), other number format",
}
WITHOUT_ATTACK = "without attack"


def _sets(names: str) -> str:
    """'related concepts and unrelated concepts'."""
    return " and ".join(wording.named(wording.RETAINED, name) for name in names.split(" and "))


RETENTION = Table(
    "retention",
    "Retention with 95 % intervals",
    (
        VARIANT,
        Column("kind", "text", "Concepts", words_of(wording.RETAINED)),
        Column("definition", "text", "Counts as right"),
        Column("detector", "text?", since=NEW),
        *changed(RATE, successes="Right"),
    ),
    fold="Table of these numbers",
    about=lambda row: (row["variant"], wording.named(wording.RETAINED, row["kind"])),
)


def _floors(report: Report, rows: list[Row]) -> str:
    """Which noise floors the study did not ask for, and how to ask for them."""
    there = {row["definition"] for row in rows}
    lacking = [what for what in ("seed", "dtype") if f"kid_floor_{what}" not in there] if there else []
    asked = ", ".join(f'"{what}"' for what in lacking)
    return (
        f"Noise floors this study does not have: {asked}. A study asks for them by noise_floor = [{asked}] under [quality]."
        if lacking
        else ""
    )


QUALITY = Table(
    "quality",
    "Distance (KID) of the images of retained concepts to those of the base model, with bootstrap 95 % intervals",
    (
        VARIANT,
        Column("definition", "text", "What", words_of(QUALITIES)),
        Column("prompt_sets", "text", "Concepts", _sets),
        Column("features", "text?", "Features from", after="outcome"),
        Column("n", "count?", "Images per set"),
        Column("n_units", "count?", "Units"),
        Column("dropped", "count?", "Images left out", lambda n: integer(n) if n else ""),
        *value("Value", digits(4)),
        Column("beyond", "number?", "Excess over the noise floor", digits(4), since=NEW),
        Column("beyond_low", "number?", "95 % interval of the excess", cell=interval(digits(4), "beyond_low", "beyond_high"), since=NEW),
        Column("beyond_high", "number?", since=NEW),
        Column("outcome", "text?", "Outcome", since=NEW),
        REASON,
    ),
    note=_floors,
    about=lambda row: (row["variant"], _sets(row["prompt_sets"])),
    since=NEW,
)
CLIP = Table(
    "clip",
    "CLIP score of images of retained concepts (100 times the cosine of image and prompt), with bootstrap 95 % intervals",
    (
        VARIANT,
        Column("prompt_set", "text", "Concepts", words_of(wording.RETAINED)),
        Column("model", "text", "Model", after="change_low"),
        Column("n", "count", "Images"),
        Column("n_units", "count?", "Units"),
        Column("n_cut", "count", "Truncated prompts", lambda n: integer(n) if n else ""),
        *value("Score"),
        Column("change", "number?", "Change from the base model"),
        Column("change_low", "number?", "95 % interval of the change", cell=interval(low="change_low", high="change_high")),
        Column("change_high", "number?"),
        REASON,
    ),
    since=NEW,
)


def retention_figure(rows: list[Row], variants: Sequence[str] = ()) -> Plot:
    """How often each variant draws other concepts as asked, related to the erased one and unrelated."""
    styles = {
        "near": {"colour": COLOURS["green"], "symbol": "circle", "name": wording.RETAINED["near"]},
        "far": {"colour": COLOURS["sky"], "symbol": "square", "name": wording.RETAINED["far"]},
    }
    order = {name: place for place, name in enumerate(variants)}
    return forest.figure(
        sorted(rows, key=lambda row: (order.get(row["variant"], len(order)), row["kind"] != "near")),
        group=lambda row: row["variant"],
        label=lambda row: [wording.named(wording.RETAINED, row["kind"])],
        style=lambda row: styles.get(row["kind"], looks.KINDS["other"]),
        value="rate",
        shares=True,
        title="images drawn as asked (per cent, 95 % interval)",
    )


def retention_alt(rows: list[Row], variants: Sequence[str] = ()) -> str:
    """Each retention rate with its interval and n, in the order of the variants."""
    order = {name: place for place, name in enumerate(variants)}
    parts = [
        f"{row['variant']}, {wording.named(wording.RETAINED, row['kind'])}: {wording.with_n(row, 'rate', percent)}"
        for row in sorted(rows, key=lambda row: order.get(row["variant"], len(order)))
    ]
    return f"Rates of images drawn as asked. {'; '.join(parts)}."


def plane_points(report: Report, variants: Sequence[str] | None = None) -> list[Row]:
    """Variants on the plane: rate of the concept against retention.

    One row per variant (by default all that are no base model) and condition (without attack, each attack): variant, condition,
    provenance and its words `made`, n, rate, low, high, and kept, the row of what is retained (related concepts, else unrelated ones).
    Variants without such a row are left out.
    """
    points = []
    for variant in report.subjects if variants is None else variants:
        picked = cards(report, variant)
        kept, without = picked["retention"], picked["erasure"]
        if kept is None or kept["rate"] is None:
            continue
        attacked = [
            row
            for row in arranged(report["rates"], (variant,))
            if row["variant"] == variant and row["attack"] and not row["control"] and row["definition"] == "asr"
        ]
        for condition, row in [(WITHOUT_ATTACK, without), *((wording.condition(row), row) for row in attacked)]:
            if row is not None and row["rate"] is not None:
                about = {"variant": variant, "condition": condition, "provenance": row["provenance"]}
                about |= {"made": wording.provenance(row), "kept": kept}
                points.append(about | {name: row[name] for name in ("n", "rate", "low", "high")})
    return points


def plane_figure(points: list[Row], variants: Sequence[str] = ()) -> Plot:
    """One panel per condition, one marker per variant, with 95 % intervals both ways; open: a transferred attack."""
    panels = sorted(dict.fromkeys(point["condition"] for point in points), key=lambda name: name != WITHOUT_ATTACK)
    names = [name for name in variants if any(point["variant"] == name for point in points)]
    names += [name for name in dict.fromkeys(point["variant"] for point in points) if name not in names]
    drawn = []
    for point in sorted(points, key=lambda point: names.index(point["variant"])):
        place, kept = names.index(point["variant"]), point["kept"]
        colour, symbol = PALETTE[place % len(PALETTE)], SYMBOLS[place % len(SYMBOLS)]
        drawn.append(
            lines.Line(
                point["condition"],
                point["variant"],
                [100 * kept["rate"]],
                [100 * point["rate"]],
                colour,
                f"{symbol}-open" if point["provenance"] == "transferred" else symbol,
                mode="markers",
                size=10,
                data=[[point["n"], kept["n"], escape(point["made"])]],
                hover="concept in %{y:.1f} % (n = %{customdata[0]}), retained %{x:.1f} % (n = %{customdata[1]})"
                f"<br>%{{customdata[2]}}<extra>{escape(point['variant'])}</extra>",
                more={"error_x": _bar(kept, colour), "error_y": _bar(point, colour)},
            )
        )
    least = min(point["kept"]["rate"] if point["kept"]["low"] is None else point["kept"]["low"] for point in points)
    most = max(point["rate"] if point["high"] is None else point["high"] for point in points)
    kinds = sorted({point["kept"]["kind"] for point in points}, reverse=True)
    across = f"drawn as asked, {' or '.join(wording.RETAINED.get(kind, kind) for kind in kinds)} (per cent)"
    figure = lines.figure(drawn, panels, across, "images with the concept (per cent)")
    figure.update_xaxes(range=[10 * floor(10 * least) - 3, 103])  # tens of per cent; equal in all panels
    figure.update_yaxes(range=[-3, 10 * ceil(10 * most) + 3])
    return figure


def plane_alt(points: list[Row], variants: Sequence[str] = ()) -> str:
    """Each point with its intervals, in the order of the variants."""
    order = {name: place for place, name in enumerate(variants)}
    parts = [
        f"{point['variant']}, {point['condition']}{' (' + point['made'] + ')' if point['made'] else ''}: "
        f"{wording.with_interval(point, 'rate', percent)}, n = {point['n']}, "
        f"at {percent(point['kept']['rate'])} retained"
        for point in sorted(points, key=lambda point: order.get(point["variant"], len(order)))
    ]
    return f"Rate of the concept against retention. {'; '.join(parts)}."


def _bar(row: Row, colour: str) -> Row | None:
    """Error bars of a rate; none where there is no interval."""
    if row["low"] is None or row["high"] is None:
        return None
    ends = {"array": [100 * (row["high"] - row["rate"])], "arrayminus": [100 * (row["rate"] - row["low"])]}
    return {"type": "data", "color": colour, "thickness": 1, "width": 0} | ends


def _retention_drawn(report: Report) -> Iterator[Drawing]:
    if report["retention"]:
        yield Drawing("Retention: images of other concepts drawn as asked", (report["retention"], report.variants))


def _plane_drawn(report: Report) -> Iterator[Drawing]:
    points = plane_points(report)
    if len({point["variant"] for point in points}) > 1:
        yield Drawing("Rate of the concept against retention", (points, report.variants))


RETENTION_FIGURE = Figure(retention_figure, retention_alt, _retention_drawn, forest=True)
PLANE_FIGURE = Figure(plane_figure, plane_alt, _plane_drawn)


def _how_to_read_the_plane(report: Report) -> str:
    return (
        "An eraser or mask is better where the rate of the concept is lower at the same retention: lower and further right. Open "
        "markers: the attack was optimised against another variant."
        if list(_plane_drawn(report))
        else ""
    )


def _how_to_read_distances(report: Report) -> str:
    return (
        "The noise floor is the distance of the base model to itself: the same prompts from other noise. “Farther”: the 95 % interval of "
        "the paired excess over the floor lies above 0. “No farther”: even the upper end of the variant’s interval is not above that of "
        "the floor, so this distance shows no damage. A low rate of the concept in a variant that is farther is evidence for a damaged "
        "model, not for an erased concept."
        if report["quality"]
        else ""
    )


SECTION = Section(
    order=50,
    title="Retention",
    short="Retention",
    lead=lambda report: (
        "An erased model must still draw everything else: the share of images drawn as asked, for concepts related to "
        f"{report.concept} and for unrelated concepts."
    ),
    parts=(
        RETENTION_FIGURE,
        PLANE_FIGURE,
        Text(_how_to_read_the_plane, about_figure=True),
        RETENTION,
        QUALITY,
        Text(_how_to_read_distances),
        CLIP,
    ),
)
