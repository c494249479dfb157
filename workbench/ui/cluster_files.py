"""Clusters as the page shows them: the map, the members, the tables of one. Needs neither torch nor Streamlit."""

import pandas

from workbench.errors import RunError
from workbench.report.content import Report, Row, values
from workbench.ui import layer_names, neuron_files, neuron_profiles
from workbench.ui.run_list import State

COLUMNS = ("cluster", "cluster_x", "cluster_y")
STORED = "The two directions of largest variance of the features that were clustered (selection half)."
COMPUTED = "The run keeps no projection; these are the two directions of largest variance of mean |a| over conditions, prompts and calls."


def plane(state: State) -> tuple[list[Row], str]:
    """(rows for the map, what its axes are): the stored projection, else one of the recordings; no rows where there is neither.

    rows   layer, index, cluster, cluster_x, cluster_y, name
    """
    try:
        table = neuron_files.frame(state, COLUMNS)
    except RunError:
        return [], ""
    if "cluster" not in table:
        return [], ""
    found, whence = table[table["cluster"].notna()], STORED
    if "cluster_x" not in found or found[["cluster_x", "cluster_y"]].isna().any(axis=None):
        known = values(state.report["activity"], "trajectory")
        profiles = neuron_profiles.of_run(state, known[0]) if known else None
        placed = neuron_profiles.plane(profiles, found) if profiles else None
        if placed is None:
            return [], ""
        found, whence = placed.assign(cluster_x=placed["x"], cluster_y=placed["y"]), COMPUTED
    rows: list[Row] = found[["layer", "index", *COLUMNS]].to_dict("records")  # type: ignore[assignment]  # columns are text
    return [row | {"name": layer_names.neuron(row)} for row in rows], whence


def members(table: pandas.DataFrame, number: int) -> pandas.DataFrame:
    """The neurons of a cluster by score, with the short names of their layers."""
    own = table[table["cluster"] == number]
    own = own.sort_values(["score", "layer", "index"], ascending=[False, True, True]) if "score" in own else own
    return own.assign(short=own["layer"].map(layer_names.names(table["layer"].unique())))


def only(report: Report, table: str, number: int) -> Report:
    """The report with the rows of one cluster in a table, and the short names of layers."""
    own = [row for row in report[table] if row["cluster"] == number]
    short = layer_names.names(row["layer"] for row in report[table] if "layer" in row)
    own = [row | {"layer": short[row["layer"]]} if "layer" in row else row for row in own]
    return Report(report.document | {table: own}, report.neurons)
