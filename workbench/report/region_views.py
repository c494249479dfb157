"""Pictures of where in the image clusters are active, with the words that belong to them.

cards     one per cluster, condition and unit, in the order of the table
fitting   those that fit into the HTML report, with their pixels
"""

from workbench.report import images, wording
from workbench.report.alt_analysis import region_alt

ROOM = 900_000


def cards(document):
    """List of {title, prompt, words, reason, shots: [{path, words, alt}], row}, by cluster, condition and rank."""
    rows = wording.arranged(document["cluster_regions"], wording.variant_names(document))
    rows.sort(key=lambda row: (row["cluster"], row["rank"]))
    return [card(row) for row in rows]


def card(row):
    """What is said of one row of cluster_regions, and its pictures: as drawn, what the neurons were shown, the map over it."""
    made = wording.provenance(row)
    title = f"Cluster {row['cluster']}: {row['variant']}, {wording.condition(row)}" + (f" ({made})" if made else "")
    shots = []
    for kind, words in (
        ("drawn", "drawn"),
        ("read_on", "shown to the neurons" if row["drawn"] or row["picture_reason"] else "drawn, shown to the neurons"),
        ("overlay", "active here"),
    ):
        if row[kind]:
            shots.append({"path": row[kind], "words": words, "alt": region_alt(row, kind)})
    return {"title": title, "prompt": row["prompt"], "words": words_of(row), "reason": row["picture_reason"], "shots": shots, "row": row}


def words_of(row):
    """'31.0 % of its activity in its brightest tenth (inside the line, at the upper left); evenly spread 10.0 %; ...'."""
    if row["share"] is None:
        return f"{wording.DASH} {row['reason']}"
    where = f" (inside the line, {row['place'] and at(row['place'])})" if row["place"] else ""
    parts = [
        f"{wording.percent(row['share'])} of its activity in its brightest tenth{where}",
        f"evenly spread {wording.percent(row['even'])}",
    ]
    random = wording.span(row["random_low"], row["random_high"], wording.percent)
    if random:
        p = f"p = {wording.p_value(row['p_random'])}".replace("= <", "<")
        parts.append(f"{row['n_random']} random sets {random}, {p}")
    else:
        parts.append(f"no random sets: {row['reason']}")
    return f"n = 1 prompt, number {row['rank']} of those that excite it most. " + "; ".join(parts) + "."


def at(place):
    """'at the upper left', 'in several places'."""
    return f"in {place}" if place == "several places" else f"at the {place}"


def fitting(document, folder, room=ROOM):
    """(cards that fit, {path: data: URI}, number left out, bytes); first those of the units that excite a cluster most."""
    every, pixels, used, kept = cards(document), {}, 0, []
    for one in sorted(every, key=lambda card: card["row"]["rank"]):
        new = {shot["path"]: images.data_uri(folder, shot["path"]) for shot in one["shots"] if shot["path"] not in pixels}
        # a picture that two cards show stands in the file twice
        size = sum(len((pixels | new)[shot["path"]]) + 500 for shot in one["shots"])
        if used + size > room:
            continue
        pixels, used = pixels | new, used + size
        kept.append(one)
    shown = [one for one in every if one in kept]
    return shown, pixels, len(every) - len(shown), used
