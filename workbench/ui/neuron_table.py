"""Single neurons: filter, sort and cut a frame of neurons.parquet; one of them by its id, layer:number."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas

from workbench.errors import RunError, nearest
from workbench.report import wording
from workbench.report.content import Row, drawn_neurons
from workbench.ui import layer_names
from workbench.ui.text import short

MOST = 500
NUMBERS = ("agreement_a", "agreement_b", "score", "score_b", "kappa", "kappa_se", "frequency", "p_adjusted", "cluster")
MOST_POINTS = 1500
_COLUMNS = {word: column for column, word in wording.NEURON_ROLES.items()}
ROLES = {"all": None} | {word: _COLUMNS[word] for word in ("chosen", "pruned", "watched", "suppressed")}
SHORT = {
    "layer": "layer",
    "index": "neuron",
    "site": "site",
    "agreement_a": "agreement, selection half",
    "agreement_b": "agreement, evaluation half",
    "score": "score, selection half",
    "score_b": "score, evaluation half",
    "kappa": "κ",
    "kappa_se": "κ, standard error",
    "frequency": "chosen in random halves",
    "p_adjusted": "p, evaluation half",
    "confirmed": "confirmed",
    **{column: wording.NEURON_ROLES[column] for column in ("in_concept", "in_prune", "in_watch")},
}


def checked(table: pandas.DataFrame, path: str | Path) -> pandas.DataFrame:
    """The table, when it is one of neurons.

    Raises   RunError that names what is missing or of another type
    """
    kinds = {"layer": "OU", "site": "OU", "index": "iu"}
    wanted = {name: "iuf" for name in map(str, table) if name in NUMBERS or name.startswith(("d_", "r_", "delta_"))}
    wanted |= {name: "b" for name in map(str, table) if name.startswith(("in_", "set_"))}
    wrong = [name for name in kinds if name not in table]
    wrong += [name for name, kind in (wanted | kinds).items() if name in table and not _of_kind(table[name], kind)]
    if wrong or table.empty:
        what = "it holds no neuron" if table.empty else f"{', '.join(wrong)} missing or of another type than a neuron table has"
        raise RunError(f"{path} is no table of neurons: {what}. Run the study again; results are kept, the table is written again.")
    return table


def _of_kind(column: pandas.Series, kind: str) -> bool:
    """Whether a column is of one of NumPy's kinds, or of a number is nowhere known; text may be of any of pandas' types, without gaps."""
    if "O" in kind:
        return bool(pandas.api.types.is_string_dtype(column) and column.notna().all())
    return bool(column.dtype.kind in kind or ("f" in kind and column.isna().all()))


def roles(table: pandas.DataFrame) -> list[str]:
    """The roles that some neuron of the table has."""
    return [role for role, column in _columns_of(map(str, table)).items() if column is None or (column in table and table[column].any())]


def _columns_of(table: Iterable[str]) -> dict[str, str | None]:
    """{role: its column}, and the same of the study's named sets."""
    return ROLES | {column.removeprefix("set_"): column for column in table if column.startswith("set_")}


def columns(table: pandas.DataFrame, variants: Sequence[str]) -> list[str]:
    """The columns a page shows: names, scores, roles, and D, R and δ of each variant, as far as they are in the table."""
    wanted = [*SHORT, *(f"{key}_{name}" for name in variants for key in ("d", "r", "delta"))]
    return [name for name in wanted if name in table]


def label(column: str) -> str:
    """A column in words."""
    for prefix, symbol in (("delta_", "δ"), ("d_", "D"), ("r_", "R")):
        if column.startswith(prefix):
            return f"{symbol} {column.removeprefix(prefix)}"
    return SHORT.get(column, column)


def sortable(table: pandas.DataFrame, shown: Sequence[str]) -> list[str]:
    """Columns one can sort by: the numbers."""
    return [name for name in shown if name in table and table[name].dtype.kind in "fiu"]


def selected(
    table: pandas.DataFrame,
    layers: Sequence[str] = (),
    role: str = "all",
    sort: str = "score",
    descending: bool = True,
    clusters: Sequence[int] = (),
) -> pandas.DataFrame:
    """The neurons of the given layers and clusters (none named: all) and role, sorted; missing values last.

    Raises   RunError for a column or role that is not there
    """
    if sort not in table:
        raise RunError(f'The neuron table has no column "{sort}".{nearest(sort, table.columns)}')
    known = _columns_of(map(str, table))
    if role not in known:
        raise RunError(f'There is no role "{role}" of neurons.{nearest(role, known)}')
    if layers:
        table = table[table["layer"].isin(list(layers))]
    if clusters:
        table = table[table["cluster"].isin(list(clusters))]
    if known[role] and known[role] in table:
        table = table[table[known[role]].astype(bool)]
    return table.sort_values([sort, "layer", "index"], ascending=[not descending, True, True], na_position="last")


def page(table: pandas.DataFrame, number: int, size: int) -> pandas.DataFrame:
    """Page `number` (from 1) of `size` rows, at most MOST."""
    size = min(max(int(size), 1), MOST)
    return table.iloc[(number - 1) * size : number * size]


def n_pages(table: pandas.DataFrame, size: int) -> int:
    """How many pages there are; at least one."""
    return max(1, -(-len(table) // min(max(int(size), 1), MOST)))


def points(table: pandas.DataFrame, variant: str) -> list[Row]:
    """Rows (dicts) of the neurons to draw in a variant, chosen as in the report; none when the variant has no D or R."""
    d, r = f"d_{variant}", f"r_{variant}"
    if d not in table or r not in table:
        return []
    wanted = [name for name in ("layer", "index", "score", "in_concept", "in_prune", "in_watch", d, r) if name in table]
    return drawn_neurons(table.loc[table[d].notna() & table[r].notna(), wanted].to_dict("records"), variant)  # type: ignore[arg-type]  # columns are text


def reactivated(table: pandas.DataFrame, variant: str) -> list[Row]:
    """Rows (dicts) of the neurons to draw against an attack on a variant: the chosen ones, then those that lie farthest out."""
    x, y = "score_b", f"delta_{variant}"
    if x not in table or y not in table:
        return []
    known = table.loc[table[x].notna() & table[y].notna()]
    wanted = [name for name in ("layer", "index", "in_concept", "in_prune", "in_watch", x, y) if name in table]
    far = known[[x, y]].abs().max(axis=1)
    order = known.assign(far=far).sort_values(["in_concept", "far", "layer", "index"], ascending=[False, False, True, True])
    return order.head(MOST_POINTS)[wanted].to_dict("records")  # type: ignore[return-value]  # columns are text


def clusters(table: pandas.DataFrame) -> list[int]:
    """Numbers of the clusters in the table; none when the run has no clusters."""
    return sorted(int(number) for number in table["cluster"].dropna().unique()) if "cluster" in table else []


def identity(row: Any) -> str:
    """The id of a neuron, which links carry: layer:number."""
    return f"{row['layer']}:{row['index']}"


def find(table: pandas.DataFrame, name: str) -> Row:
    """The row (dict, None where unknown) of the neuron with an id, layer:number, with the module path or short name of the layer.

    Raises   RunError for an id that no neuron of the table has
    """
    layer, index = _read(name, table)
    here = table[(table["layer"] == layer) & (table["index"].astype(str) == index)]
    if here.empty:
        in_layer = table.loc[table["layer"] == layer, "index"]
        if len(in_layer):
            raise RunError(f'The layer "{layer}" has the neurons {in_layer.min()} to {in_layer.max()}; "{short(index)}" is none of them.')
        raise RunError(f'No neuron is called "{short(name)}"; an id is layer:number, for example {identity(table.iloc[0])}.')
    return {str(key): None if pandas.isna(value) else value for key, value in here.iloc[0].to_dict().items()}


def _read(name: str, table: pandas.DataFrame) -> tuple[str, str]:
    """(module path, number) of an id, whose layer may have its short name: down1.0.0:246, or as it is shown, down1.0.0 · 246."""
    layer, _, index = name.strip().replace(f" {layer_names.DOT} ", ":").rpartition(":")
    paths = {short: path for path, short in layer_names.names(table["layer"].unique()).items()}
    return paths.get(layer, layer), index


def words(row: Row) -> list[str]:
    """What a neuron is, in words: its sets, its cluster."""
    found = role_words(row) or ["in no set"]
    return found + ([f"cluster {row['cluster']:.0f}"] if row.get("cluster") is not None else [])


def role_words(row: Row) -> list[str]:
    """The sets a neuron is in."""
    return [role for role, column in _columns_of(map(str, row)).items() if column and row.get(column) is not None and bool(row[column])]


def points_of_selection(state: Any) -> list[str]:
    """The ids that the selected points of a map carry: the last of what each carries, each once."""
    chosen = (state or {}).get("selection", {}).get("points", [])
    return list(dict.fromkeys(point["customdata"][-1] for point in chosen if point.get("customdata")))


def models(row: Row, variants: Sequence[str]) -> list[dict[str, str]]:
    """[{Variant, D, R, δ}] of one neuron, as text, for the variants with one of them."""
    found = []
    for name in variants:
        values = {symbol: row.get(f"{key}_{name}") for key, symbol in (("d", "D"), ("r", "R"), ("delta", "δ"))}
        if any(value is not None for value in values.values()):
            found.append({"Variant": name} | {symbol: wording.number(value) for symbol, value in values.items()})
    return found


def searched(table: pandas.DataFrame, text: str) -> pandas.DataFrame:
    """The neurons whose id has the text in it, by module path or short name; all for an empty one."""
    wanted = text.strip().lower().replace(f" {layer_names.DOT} ", ":")
    if not wanted:
        return table
    short, number = layer_names.names(table["layer"].unique()), table["index"].astype(str)
    ids = (layers.astype(str) + ":" + number for layers in (table["layer"].map(short), table["layer"]))
    found = pandas.concat([own.str.lower().str.contains(wanted, regex=False) for own in ids], axis=1).any(axis=1)
    return table[found]


def order(table: pandas.DataFrame, by: str) -> list[str]:
    """Ids of the neurons from the largest value of a column to the smallest; missing ones last."""
    found = table.sort_values([by, "layer", "index"], ascending=[False, True, True], na_position="last")
    return [f"{layer}:{index}" for layer, index in zip(found["layer"], found["index"], strict=True)]


def all_of_selection(state: Any, part: pandas.DataFrame) -> list[str]:
    """The ids of all rows of the table `part` that were ticked."""
    chosen = (state or {}).get("selection", {}).get("rows", [])
    return [identity(part.iloc[row]) for row in chosen if row < len(part)]


def of_selection(state: Any, part: pandas.DataFrame | None) -> str | None:
    """The id of the neuron that was picked: a row of the table `part`, or a point of a figure; None when nothing is."""
    chosen = (state or {}).get("selection", {})
    if chosen.get("rows") and part is not None:
        return identity(part.iloc[chosen["rows"][0]])
    if chosen.get("points"):
        return chosen["points"][0]["customdata"][2]
    return None
