"""Lists of neurons that a reader keeps beside a run, and notes on neurons. Needs neither torch nor Streamlit.

<runs folder>/.workbench/<run name>/lists/NAME.safetensors    a neuron set each, as `NeuronSet.save` writes it, so that `[[sets]] file =`
                                                              of a study reads it
<runs folder>/.workbench/<run name>/notes.json                {neuron id, layer:number: text}

They lie beside the run and not in it, so that a run folder stays as it was computed. The name of a list is one that a study can give a
set; its neurons are {layer path: indices}.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from workbench.errors import ModelError, RunError, nearest
from workbench.neurons.sets import NeuronSet
from workbench.storage import read_json, write_json
from workbench.study.fields import MOST_NAME
from workbench.study.neuron_sets import CLUSTER, OTHERS, OWN
from workbench.ui import neuron_files, run_list
from workbench.ui.run_list import State
from workbench.ui.text import short

FOLDER = ".workbench"
NAME = re.compile(r"[a-z][a-z0-9-]*")
MOST_NOTE = 10_000
Neurons = dict[str, list[int]]


def folder(state: State) -> Path:
    """Where the lists of a run lie; it need not exist."""
    return _beside(state) / "lists"


def path(state: State, name: str) -> Path:
    """Where a list lies, for `[[sets]] file =`."""
    return folder(state) / f"{checked(name)}.safetensors"


def names(state: State) -> list[str]:
    """Names of the lists of a run, in order."""
    found = folder(state).glob("*.safetensors") if folder(state).is_dir() else ()
    return sorted(path.stem for path in found if NAME.fullmatch(path.stem))


def checked(name: str) -> str:
    """The name, when a list may have it.

    Raises   RunError that says which names are possible
    """
    if not NAME.fullmatch(name) or len(name) > MOST_NAME:
        raise RunError(
            f'A list cannot be called "{short(name)}". A name has at most {MOST_NAME} small letters, digits and hyphens, and begins with '
            "a letter; for example eyes-1."
        )
    if name in (*OWN, *OTHERS) or CLUSTER.fullmatch(name):
        raise RunError(f'A list cannot be called "{name}", a name that studies use themselves. Choose another name.')
    return name


def read(state: State, name: str) -> Neurons:
    """{layer path: sorted indices} of a list.

    Raises   RunError when there is none of that name, or its file cannot be read
    """
    if name not in names(state):
        raise RunError(f'This run has no list "{short(name)}".{nearest(name, names(state))}')
    try:
        return {layer: index.tolist() for layer, index in NeuronSet.load(path(state, name)).neurons.items()}
    except ModelError as error:
        raise RunError(str(error)) from error


def size(state: State, name: str) -> int:
    """How many neurons a list has."""
    return sum(map(len, read(state, name).values()))


def containing(state: State, layer: str, index: int) -> list[str]:
    """Names of the lists that have a neuron; a list that cannot be read is left out."""
    found = []
    for name in names(state):
        try:
            found += [name] if index in read(state, name).get(layer, ()) else []
        except RunError:
            continue
    return found


def create(state: State, name: str, neurons: Mapping[str, Sequence[int]] | None = None, made: str = "") -> None:
    """A new list, with neurons or empty.

    made     how its neurons were chosen, in words; it goes into the file
    Raises   RunError for a name that cannot be or is there already, or neurons that the run does not have
    """
    with _changing(state):
        if checked(name) in names(state):
            raise RunError(f'There is a list "{name}" already. Add to it, or choose another name.')
        _write(state, name, neurons or {}, made)


def add(state: State, name: str, neurons: Mapping[str, Sequence[int]]) -> int:
    """Add neurons to a list; returns how many were new."""
    with _changing(state):
        before = read(state, name)
        after = {layer: sorted({*before.get(layer, ()), *neurons.get(layer, ())}) for layer in before.keys() | neurons.keys()}
        _write(state, name, after)
    return _n(after) - _n(before)


def remove(state: State, name: str, neurons: Mapping[str, Sequence[int]]) -> int:
    """Remove neurons from a list; returns how many it had of them."""
    with _changing(state):
        before = read(state, name)
        after = {layer: sorted(set(index) - set(neurons.get(layer, ()))) for layer, index in before.items()}
        _write(state, name, after)
    return _n(before) - _n(after)


def rename(state: State, name: str, new: str) -> None:
    """Give a list another name; RunError when it is taken."""
    with _changing(state):
        neurons = read(state, name)
        if checked(new) in names(state):
            raise RunError(f'There is a list "{new}" already. Choose another name.')
        _write(state, new, neurons, _made(state, name))
        path(state, name).unlink()


def delete(state: State, name: str) -> None:
    """Delete a list."""
    with _changing(state):
        if name not in names(state):
            raise RunError(f'This run has no list "{short(name)}".{nearest(name, names(state))}')
        path(state, name).unlink()


def notes(state: State) -> dict[str, str]:
    """{neuron id: text}; RunError when the file is damaged."""
    file = _beside(state) / "notes.json"
    if not file.exists():
        return {}
    found = read_json(file)
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise RunError(f"{file} is damaged: an object of texts was expected. Move it away; notes are then written to a new file.")
    return found


def write_note(state: State, neuron: str, text: str) -> None:
    """Keep the note on a neuron; an empty one removes it."""
    if len(text) > MOST_NOTE:
        raise RunError(f"A note has at most {MOST_NOTE:,} letters; this one has {len(text):,}. Shorten it.")
    with _changing(state):
        kept = notes(state) | {neuron: text.strip()}
        write_json(_beside(state) / "notes.json", {key: value for key, value in kept.items() if value})


def _beside(state: State) -> Path:
    place = run_list.runs_folder() if state.read_only else state.folder.absolute().parent
    return place / FOLDER / state.name


@contextmanager
def _changing(state: State) -> Iterator[None]:
    """One writer at a time; RunError when the folder cannot be written."""
    where = _beside(state)
    try:
        where.mkdir(parents=True, exist_ok=True)
        with FileLock(where / ".lock", timeout=10):
            yield
    except (OSError, TimeoutError) as error:
        raise RunError(f"Nothing can be kept in {where}: {error}. Make the folder of the runs writable.") from error


def _n(neurons: Mapping[str, Sequence[int]]) -> int:
    return sum(map(len, neurons.values()))


def _made(state: State, name: str) -> str:
    return str(NeuronSet.load(path(state, name)).provenance["made"])


def _write(state: State, name: str, neurons: Mapping[str, Sequence[int]], made: str = "") -> None:
    table = neuron_files.frame(state)
    widths = {str(layer): int(highest) + 1 for layer, highest in table.groupby("layer")["index"].max().items()}
    for layer, index in neurons.items():
        if layer not in widths:
            raise RunError(f'This run has no layer "{short(layer)}".{nearest(layer, widths)}')
        if index and not 0 <= min(index) <= max(index) < widths[layer]:
            raise RunError(f'The layer "{layer}" has the neurons 0 to {widths[layer] - 1}; {max(index, key=abs)} is none of them.')
    if not made:
        made = _made(state, name) if name in names(state) else f"chosen by hand on the pages of the run {state.folder.name}"
    study = (state.document or {}).get("study", {})
    provenance: dict[str, Any] = {"made": made, "study": study.get("name"), "concept": study.get("concept", {}).get("name")}
    provenance = {key: value for key, value in provenance.items() if value} | _of_the_run(state) | {"widths": widths}
    model = next((row["digest"] for row in state.report["models"] if row["role"] == "base"), None)
    if model is None:
        raise RunError(f"The report of {state.folder.name} does not say which base model it is of. Write it again: {state.command}")
    NeuronSet(name, model, dict(neurons), provenance).save(path(state, name))


def _of_the_run(state: State) -> dict[str, Any]:
    """What the run's own neuron sets say of the base model and of the prompts that a choice has seen."""
    known = state.report_folder / "neuron-sets" / "concept.safetensors"
    if not known.is_file():
        return {}
    try:
        said = NeuronSet.load(known).provenance
    except (ModelError, RunError):
        return {}
    return {key: said[key] for key in ("base", "base_digest", "chosen_on") if key in said}


def as_ids(neurons: Mapping[str, Iterable[int]]) -> list[str]:
    """The ids, layer:number, of neurons."""
    return [f"{layer}:{number}" for layer, index in sorted(neurons.items()) for number in sorted(index)]


def of_ids(ids: Iterable[str]) -> Neurons:
    """{layer path: sorted indices} of ids, layer:number."""
    found: dict[str, set[int]] = {}
    for one in ids:
        layer, _, index = one.rpartition(":")
        found.setdefault(layer, set()).add(int(index))
    return {layer: sorted(index) for layer, index in sorted(found.items())}


def study_lines(name: str, file: str | Path, parent: str) -> str:
    """What a study file says to use a saved neuron set as one of its [[sets]] and as the mask of a pruned variant.

    parent   the variant that is pruned
    """
    return (
        f"[[sets]]\nname = {json.dumps(name)}\nfile = {json.dumps(str(file))}\n\n"
        f'[[variants]]\nname = {json.dumps(f"{parent}-without-{name}")}\nmethod = "prune_neurons"\nparent = {json.dumps(parent)}\n'
        f'role = "pruned"\nparameters = {{ set = {json.dumps(name)} }}\n'
    )
