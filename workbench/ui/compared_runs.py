"""Variants of several runs held against each other: rates, differences, shared neurons. Reads run folders without torch or Streamlit.

opened         a run's state, the last few kept;  sides    its variants, each with its run
points         sides on the plane of the concept's rate against retention
differences    every rate of one side against those of the others, paired where both saw the same prompts
neuron_sets    sets of neurons of the runs;  shared   how far two of them overlap
reports        two reports side by side: settings and numbers that differ
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from workbench.analysis import rates, unpaired
from workbench.errors import RunError
from workbench.report import compare, wording
from workbench.report.content import Report, Row
from workbench.report.sections.retention import plane_points
from workbench.storage import DamagedFile
from workbench.ui import picture_files, run_list
from workbench.ui.run_list import State

MOST_RUNS = 6
MOST_SIDES = 12
MOST_SETS = 10
ROLES = {"in_concept": "chosen", "in_prune": "pruned", "in_watch": "watched", "in_suppressed": "suppressed"}
WITHOUT_ATTACK = ("target", "reference")
RETAINED = ("near", "far")


class Side(NamedTuple):
    """A variant of a run."""

    run: str
    variant: str

    @property
    def id(self) -> str:
        """As the address has it; a run's name has no slash."""
        return f"{self.run}/{self.variant}"


def opened(name: str) -> State:
    """The state of a run by its name; read again when the run has changed.

    Raises   RunError where there is no such run
    """
    folder = run_list.folder_of_name(name)
    if folder is None:
        raise RunError(f'There is no run "{name}".')
    return _opened(str(folder), run_list.changed(folder))


@lru_cache(maxsize=MOST_RUNS + 2)
def _opened(folder: str, stamp: Any) -> State:
    return run_list.look(folder)


def sides(states: dict[str, State]) -> list[Side]:
    """Every variant of the runs."""
    return [Side(run, variant) for run, state in states.items() for variant in state.report.variants]


def changed(states: dict[str, State]) -> list[Side]:
    """The variants that are no base model, as many as are shown at first."""
    found = [side for side in sides(states) if side.variant in states[side.run].report.subjects]
    return found[:MOST_SIDES] or sides(states)[:MOST_SIDES]


def named(side: Side, states: dict[str, State]) -> str:
    """'erased', or 'my-run · erased' where several runs are compared."""
    return side.variant if len(states) == 1 else f"{side.run} · {side.variant}"


# the plane


def points(states: dict[str, State], chosen: Sequence[Side]) -> list[Row]:
    """As `plane_points`, of variants of several runs."""
    return [
        point | {"variant": named(side, states), "run": side.run}
        for side in chosen
        for point in plane_points(states[side.run].report, [side.variant])
    ]


# differences


class Seen(NamedTuple):
    """What the judge saw in the images of a condition: ids, units and success of each prompt."""

    ids: tuple[str, ...]
    units: tuple[str, ...]
    success: np.ndarray


def differences(states: dict[str, State], one: Side, others: Sequence[Side]) -> list[Row]:
    """[{a, b, what, rate_a, rate_b, difference, low, high, p, p_adjusted, n, paired, why}] of every rate that two sides share, b - a.

    paired   whether both saw the same prompts, judged alike; where they did not, `why` says so, the interval takes the two rates as
             independent, and there is no p
    """
    runs = tuple((name, str(state.folder), run_list.changed(state.folder)) for name, state in states.items())
    return [dict(row) for row in _differences(runs, one, tuple(others))]


@lru_cache(maxsize=16)
def _differences(runs: tuple[tuple[str, str, Any], ...], one: Side, others: tuple[Side, ...]) -> list[Row]:
    states = {name: _opened(folder, stamp) for name, folder, stamp in runs}
    rows = [row for other in others if other != one for row in _against(states, one, other)]
    for row, adjusted in zip(rows, rates.with_adjusted(rows), strict=True):
        row |= {"p_adjusted": adjusted["p_adjusted"], "n_family": adjusted["n_family"]}
    return rows


def _against(states: dict[str, State], one: Side, other: Side) -> Iterator[Row]:
    a, b = (_rates(states[side.run].report, side.variant) for side in (one, other))
    for what in (what for what in a if what in b):
        x, y = a[what], b[what]
        row = {"a": named(one, states), "b": named(other, states), "what": what, "rate_a": x["rate"], "rate_b": y["rate"]}
        row |= {"only_a": None, "only_b": None}
        why = _not_paired(states, one, other, x, y)
        pair = None if why else _pair(states, one, other, x, y)
        if pair is None:
            why = why or "the run folder no longer has the detector's findings"
            found = unpaired.difference(x, y) | {"p": None, "n": min(x["n"] or 0, y["n"] or 0) or None}
        else:
            made = rates.compare(*pair)
            found = {key: made[key] for key in ("difference", "low", "high", "p", "n", "only_a", "only_b")}
        yield row | found | {"paired": not why, "why": why}


def _rates(report: Report, variant: str) -> dict[str, Row]:
    """{what is compared: its row} of a variant: without attack, under each attack made for it, retained concepts; controls left out."""
    found: dict[str, Row] = {}
    for row in report.arranged("rates"):
        without = row["attack"] is None and row["prompt_set"] in WITHOUT_ATTACK and row["definition"] in ("success_rate", "false_positive")
        attacked = row["attack"] is not None and row["definition"] == "asr" and row["provenance"] != "transferred"
        if row["variant"] == variant and not row["control"] and (without or attacked):
            what = f"concept in images, {wording.condition(row)}"
            found.setdefault(what, row)
    for row in report["retention"]:
        if row["variant"] == variant:
            what = f"drawn as asked, {wording.named(wording.RETAINED, row['kind'])}"
            found.setdefault(what, row | {"prompt_set": row["kind"], "attack": None})
    return found


def _not_paired(states: dict[str, State], one: Side, other: Side, a: Row, b: Row) -> str:
    """Why two rates are of different prompts, or judged differently; "" where they are of the same."""
    if one.run == other.run:
        return ""
    first, second = (states[side.run].report for side in (one, other))
    for name in {a["prompt_set"] if a["attack"] is None else "target"}:
        digests = [_digest(report, name) for report in (first, second)]
        if None in digests or digests[0] != digests[1]:
            return f"the runs have other {wording.named(wording.PROMPTS, name)}"
    if a["attack"] is None and a["prompt_set"] in RETAINED and a["definition"] != b["definition"]:
        return "drawn as asked means something else in the two runs"
    if _judge(first) != _judge(second):
        return "the judges differ"
    return ""


def _digest(report: Report, prompt_set: str) -> str | None:
    return next((row["digest"] for row in report["reproduce"]["prompts"] if row["set"] == prompt_set), None)


def _judge(report: Report) -> list[tuple[Any, ...]]:
    """Which detector judged, for which labels and from which thresholds on; of an older report the name in its rates."""
    known: list[tuple[Any, ...]]
    known = [(row["version"], tuple(row["labels"]), tuple(row["thresholds"])) for row in report["detectors"] if row["role"] == "judge"]
    return known or sorted({(row["detector"],) for row in report["rates"] if row["detector"]})


def _pair(states: dict[str, State], one: Side, other: Side, a: Row, b: Row) -> tuple[Any, Any, Any] | None:
    """(success of a, of b, units) on the same prompts in the same order; None where the findings are not all there or do not fit."""
    found = [_success(states[side.run], side.variant, row) for side, row in ((one, a), (other, b))]
    if found[0] is None or found[1] is None or sorted(found[0].ids) != sorted(found[1].ids) or len(set(found[0].ids)) < len(found[0].ids):
        return None
    place = {name: number for number, name in enumerate(found[1].ids)}
    order = [place[name] for name in found[0].ids]
    if [found[1].units[number] for number in order] != list(found[0].units):
        return None
    return found[0].success, found[1].success[order], list(found[0].units)


def _success(state: State, variant: str, row: Row) -> Seen | None:
    """The success behind a rate: under an attack also on prompts that succeed without it, as in an ASR."""
    seen = _seen(state, variant, row["prompt_set"], row["prompt_set"] in RETAINED)
    if seen is None or row["attack"] is None:
        return seen
    without = _seen(state, variant, "target", False)
    return None if without is None or without.ids != seen.ids else seen._replace(success=seen.success | without.success)


def _seen(state: State, variant: str, prompt_set: str, expected: bool) -> Seen | None:
    node = next((one for one in state.nodes if one["id"] == f"detect:{variant}:{prompt_set}"), None)
    return None if node is None or not node["shards"] else _read(str(state.folder), variant, prompt_set, tuple(node["shards"]), expected)


@lru_cache(maxsize=512)
def _read(folder: str, variant: str, prompt_set: str, shards: tuple[str, ...], expected: bool) -> Seen | None:
    """A finished shard never changes."""
    node = {"id": f"detect:{variant}:{prompt_set}", "stage": "detect", "shards": list(shards)}
    try:
        table = picture_files.detections(State(Path(folder), "finished"), node)
    except DamagedFile as error:
        raise RunError(str(error)) from None
    column = "judge_expected" if expected else "judge"
    if table is None or not {"id", "unit", column} <= set(table):
        return None
    return Seen(tuple(map(str, table["id"])), tuple(map(str, table["unit"])), table[column].to_numpy(dtype=bool))


# neurons


class NeuronSet(NamedTuple):
    """A set of neurons: its run, what it is called, the digest of its base model, its neurons by layer, and how many neurons there are."""

    run: str
    name: str
    base: str | None
    layers: dict[str, frozenset[int]]
    sizes: dict[str, int]

    @property
    def n(self) -> int:
        """How many neurons it has."""
        return sum(map(len, self.layers.values()))


def neuron_sets(states: dict[str, State]) -> list[NeuronSet]:
    """The sets of neurons in the tables of the runs: chosen, pruned, watched, suppressed, named ones; at most MOST_SETS."""
    found = []
    for run, state in states.items():
        path = state.report_folder / "neurons.parquet"
        if state.report["neuron_table"] is None or not path.is_file():
            continue
        base = next((row["digest"] for row in state.report["models"] if row["role"] == "base"), None)
        for name, layers, sizes in _sets(str(path), run_list.changed(state.folder)):
            found.append(NeuronSet(run, name if len(states) == 1 else f"{run} · {name}", base, layers, sizes))
    return found[:MOST_SETS]


@lru_cache(maxsize=MOST_RUNS + 2)
def _sets(path: str, stamp: Any) -> list[tuple[str, dict[str, frozenset[int]], dict[str, int]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        names = pyarrow.parquet.read_schema(path).names
        marks = [name for name in names if name in ROLES or name.startswith("set_")]
        table = pyarrow.parquet.read_table(path, columns=["layer", "index", *marks]).to_pandas()
    except (pyarrow.ArrowInvalid, OSError, KeyError) as error:
        raise RunError(f"{path} is no readable table of neurons ({error}). Run the study again; results are kept.") from None
    sizes = {str(layer): int(n) for layer, n in table["layer"].value_counts().items()}
    found = []
    for mark in marks:
        inside = table[table[mark].fillna(False).astype(bool)]
        layers = {str(layer): frozenset(map(int, part)) for layer, part in inside.groupby("layer", observed=True)["index"]}
        if layers:
            found.append((ROLES.get(mark, mark.removeprefix("set_")), layers, sizes))
    return found


def shared(found: Sequence[NeuronSet]) -> list[Row]:
    """[{a, b, n_a, n_b, shared, expected, iou, iou_expected, reason}] of every two sets; of several runs, of two of them.

    expected   how many neurons two random sets with as many neurons in each layer share: sum over layers of n_a n_b / n
    reason     why two sets cannot be compared: they are of different base models
    """
    rows, several = [], len({one.run for one in found}) > 1
    for place, one in enumerate(found):
        for other in found[place + 1 :]:
            if several and one.run == other.run:
                continue
            row: Row = {"a": one.name, "b": other.name, "n_a": one.n, "n_b": other.n}
            if one.base is None or one.base != other.base:
                rows.append(row | dict.fromkeys(("shared", "expected", "iou", "iou_expected")) | {"reason": "other base models"})
                continue
            both = sum(len(one.layers[layer] & other.layers[layer]) for layer in one.layers.keys() & other.layers.keys())
            chance = sum(
                len(one.layers[layer]) * len(other.layers[layer]) / one.sizes[layer] for layer in one.layers.keys() & other.layers.keys()
            )
            total = one.n + other.n
            row |= {"shared": both, "expected": chance, "iou": both / (total - both), "iou_expected": chance / (total - chance)}
            rows.append(row | {"reason": None})
    return rows


# reports


def reports(a: State, b: State) -> tuple[list[Row] | None, list[Row]]:
    """(settings, numbers) of two reports that differ, as `workbench diff` says; None for settings that cannot be read."""
    stamps = [run_list.changed(state.folder) for state in (a, b)]
    return _reports(str(a.folder), str(b.folder), *stamps)


@lru_cache(maxsize=4)
def _reports(a: str, b: str, *stamps: Any) -> tuple[list[Row] | None, list[Row]]:
    from workbench.execution.run_folder import Store

    one, two = (_opened(folder, stamp).report.document for folder, stamp in zip((a, b), stamps, strict=True))
    try:
        settings = compare.settings(Store(Path(a)).study(), Store(Path(b)).study())
    except RunError:
        settings = None
    return settings, compare.differences(one, two)
