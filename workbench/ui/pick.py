"""Which neurons a link names: `?pick=...`, one language for all pages. Needs neither torch nor Streamlit.

concept, prune, watch, suppressed   a role in the neuron table
cluster:3                           a cluster of the run
top:COLUMN:K                        the K neurons with the highest value in a column of the neuron table; top:score:50
layer:PATH                          all neurons of a layer, by its module path or short name
list:NAME, set:NAME                 a list kept beside the run (see lists.py); one of the [[sets]] of its study
neurons:PATH=1+5+9,PATH=3           neurons by number
random:SEED:PICK                    a comparable random set: as many neurons in each layer, none of those picked; the same for a seed

Roles and top:COLUMN:K are of the site ff, where the study recorded it: the concept set of the report is too.

resolve      a pick -> {layer path: sorted indices};   words   a pick in words;   of_neurons   neurons -> a pick
choices      the roles, clusters, sets and lists that a run has
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas

from workbench.errors import RunError, StatisticsError, nearest
from workbench.report import wording
from workbench.statistics import matched_random_sets
from workbench.ui import layer_names, lists, neuron_files, neuron_table
from workbench.ui.run_list import State
from workbench.ui.text import short

ROLES = {"concept": "in_concept", "prune": "in_prune", "watch": "in_watch", "suppressed": "in_suppressed"}
ROLE_WORDS = {
    "concept": "the concept neurons",
    "prune": "the pruned concept neurons",
    "watch": "the watched concept neurons",
    "suppressed": "the suppressed neurons",
}
KINDS = ("cluster", "top", "layer", "list", "set", "neurons", "random")
SITE = "ff"
FORMS = "concept, prune, watch, suppressed, cluster:3, top:score:50, layer:PATH, list:NAME, set:NAME, neurons:PATH=1+5, random:1:PICK"
MOST = 64


def resolve(state: State, text: str) -> dict[str, list[int]]:
    """{layer path: sorted indices} of a pick; a layer without neurons is left out.

    Raises   RunError for what is not written as a pick, or names what the run does not have
    """
    kind, rest = _read(text)
    if kind in ROLES:
        return _role(state, kind)
    if kind == "random":
        seed, inner = _seed(rest)
        return _random(state, seed, resolve(state, inner), inner)
    if kind == "list":
        return _known(state, lists.read(state, rest), f'the list "{rest}"')
    if kind == "neurons":
        return _known(state, _numbers(state, rest), "this link")
    if kind == "layer":
        table = neuron_files.frame(state)
        return _by_layer(table[table["layer"] == layer_names.path_of(rest, table["layer"].unique())])
    if kind == "top":
        return _top(state, *_column(rest))
    if kind == "cluster":
        return _cluster(state, rest)
    return _set(state, rest)


def words(text: str) -> str:
    """A pick in words, such as "the 50 neurons with the highest score"; RunError when it is none."""
    kind, rest = _read(text)
    if kind in ROLES:
        return ROLE_WORDS[kind]
    if kind == "random":
        seed, inner = _seed(rest)
        return f"random neurons (seed {seed}), as many in each layer as {words(inner)}"
    if kind == "neurons":
        pairs = _pairs(rest)
        one = next(iter(pairs.values()))
        if len(pairs) == 1 and len(one) == 1:
            return f"the neuron {layer_names.short(next(iter(pairs)))} · {one[0]}"
        return f"{wording.integer(sum(map(len, pairs.values())))} neurons chosen by hand"
    if kind == "top":
        column, k = _column(rest)
        return f"the {wording.integer(k)} neurons with the highest {neuron_table.label(column)}"
    if kind == "layer":
        return f"all neurons of {layer_names.short(rest)}"
    return f"{kind} {rest}" if kind == "cluster" else f'the {kind} "{rest}"'


def of_neurons(neurons: Mapping[str, Sequence[int]]) -> str:
    """The pick `neurons:...` of {layer path: indices}."""
    parts = [f"{layer}={'+'.join(str(int(one)) for one in sorted(set(index)))}" for layer, index in sorted(neurons.items()) if len(index)]
    return f"neurons:{','.join(parts)}"


def of_ids(ids: Sequence[str]) -> str:
    """The same of neuron ids, layer:number."""
    return of_neurons(lists.of_ids(ids))


def choices(state: State) -> list[str]:
    """The picks that can be chosen by name: roles that some neuron has, clusters, sets, lists. Empty without a neuron table."""
    try:
        columns = neuron_files.columns(state)
        sets = [name for name in columns if name.startswith("set_")]
        table = neuron_files.frame(state, (*ROLES.values(), "cluster", *sets))
    except RunError:
        return []
    found = [name for name, column in ROLES.items() if column in table and table[column].any()]
    found += [f"cluster:{number}" for number in neuron_table.clusters(table) if number >= 0]
    found += [f"set:{name.removeprefix('set_')}" for name in sets if table[name].any()]
    return found + [f"list:{name}" for name in lists.names(state)]


def _read(text: str) -> tuple[str, str]:
    """(kind, what follows)."""
    kind, colon, rest = str(text).strip().partition(":")
    if (kind in ROLES and not colon) or (kind in KINDS and rest):
        return kind, rest
    if kind in KINDS:
        raise RunError(f'"{short(text)}" picks no neurons: after {kind}: something must follow. Possible: {FORMS}.')
    raise RunError(f'"{short(text)}" picks no neurons.{nearest(kind, (*ROLES, *KINDS))} Forms: {FORMS}.')


def _seed(rest: str) -> tuple[int, str]:
    seed, _, inner = rest.partition(":")
    if not re.fullmatch(r"\d{1,9}", seed) or not inner:
        raise RunError(f'"random:{short(rest)}" picks no neurons: write random:SEED:PICK with a number, for example random:1:concept.')
    if inner.count(":") > MOST:
        raise RunError("A random set of a random set of a random set …: write random:SEED:PICK once.")
    return int(seed), inner


def _column(rest: str) -> tuple[str, int]:
    column, _, k = rest.rpartition(":")
    if not column or not re.fullmatch(r"\d{1,9}", k) or not int(k):
        raise RunError(f'"top:{short(rest)}" picks no neurons: write top:COLUMN:K with a number from 1 upwards, for example top:score:50.')
    return column, int(k)


def _pairs(rest: str) -> dict[str, list[int]]:
    """{layer as written: numbers}. In an address a plus may have become a space."""
    found: dict[str, list[int]] = {}
    for part in rest.split(","):
        layer, equals, numbers = part.strip().partition("=")
        listed = re.split(r"[+ ]+", numbers.strip())
        if not layer or not equals or not all(re.fullmatch(r"\d{1,9}", one) for one in listed):
            raise RunError(f'"{short(part)}" names no neurons: write neurons:LAYER=1+5+9,LAYER=3.')
        found.setdefault(layer, []).extend(map(int, listed))
    return found


def _numbers(state: State, rest: str) -> dict[str, list[int]]:
    layers = neuron_files.frame(state)["layer"].unique()
    found: dict[str, list[int]] = {}
    for layer, index in _pairs(rest).items():
        path = layer_names.path_of(layer, layers)
        found[path] = sorted({*found.get(path, []), *index})
    return found


def _known(state: State, neurons: dict[str, list[int]], whose: str) -> dict[str, list[int]]:
    """The neurons, when the run has them all."""
    highest = neuron_files.frame(state).groupby("layer")["index"].max()
    for layer, index in neurons.items():
        if layer not in highest:
            raise RunError(f'{whose} names the layer "{short(layer)}", which this run did not record.{nearest(layer, highest.index)}')
        if index[-1] > highest[layer]:
            raise RunError(f'{whose} names the neuron {index[-1]} of the layer "{layer}", which has the neurons 0 to {highest[layer]}.')
    return neurons


def _of_site(table: pandas.DataFrame) -> pandas.DataFrame:
    own = table[table["site"] == SITE]
    return table if own.empty else own


def _role(state: State, role: str) -> dict[str, list[int]]:
    table, column = _of_site(neuron_files.frame(state, (ROLES[role],))), ROLES[role]
    chosen = table[table[column]] if column in table else table.head(0)
    if chosen.empty:
        raise RunError(f"This run has no {ROLE_WORDS[role].removeprefix('the ')}. Possible: {', '.join(choices(state)) or 'none'}.")
    return _by_layer(chosen)


def _cluster(state: State, number: str) -> dict[str, list[int]]:
    table = neuron_files.frame(state, ("cluster",))
    known = [one for one in neuron_table.clusters(table) if one >= 0]
    if not known:
        raise RunError("This run has no clusters. Add a table [cluster] to its study and run it again.")
    if number not in map(str, known):
        raise RunError(f"This run has no cluster {short(number)}. Possible: {', '.join(map(str, known))}.")
    return _by_layer(table[table["cluster"] == int(number)])


def _set(state: State, name: str) -> dict[str, list[int]]:
    known = [column.removeprefix("set_") for column in neuron_files.columns(state) if column.startswith("set_")]
    if name not in known:
        raise RunError(f'The study of this run has no set "{short(name)}".{nearest(name, known)} Sets are the [[sets]] of a study.')
    table = neuron_files.frame(state, (f"set_{name}",))
    return _by_layer(table[table[f"set_{name}"]])


def _top(state: State, column: str, k: int) -> dict[str, list[int]]:
    kinds = neuron_files.columns(state)
    numbers = [name for name, kind in kinds.items() if re.match("u?int|float|double", kind) and name != "index"]
    if column not in numbers:
        raise RunError(f'The neuron table has no column of numbers "{short(column)}".{nearest(column, numbers)}')
    table = _of_site(neuron_files.frame(state, (column,)))
    table = table[table[column].notna()]
    if table.empty:
        raise RunError(f'The column "{column}" of the neuron table is empty. Choose another column.')
    return _by_layer(table.sort_values([column, "layer", "index"], ascending=[False, True, True]).head(k))


def _random(state: State, seed: int, neurons: dict[str, list[int]], inner: str) -> dict[str, list[int]]:
    table = neuron_files.frame(state)
    chosen = np.zeros(len(table), bool)
    for layer, index in neurons.items():
        chosen |= ((table["layer"] == layer) & table["index"].isin(index)).to_numpy()
    try:
        (drawn,) = matched_random_sets(chosen, table["layer"].to_numpy(), 1, seed)
    except StatisticsError:
        raise RunError(f"There is no comparable random set: a layer has fewer other neurons than {words(inner)}. Pick fewer.") from None
    return _by_layer(table[drawn])


def _by_layer(rows: pandas.DataFrame) -> dict[str, list[int]]:
    return {str(layer): sorted(group["index"].tolist()) for layer, group in rows.groupby("layer", sort=True)}
