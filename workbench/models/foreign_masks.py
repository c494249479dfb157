"""Masks as other tools write them -> masks under the names of a base model.

kind      what lies at a path: "ConceptPrune", "saliency" or, for the workbench's own files and anything else, None
calls     a ConceptPrune folder -> {(call, layer number): places of one sparse matrix}, without a model
united    the same -> {layer number: boolean array}: what more than a share of the first calls name
saliency  SalUn's file -> {name in the file: bool tensor}, without a model
read      either of them for a model -> ({parameter: bool tensor}, where it comes from)

ConceptPrune writes `timestep_{t}_layer_{l}.pkl` for each call t of the sampling loop, counted from 0, and each layer l in the order
of the sorted module names: a sparse matrix of SciPy (csr) with a 1 where a weight is skilled. What it prunes is

    Z_l = [ sum over the first tau calls of Z_tl > select_ratio * tau ]

SalUn writes {parameter: 0 or 1}: 1 where a weight was trained. That is no pruning mask, and is never used as one unasked.

Sources   ConceptPrune: arXiv 2405.19237, public code; SalUn: arXiv 2310.12508, and the package vision-unlearning
"""

import io
import pickle
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from workbench.errors import ModelError
from workbench.foreign import refuse_no_data, torch_content, unreadable
from workbench.models.formats import compvis, container, diffusers_unet
from workbench.storage import read_metadata

NAME = re.compile(r"^timestep_(\d{1,5})_layer_(\d{1,5})\.pkl$")
MOST_BYTES = 400_000_000
MOST_WEIGHTS = 100_000_000  # of one layer
LAYERS = {
    "reads": ("unet", lambda name: name.endswith(".ff.net.2.weight")),
    "feeds": ("unet", lambda name: name.endswith(".ff.net.0.proj.weight")),
    "key": ("unet", lambda name: name.endswith(".attn2.to_k.weight")),
    "value": ("unet", lambda name: name.endswith(".attn2.to_v.weight")),
    "text": ("text_encoder", lambda name: name.endswith(".mlp.fc2.weight")),
}
TRAINED = "trained"  # what a saliency mask marks
NUMBERS = {f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)} | {"b1", "f2", "f4", "f8"}


@dataclass
class Places:
    """One sparse matrix: its shape (output, input), and the rows and columns of what is not zero."""

    shape: tuple
    rows: np.ndarray
    columns: np.ndarray


def kind(path):
    """ "ConceptPrune" for a folder with its masks or one of them, "saliency" for a file of zeros and ones by name, else None."""
    path = Path(path)
    try:
        if path.is_dir():
            return "ConceptPrune" if any(NAME.match(p.name) for p in path.iterdir()) else None
        if not path.is_file():
            return None
    except OSError as error:
        raise ModelError(unreadable(path, error)) from error
    if path.suffix == ".pkl":
        return "ConceptPrune"
    found = container.header(path)
    if found is not None:
        own = not found.content or any(value.dtype not in (torch.bool, torch.uint8) for value in found.content.values())
        return None if own or _has_shapes(path) else "saliency"
    return "saliency" if zipfile.is_zipfile(path) else None


def _has_shapes(path):
    """The workbench's own masks say the shapes of what they packed."""
    return "shapes" in read_metadata(path)


def calls(folder):
    """{(call, layer number): Places} of all masks in a folder of ConceptPrune.

    Raises   ModelError when a file is no sparse matrix of numbers, or the folder is too large to be masks
    """
    folder = Path(folder)
    if folder.is_file():
        raise ModelError(
            f"{folder} is one mask of one call. Give the folder that holds them all: what is pruned is what several calls name together."
        )
    files = {tuple(map(int, NAME.match(p.name).groups())): p for p in sorted(folder.iterdir()) if NAME.match(p.name)}
    total = sum(p.stat().st_size for p in files.values())
    if total > MOST_BYTES:
        raise ModelError(f"{folder} holds {total:,} bytes of masks; at most {MOST_BYTES:,} are read.")
    return {place: sparse(path) for place, path in sorted(files.items())}


def united(found, folder, first=None, select_ratio=0.0):
    """({layer number: bool array (output, input)}, number of calls): what more than a share of the first calls name.

    found          of `calls`;  first   how many calls count, None for all there are
    select_ratio   a weight is in the mask when more than this share of the calls name it; published: 0, so any of them
    Raises         ModelError when a mask is missing, or a layer has two shapes
    """
    layers = sorted({layer for _, layer in found})
    n = first if first is not None else 1 + max(call for call, _ in found)
    for layer in range(layers[-1] + 1):
        for call in range(n):
            if (call, layer) not in found:
                there = 1 + max(at for at, _ in found)
                hint = f" It has masks of {there} calls: ask for at most so many." if n > there else " Get the folder whole."
                raise ModelError(f"{folder}: timestep_{call}_layer_{layer}.pkl is missing.{hint}")
    result = {}
    for layer in layers:
        shapes = {found[call, layer].shape for call in range(n)}
        if len(shapes) > 1:
            raise ModelError(f"{folder}: layer {layer} has the shapes {' and '.join(map(str, sorted(shapes)))}. It is of two models.")
        votes = np.zeros(shapes.pop(), np.int16)
        for call in range(n):
            votes[found[call, layer].rows, found[call, layer].columns] += 1
        result[layer] = votes > select_ratio * n
    return result, n


def read(path, model, first=None, select_ratio=0.0, layers=None):
    """({parameter: bool tensor}, provenance) of somebody else's masks for a model.

    first, select_ratio   as for `united`; ConceptPrune alone
    layers                which layers ConceptPrune searched: reads (ff.net.2, as published), feeds, key, value, text; None where the
                          shapes leave one answer
    Raises                ModelError when they cannot be read safely, or do not fit the model
    """
    path = Path(path)
    if kind(path) == "ConceptPrune":
        return _conceptprune(path, model, first, select_ratio, layers)
    return _saliency(path, model)


def _conceptprune(path, model, first, select_ratio, layers):
    found, n = united(calls(path), path, first, select_ratio)
    parameters = model.parameters()
    fitting = {}
    for word, (part, wanted) in LAYERS.items():
        names = [name for name in parameters if name.startswith(part + ".") and wanted(name)]
        names = names if part == "text_encoder" else sorted(names, key=lambda name: name.removesuffix(".weight"))
        if [tuple(parameters[name].shape) for name in names] == [mask.shape for mask in found.values()]:
            fitting[word] = names
    if layers is not None and layers not in fitting:
        raise ModelError(f'{path}: its {len(found)} masks are not of the layers "{layers}" of "{model.name}". {_shapes(found, fitting)}')
    if not fitting:
        raise ModelError(f'{path}: its {len(found)} masks fit no kind of layers of "{model.name}". {_shapes(found, fitting)}')
    if layers is None and len(fitting) > 1:
        raise ModelError(
            f"{path}: its masks may be of the layers {' or '.join(fitting)}, which have the same shapes. Say which, as `layers`."
        )
    word = layers or next(iter(fitting))
    masks = {name: torch.from_numpy(mask) for name, mask in zip(fitting[word], found.values(), strict=True)}
    about = {"made": "ConceptPrune's masks", "calls": n, "select_ratio": select_ratio, "layers": word}
    return masks, about


def _shapes(found, fitting):
    first = next(iter(found.values())).shape
    return f"The first is {first[0]} x {first[1]}. Layers that fit: {', '.join(fitting) or 'none; they were made for another model'}."


def saliency(path):
    """{name in the file: bool tensor} of SalUn's mask.

    Raises   ModelError when it holds anything else than zeros and ones by name
    """
    refuse_no_data(path)
    content = torch_content(path) if container.header(path) is None else container.safetensors(path)[1]
    tensors = isinstance(content, dict) and content and all(torch.is_tensor(value) for value in content.values())
    if not tensors or not all(_zeros_and_ones(value) for value in content.values()):
        raise ModelError(
            f"{path} is no mask: zeros and ones by the names of weights are needed. If it is a checkpoint, ask `workbench inspect`."
        )
    return {str(name): value.detach().bool() for name, value in content.items()}


def _zeros_and_ones(value):
    plain = value.layout == torch.strided and not value.is_quantized and not value.is_meta and not value.is_complex()
    return plain and bool(((value == 0) | (value == 1)).all())


def _saliency(path, model):
    found = saliency(path)
    table = diffusers_unet.names(model) | compvis.names(model)
    parameters = model.parameters()
    named, without = {}, []
    for name, mask in found.items():
        parameter = table.get(name)
        if parameter is None:
            without.append(name)
        elif mask.shape == parameters[parameter].shape or mask.squeeze().shape == parameters[parameter].squeeze().shape:
            named[parameter] = mask.reshape(parameters[parameter].shape)
        else:
            raise ModelError(
                f'{path} is for another base than "{model.name}": its mask of "{name}" is {tuple(mask.shape)}, the weight '
                f"{tuple(parameters[parameter].shape)}."
            )
    if without:
        raise ModelError(
            f'{path} names {len(without)} of {len(found)} weights that "{model.name}" does not have, e.g. "{without[0]}". '
            "It was made for another model."
        )
    return named, {"made": "a saliency mask as SalUn writes it", "marks": TRAINED}


def sparse(path):
    """Places of one sparse matrix (csr) of SciPy in a plain pickle, read without running anything of it.

    Only the words for a csr matrix and for arrays of numbers are understood, and they are answered by stand-ins of our own: nothing
    is imported, called or built by the file's will.

    Raises   ModelError when the file asks for anything else, is damaged, or is no matrix of numbers
    """
    refuse_no_data(path)
    try:
        with open(path, "rb") as file:
            found = _Reader(io.BytesIO(file.read(MOST_BYTES))).load()
    except OSError as error:
        raise ModelError(unreadable(path, error)) from error
    except _Foreign as error:
        raise ModelError(
            f"{path} is no mask: beside a sparse matrix it asks for {error}, which could run code. Nothing of it was run."
        ) from error
    except Exception as error:  # damaged bytes lead anywhere
        raise ModelError(f"{path} is damaged: no sparse matrix can be read from it. Get the file again.") from error
    try:
        return _places(found)
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError) as error:
        raise ModelError(f"{path} is no mask: a csr matrix of whole numbers is needed ({error}).") from error


class _Foreign(Exception):
    """A pickle asks for something that no matrix needs."""


class _Matrix:
    """Stands for scipy's csr matrix."""


class _Array:
    """Stands for a numpy array; its state is (version, shape, type, order, bytes)."""


class _Type:
    """Stands for a numpy type; its state is not needed, but for the order of bytes."""


def _array(*arguments):
    return _Array()


def _type(word, *flags):
    made = _Type()
    made.word = word
    return made


def _from_buffer(data, kind, shape, order):
    made = _Array()
    made.state = (1, shape, kind, order == "F", data)
    return made


def _encoded(text, encoding):
    """Bytes as protocol 2 spells them."""
    if encoding != "latin1":
        raise _Foreign(f"the encoding {str(encoding)[:20]}")
    return text.encode("latin1")


def _no_bytes():
    """An empty string of bytes as protocol 2 spells it."""
    return b""


def _scalar(kind, data):
    return _decoded(kind, data).item()


STAND_INS = {
    "bytes": _no_bytes,
    "encode": _encoded,
    "csr_matrix": _Matrix,
    "csr_array": _Matrix,
    "_reconstruct": _array,
    "ndarray": _Array,
    "dtype": _type,
    "_frombuffer": _from_buffer,
    "scalar": _scalar,
}
PLACES = re.compile(r"^(__builtin__|_codecs|scipy\.sparse(\.(_csr|csr))?|numpy(\._?core\.(multiarray|numeric))?)$")


class _Reader(pickle._Unpickler):  # the one in Python: a few bytes can make the one in C take all memory
    def find_class(self, module, name):
        if PLACES.match(module) and name in STAND_INS:
            return STAND_INS[name]
        raise _Foreign(re.sub(r"[^\w.]", "?", f"{module}.{name}", flags=re.ASCII)[:80])

    def persistent_load(self, pid):
        raise _Foreign("an object outside the file")

    dispatch = dict(pickle._Unpickler.dispatch)

    def load_build(self):
        """Keep the state beside the stand-in; an object's own state is never set."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], (_Matrix, _Array, _Type)):
            raise _Foreign("a state for something that has none")
        self.stack[-1].state = state

    dispatch[pickle.BUILD[0]] = load_build


def _places(found):
    if type(found) is not _Matrix or not isinstance(getattr(found, "state", None), dict):
        raise ValueError("it holds something else")
    state = found.state
    shape = tuple(int(side) for side in state["_shape"])
    if len(shape) != 2 or min(shape) < 1 or shape[0] * shape[1] > MOST_WEIGHTS:
        raise ValueError(f"its shape is {str(shape)[:60]}")
    data, indices, starts = (_numbers(state[key]) for key in ("data", "indices", "indptr"))
    if indices.dtype.kind not in "iu" or starts.dtype.kind not in "iu":
        raise ValueError("its rows and columns are no whole numbers")
    indices, starts = indices.astype(np.int64), starts.astype(np.int64)
    fits = len(starts) == shape[0] + 1 and len(data) == len(indices) and starts[0] == 0 and starts[-1] == len(indices)
    if not fits or (np.diff(starts) < 0).any() or (len(indices) and not (indices.min() >= 0 and indices.max() < shape[1])):
        raise ValueError("its rows and columns do not fit its shape")
    if not np.isin(data, (0, 1)).all():
        raise ValueError("it holds other numbers than 0 and 1")
    rows = np.repeat(np.arange(shape[0]), np.diff(starts))
    marked = data != 0
    return Places(shape, rows[marked], indices[marked])


def _numbers(array):
    """(n,) of a stand-in for an array."""
    _, shape, kind, _, data = array.state
    values = _decoded(kind, data)
    if tuple(shape) != values.shape:
        raise ValueError("an array is shorter than it says")
    return values


def _decoded(kind, data):
    """(n,) of bytes and a stand-in for their type; plain numbers alone."""
    if not isinstance(data, (bytes, bytearray)) or kind.word not in NUMBERS:
        raise ValueError("it holds no plain numbers")
    state = getattr(kind, "state", ())
    order = state[1] if len(state) > 1 and state[1] in ("<", ">") else "|" if kind.word.endswith("1") else "<"
    return np.frombuffer(data, np.dtype(order + kind.word))
