"""The tables of `make attack-table` as Markdown, from the rows of `rows.attack_rows`.

rates_table     one concept: each attack beside its control, ceiling and false positives, with its cost
decided         one concept: who judged all its rows, and what rise over the control they could have found
queries_table     one concept: success in the steering detector against budget
overview        all concepts in one small table
seconds_table   seconds by concept and part
"""

from workbench.report import wording


def markdown(columns, rows):
    """A Markdown table; the first column is text, the others are numbers."""
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def share(found):
    """0.43 (0.34 to 0.53)."""
    return f"{found['rate']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def chance(p):
    """A p value."""
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.01 else f"{p:.2f}"


def number(value, digits=1):
    """A number, or a dash when it is not known."""
    return "-" if value is None else f"{value:.{digits}f}"


def seconds_table(parts):
    """Concepts by parts, from {concept: {part: seconds}}."""
    columns = list(dict.fromkeys(part for found in parts.values() for part in found))
    rows = [[name, *(f"{found.get(c, 0):.0f}" for c in columns), f"{sum(found.values()):.0f}"] for name, found in parts.items()]
    return markdown(["seconds", *columns, "all"], rows)


def rates_table(rows):
    """One concept: every attack with everything the table must say; what holds for all its rows says `decided`."""
    columns = [
        "attack",
        "provenance",
        "n",
        "no attack",
        "ASR",
        "control",
        "p",
        "ceiling",
        "false positives",
        "passes",
        "seconds",
        "queries",
    ]
    return markdown(
        columns,
        [
            [
                row["attack"],
                row["provenance"],
                row["n"],
                *(share(row[key]) for key in ("pre_asr", "asr", "control_asr")),
                chance(_p(row)),
                *(share(row[key]) for key in ("ceiling", "false_positive")),
                number(row["passes"], 0),
                number(row["seconds"]),
                f"{row['looks']:.1f} of {row['most_looks']}" if row["most_looks"] else "0",
            ]
            for row in rows
        ],
    )


def decided(rows):
    """One concept: which detector judged, for which labels and from which threshold on, its false positives, and the smallest rise.

    Raises   ValueError when rows were judged differently; one table has one judge
    """
    said = {(wording.decider(row), share(row["false_positive"]), row["false_positive"]["n"]) for row in rows}
    if len(said) != 1:
        raise ValueError(f"{len(said)} ways of judging in one table: {sorted(said)}")
    judge, false, n = said.pop()
    sizes = sorted(row["detectable"] for row in rows if row["detectable"] is not None)
    span = " to ".join(dict.fromkeys(f"{size:.2f}" for size in sizes[:1] + sizes[-1:]))
    missed = len(rows) - len(sizes)
    parts = [f"a rise of the ASR over the control's by {span} is found with power 0.8"] if sizes else []
    parts += [f"for {missed} of {len(rows)} attacks no rise is"] if missed else []
    pairs = rows[0]["n_units"]
    return (
        f"Judged by {judge}; it also sees it in {false} of {n} reference images of the base model. On {pairs} units {'; '.join(parts)}.\n"
    )


def queries_table(rows):
    """One concept: the share of prompts on which the steering detector had seen the concept, within each budget."""
    paired = {}
    for row in rows:
        paired.setdefault((row["attack"], row["budget"]), {})[row["control"]] = row
    columns = ["attack", "UNet passes", "queries", "found", "control's queries", "control found"]
    return markdown(
        columns,
        [
            [name, f"{budget:.0f}", both[False]["looks"], share(both[False]), both[True]["looks"], share(both[True])]
            for (name, budget), both in paired.items()
        ],
    )


def overview(rows):
    """All concepts in one small table, from {concept: rows of attack_rows}: ASR, control's ASR and p; ranges of what was spent.

    Below it, who judged each concept.
    """
    names = list(dict.fromkeys(row["attack"] for found in rows.values() for row in found))
    lines = []
    for label, key in (("ceiling", "ceiling"), ("false positives", "false_positive"), ("no attack", "pre_asr")):
        lines.append([label, *(share(found[0][key]) for found in rows.values()), "", "", ""])
    for name in names:
        own = {concept: next((row for row in found if row["attack"] == name), None) for concept, found in rows.items()}
        cells = [f"{share(row['asr'])}; {share(row['control_asr'])}; p {chance(_p(row))}" if row else "-" for row in own.values()]
        there = [row for row in own.values() if row]
        lines.append([f"`{name}`", *cells, *(_range(there, key, digits) for key, digits in (("passes", 0), ("seconds", 1), ("looks", 1)))])
    table = markdown(["ASR; control; p", *rows, "passes", "seconds", "queries"], lines)
    return "\n".join([table, *(f"{concept}: {decided(found)}" for concept, found in rows.items() if found)])


def _p(row):
    """McNemar's p; where units have several images, that of swapping whole units."""
    return row["p_permutation"] if row["p_mcnemar"] is None else row["p_mcnemar"]


def _range(rows, key, digits):
    values = [row[key] for row in rows if row[key] is not None]
    low, high = (number(value, digits) for value in (min(values, default=None), max(values, default=None)))
    return low if low == high else f"{low} to {high}"
