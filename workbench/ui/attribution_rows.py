"""What the page Attribution shows of scores: which conditions first, the top neurons, layers. Needs neither torch nor Streamlit."""

from collections.abc import Callable, Mapping, Sequence

import pandas

from workbench.report import wording
from workbench.report.content import Row
from workbench.ui import attribution_files, layer_names, neuron_table, picture_files
from workbench.ui.attribution_files import Scores

SIGNS: dict[str, Callable[[pandas.Series], pandas.Series]] = {
    "largest": lambda value: -value,
    "most negative": lambda value: value,
    "largest of either sign": lambda value: -value.abs(),
}


def first(conditions: Sequence[Row]) -> list[str]:
    """The conditions shown first: base, erased, and an attack on the erased one."""
    plain = [row for row in conditions if row["prompt_set"] == "target"]
    attacks = [row for row in conditions if row["attack"] and not row["control"] and row["provenance"] == "optimised"]
    return [picture_files.column(row) for row in [*plain[:2], *attacks[:1]] or list(conditions[:1])]


def top(scores: Mapping[str, Scores], sign: str, k: int) -> list[Row]:
    """Rows for the bars of the k neurons that lead the first condition: name, id, condition, value, low, high, n."""
    lead = next(iter(scores.values())).table
    chosen = lead.assign(place=SIGNS[sign](lead["value"])).sort_values(["place", "layer", "index"]).head(k).index
    rows: list[Row] = []
    for place in chosen:
        for condition, found in scores.items():
            own = found.table.loc[place].to_dict()
            identity = {"name": layer_names.neuron(own), "id": neuron_table.identity(own), "condition": condition, "n": found.n}
            rows.append(identity | {key: None if pandas.isna(own[key]) else float(own[key]) for key in ("value", "low", "high")})
    return rows


def layers(scores: Mapping[str, Scores]) -> list[Row]:
    """Rows for the bars of whole layers, in the order of the model."""
    totals = {name: {row["layer"]: row for row in attribution_files.layer_totals(found)} for name, found in scores.items()}
    order = layer_names.in_order(layer for rows in totals.values() for layer in rows)
    short = layer_names.names(order)
    return [rows[layer] | {"name": short[layer], "condition": name} for layer in order for name, rows in totals.items() if layer in rows]


def table(neurons: pandas.DataFrame, ids: Sequence[str]) -> pandas.DataFrame:
    """What else is known of neurons, in the order of their ids: neuron, score, κ, cluster, role."""
    named = neurons.assign(id=neurons["layer"] + ":" + neurons["index"].astype(str))
    own = named.set_index("id").reindex(list(ids)).reset_index()
    shown = own[["id"]].assign(neuron=[layer_names.neuron_id(one) for one in own["id"]])
    for column in ("score", "score_b", "kappa", "cluster"):
        if column in own:
            shown[neuron_table.label(column)] = own[column]
    shown["role"] = [", ".join(neuron_table.role_words({str(key): one for key, one in row.items()})) for row in own.to_dict("records")]
    return shown


def completeness(row: Row) -> Row:
    """How far the scores of a row of `attribution` add up, as text."""
    value, off = row["value"], row["off"]
    return {
        "Condition": picture_files.column(row),
        "Method": row["method"],
        "Value of the target": wording.with_interval(row),
        "at the baseline": wording.number(off, 3),
        "difference": wording.number(None if None in (value, off) else value - off, 3),
        "Sum of all scores": wording.number(row["explained"], 3),
        "Gap": wording.number(row["delta"], 3),
        "Complete": wording.YES[row["complete"]],
        "Units": wording.integer(row["n"]),
    }
