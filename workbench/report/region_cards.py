"""Pictures of where in the image clusters are active, with the words that belong to them.

cards     one per cluster, condition and unit, in the order of the table
fitting   those that fit into the HTML report, with their pixels
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.report import wording
from workbench.report.content import Report, Row

if TYPE_CHECKING:
    from workbench.report.images import Source

ROOM = 900_000


def cards(report: Report) -> list[dict[str, Any]]:
    """List of {title, prompt, words, reason, shots: [{path, words, alt}], row}, by cluster, condition and rank."""
    rows = report.arranged("cluster_regions")
    rows.sort(key=lambda row: (row["cluster"], row["rank"]))
    return [card(row) for row in rows]


def card(row: Row) -> dict[str, Any]:
    """What is said of one row of cluster_regions, and its pictures: as drawn, what was recorded, the map over it."""
    title = f"Cluster {row['cluster']}: {row['variant']}, {wording.condition_made(row)}"
    shots = []
    for kind, words in (
        ("drawn", "drawn"),
        ("read_on", "base image, recorded" if row["drawn"] or row["picture_reason"] else "drawn and recorded"),
        ("overlay", "activity map"),
    ):
        if row[kind]:
            shots.append({"path": row[kind], "words": words, "alt": region_alt(row, kind)})
    return {"title": title, "prompt": row["prompt"], "words": words_of(row), "reason": row["picture_reason"], "shots": shots, "row": row}


def words_of(row: Row) -> str:
    """'31.0 % of its activity in its most active tenth (outlined, at the upper left); an even map has 10.0 %; ...'."""
    if row["share"] is None:
        return f"{wording.DASH} {row['reason']}"
    where = f" (outlined, {row['place'] and at(row['place'])})" if row["place"] else ""
    parts = [
        f"{wording.percent(row['share'])} of its activity in its most active tenth{where}",
        f"an even map has {wording.percent(row['even'])}",
    ]
    random = wording.span(row["random_low"], row["random_high"], wording.percent)
    if random:
        parts.append(f"{row['n_random']} random sets {random}, {wording.p_words(row['p_random'])}")
    else:
        parts.append(f"no random sets: {row['reason']}")
    return f"n = 1 prompt, rank {row['rank']} of those that activate it most. " + "; ".join(parts) + "."


def at(place: str) -> str:
    """'at the upper left', 'in several places'."""
    return f"in {place}" if place == "several places" else f"at the {place}"


def fitting(
    report: Report, folder: Path, room: int = ROOM, instead: "Source | None" = None
) -> tuple[list[dict[str, Any]], dict[str, str], int, int]:
    """(cards that fit, {path: data: URI}, number left out, bytes); first those of the units that activate a cluster most.

    instead   path -> the picture to show in place of the file, or None
    """
    from workbench.report.images import data_uri

    every, used = cards(report), 0
    pixels: dict[str, str] = {}
    kept: list[dict[str, Any]] = []
    for one in sorted(every, key=lambda card: card["row"]["rank"]):
        new = {shot["path"]: data_uri(folder, shot["path"], instead=instead) for shot in one["shots"] if shot["path"] not in pixels}
        # a picture that two cards show stands in the file twice
        size = sum(len((pixels | new)[shot["path"]]) + 500 for shot in one["shots"])
        if used + size > room:
            continue
        pixels, used = pixels | new, used + size
        kept.append(one)
    shown = [one for one in every if one in kept]
    return shown, pixels, len(every) - len(shown), used


def region_alt(row: Row, kind: str) -> str:
    """What one picture of a row of cluster_regions shows: `drawn`, `read_on` or `overlay`."""
    condition = f"{row['variant']}, {wording.condition(row)}"
    blurred = " (blurred)" if row["blurred"] else ""
    if kind == "drawn":
        return f"Image drawn by {condition}: {row['prompt']}{blurred}"
    if kind == "read_on":
        return f"The base model's image of the target prompt of {row['unit']}{blurred}"
    share = f"{wording.percent(row['share'])} of its activity in its most active tenth, {row['place']}"
    where = f"over it where cluster {row['cluster']} is active in {condition}: {share}"
    return f"The base model's image of {row['unit']} in grey, {where}{blurred}"
