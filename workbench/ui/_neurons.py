"""The paged table of single neurons: filter, sort and cut a frame of neurons.parquet."""

from workbench.errors import RunError, nearest
from workbench.report import summary

MOST = 500
ROLES = {"all": None, "chosen": "in_concept", "pruned": "in_prune", "watched": "in_watch"}
SHORT = {
    "layer": "layer",
    "index": "neuron",
    "site": "site",
    "score": "score, half A",
    "score_b": "score, half B",
    "kappa": "κ",
    "kappa_se": "κ, standard error",
    "in_concept": "chosen",
    "in_prune": "pruned",
    "in_watch": "watched",
}


def columns(table, variants):
    """The columns a page shows: names, scores, roles, and D, R and δ of each variant, as far as they are in the table."""
    wanted = [*SHORT, *(f"{key}_{name}" for name in variants for key in ("d", "r", "delta"))]
    return [name for name in wanted if name in table]


def label(column):
    """A column in words."""
    for prefix, symbol in (("delta_", "δ"), ("d_", "D"), ("r_", "R")):
        if column.startswith(prefix):
            return f"{symbol} {column.removeprefix(prefix)}"
    return SHORT.get(column, column)


def sortable(table, shown):
    """Columns one can sort by: the numbers."""
    return [name for name in shown if name in table and table[name].dtype.kind in "fiu"]


def selected(table, layers=(), role="all", sort="score", descending=True):
    """The neurons of the given layers (none named: all) and role, sorted; missing values last.

    Raises   RunError for a column or role that is not there
    """
    if sort not in table:
        raise RunError(f'The neuron table has no column "{sort}".{nearest(sort, table.columns)}')
    if role not in ROLES:
        raise RunError(f'There is no role "{role}" of neurons.{nearest(role, ROLES)}')
    if layers:
        table = table[table["layer"].isin(list(layers))]
    if ROLES[role] and ROLES[role] in table:
        table = table[table[ROLES[role]].astype(bool)]
    return table.sort_values([sort, "layer", "index"], ascending=[not descending, True, True], na_position="last")


def page(table, number, size):
    """Page `number` (from 1) of `size` rows, at most MOST."""
    size = min(max(int(size), 1), MOST)
    return table.iloc[(number - 1) * size : number * size]


def n_pages(table, size):
    """How many pages there are; at least one."""
    return max(1, -(-len(table) // min(max(int(size), 1), MOST)))


def points(table, variant):
    """Rows (dicts) of the neurons to draw in a variant, chosen as in the report; none when the variant has no D or R."""
    d, r = f"d_{variant}", f"r_{variant}"
    if d not in table or r not in table:
        return []
    wanted = [name for name in ("layer", "index", "score", "in_concept", "in_prune", "in_watch", d, r) if name in table]
    return summary.drawn_neurons(table.loc[table[d].notna() & table[r].notna(), wanted].to_dict("records"), variant)
