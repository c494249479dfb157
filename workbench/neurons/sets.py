"""Neuron sets: named, saved, reusable.

NeuronSet        which neurons of which model, and how they were chosen; | & -, complement, overlap, a file
index_table      positions counted through all recorded layers in their order
by_layer         boolean array over the index table -> {layer: indices}
top, halve       the highest share of a score; two like halves of a set

In memory a set is a boolean array over the index table, which depends on the sites that were recorded; in a file it is
{layer: indices}, which does not.
"""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas

from workbench.errors import ModelError, RecordingMismatch, nearest
from workbench.foreign import refuse_no_data
from workbench.storage import digest, read_numpy, write_numpy

KIND = "neuron set 1"
MOST_BYTES = 64_000_000
MOST = 1 << 31  # no layer has as many neurons


@dataclass(frozen=True, eq=False)
class NeuronSet:
    """Neurons of one model under one name.

    model        digest of the base model; the variants of a base share its sets
    neurons      {layer path: indices}; kept sorted, without repeats, layers in order of name, empty layers left out
    provenance   plain values that JSON can hold; `made` says how in words, and, where they apply, study, score, share, half

    Two sets are equal when model and neurons are; name and provenance do not count.

    Raises   ModelError for negative or non-integer indices, or a provenance without `made`
    """

    name: str
    model: str
    neurons: dict
    provenance: dict

    def __post_init__(self):
        kept = {}
        for layer, index in sorted(self.neurons.items()):
            index = np.asarray(index)
            if index.ndim != 1 or (len(index) and (index.dtype.kind not in "iu" or index.min() < 0 or index.max() > MOST)):
                raise ModelError(f'The neurons of layer "{layer}" in the set "{self.name}" are no list of indices from 0 upwards.')
            if len(index):
                kept[layer] = np.unique(index).astype(np.int64)
        object.__setattr__(self, "neurons", kept)
        if not self.provenance.get("made"):
            raise ModelError(f'The set "{self.name}" does not say how it was made; give its provenance an entry "made".')

    @classmethod
    def from_boolean(cls, index, chosen, name, model, provenance):
        """The set of the rows of an index table where `chosen` (neuron,) is true."""
        if len(chosen) != len(index):
            raise RecordingMismatch(f'The set "{name}" has {len(chosen)} entries, the index table {len(index)} neurons.')
        return cls(name, model, by_layer(index, chosen), provenance)

    def to_boolean(self, index):
        """(neuron,) boolean array over an index table.

        Raises   RecordingMismatch when the table lacks a layer or neuron of the set
        """
        layer, position, chosen = index["layer"].to_numpy(), index["index"].to_numpy(), np.zeros(len(index), bool)
        for path, wanted in self.neurons.items():
            here = np.flatnonzero(layer == path)
            if not len(here):
                raise RecordingMismatch(
                    f'The set "{self.name}" has neurons in the layer "{path}", which is not recorded here; add its site to the study, '
                    f"or take a set of the recorded layers.{nearest(path, set(layer))}"
                )
            chosen[here] = np.isin(position[here], wanted)
            if chosen[here].sum() != len(wanted):
                outside = np.setdiff1d(wanted, position[here])
                raise RecordingMismatch(
                    f'The set "{self.name}" names neuron {outside[0]} of the layer "{path}", which has the neurons '
                    f"{position[here].min()} to {position[here].max()}. It was made for another model."
                )
        return chosen

    def __len__(self):
        return sum(len(index) for index in self.neurons.values())

    @property
    def digest(self):
        """sha256 hex over model and neurons."""
        return digest([self.model, {layer: index.tolist() for layer, index in self.neurons.items()}])

    def __eq__(self, other):
        return isinstance(other, NeuronSet) and self.digest == other.digest

    def __hash__(self):
        return hash(self.digest)

    def __or__(self, other):
        return self._with(other, "|", np.union1d)

    def __and__(self, other):
        return self._with(other, "&", np.intersect1d)

    def __sub__(self, other):
        return self._with(other, "-", np.setdiff1d)

    def iou(self, other):
        """|A and B| / |A or B|; ModelError when both are empty."""
        together = len(self | other)
        if not together:
            raise ModelError(f'The sets "{self.name}" and "{other.name}" are both empty; their overlap is undefined.')
        return len(self & other) / together

    def complement(self, index):
        """All other neurons of the set's own layers, whose widths the index table says."""
        own = self.to_boolean(index)
        others = index["layer"].isin(list(self.neurons)).to_numpy() & ~own
        about = {"made": "the other neurons of the same layers", "of": [self._about()]}
        return NeuronSet.from_boolean(index, others, f"not {self.name}", self.model, about)

    def table(self):
        """Data frame, one row per neuron: layer, index."""
        rows = [pandas.DataFrame({"layer": layer, "index": index}) for layer, index in self.neurons.items()]
        return pandas.concat(rows, ignore_index=True) if rows else pandas.DataFrame({"layer": [], "index": []})

    def save(self, path):
        """Write a safetensors file: one int64 array per layer; name, model, provenance and a digest of all of it in the header."""
        about = {"kind": KIND, "name": self.name, "model": self.model, "provenance": json.dumps(self.provenance, sort_keys=True)}
        write_numpy(path, self.neurons, about | {"digest": _written(about, self.neurons)})

    @classmethod
    def load(cls, path, model=None, index=None, strict=True):
        """Read what `save` wrote, and check that it fits.

        model    digest of the base model in use; a set of another model is refused, or with strict=False warned about
        index    the index table in use; layers and indices are checked against it
        Raises   ModelError when the file is missing, too large, no neuron set, not as it was written, or names neurons that its own
                 layers do not have; RecordingMismatch when it does not fit
        """
        path = Path(path)
        if not path.is_file():
            raise ModelError(f"There is no neuron set at {path}.{nearest(path.name, (p.name for p in path.parent.glob('*.safetensors')))}")
        if path.stat().st_size > MOST_BYTES:
            raise ModelError(f"{path} has {path.stat().st_size:,} bytes; a neuron set has at most {MOST_BYTES:,}. Is it a checkpoint?")
        refuse_no_data(path)
        arrays, about = read_numpy(path)
        if about.get("kind") != KIND:
            raise ModelError(f'{path} is no neuron set: its header says "{about.get("kind")}" where "{KIND}" is expected.')
        try:
            found = cls(about["name"], about["model"], arrays, json.loads(about["provenance"]))
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise ModelError(f"{path} is no neuron set that can be read ({type(error).__name__}: {error}). Save it again.") from error
        if "digest" in about and about["digest"] != _written(about, arrays):  # files of the first version have none
            raise ModelError(f"{path} is not as it was written: its neurons or what it says of them were changed. Get the file again.")
        _check_provenance(path, found)
        if model is not None and model != found.model:
            sentence = (
                f'The set "{found.name}" in {path} was made on the model {found.model[:12]}, not on {model[:12]}; neuron numbers mean '
                "nothing across models."
            )
            if strict:
                raise RecordingMismatch(f"{sentence} Choose the set again on this model, or load it with strict=False.")
            warnings.warn(sentence, stacklevel=2)
        if index is not None:
            found.to_boolean(index)
        return found

    def _about(self):
        return {"name": self.name, "digest": self.digest, "n": len(self), "provenance": self.provenance}

    def _with(self, other, sign, join):
        if not isinstance(other, NeuronSet):
            return NotImplemented
        if self.model != other.model:
            raise RecordingMismatch(
                f'The sets "{self.name}" and "{other.name}" belong to different models ({self.model[:12]}, {other.model[:12]}); '
                "neuron numbers mean nothing across models."
            )
        none = np.zeros(0, np.int64)
        layers = self.neurons.keys() | other.neurons.keys()
        joined = {layer: join(self.neurons.get(layer, none), other.neurons.get(layer, none)) for layer in layers}
        made = f'"{self.name}" {sign} "{other.name}"'
        return NeuronSet(f"({self.name} {sign} {other.name})", self.model, joined, {"made": made, "of": [self._about(), other._about()]})


def _written(about, arrays):
    """sha256 hex over what a file says and holds."""
    said = {key: about[key] for key in ("kind", "name", "model", "provenance")}
    return digest([said, {layer: array.tolist() for layer, array in arrays.items()}])


def _check_provenance(path, found):
    """Refuse a provenance that others would stumble over, and neurons beyond the widths it states itself."""
    widths, seen = (found.provenance.get(key, empty) for key, empty in (("widths", {}), ("chosen_on", [])))
    if not isinstance(widths, dict) or not all(type(n) is int and n > 0 for n in widths.values()) or not isinstance(seen, list):
        raise ModelError(f"{path} is no neuron set that can be read: widths or chosen_on in its provenance is malformed. Save it again.")
    for layer, index in found.neurons.items():
        if index[-1] >= widths.get(layer, MOST):
            raise ModelError(
                f'{path}: the set "{found.name}" names neuron {index[-1]} of the layer "{layer}", which has the neurons 0 to '
                f"{widths.get(layer, MOST) - 1} by its own widths. The file was damaged, or made wrongly: make the set again."
            )


def index_table(layers):
    """Data frame (one row per neuron): layer, index within the layer, site."""
    rows = [pandas.DataFrame({"layer": layer.path, "index": np.arange(layer.n_neurons), "site": layer.site.name}) for layer in layers]
    return pandas.concat(rows, ignore_index=True)


def by_layer(index, chosen):
    """{layer path: sorted neuron indices} of a boolean array over the index table."""
    rows = index[np.asarray(chosen, bool)]
    return {layer: np.sort(group["index"].to_numpy()) for layer, group in rows.groupby("layer", sort=True)}


def top(score, share, within):
    """Boolean array: the highest `share` of the scores among the positions where `within` is true; NaN is never chosen.

    The choice does not hang on the order of the neurons: of equals at the end of the share, either all fit or all are left out.
    Where that would leave nothing, the first place being shared by more than the share, all who share it are chosen.
    """
    score = np.where(within, np.nan_to_num(score, nan=-np.inf), -np.inf)
    n = max(1, round(share * int(np.sum(within))))
    ranked = -np.sort(-score)
    last = ranked[min(n, len(ranked)) - 1]
    chosen = score >= last
    if chosen.sum() > n and last < ranked[0]:
        chosen = score > last
    return chosen & np.isfinite(score)


def halve(chosen, score, seed):
    """Split a set into two of equal size and like scores (alternating down the ranking): one to prune, one to watch.

    returns   (prune, watch) boolean arrays; in each pair of neighbours in rank a coin decides who is pruned
    """
    order = np.flatnonzero(chosen)
    order = order[np.argsort(-np.asarray(score)[order], kind="stable")]
    coin = np.random.default_rng(seed).random((len(order) + 1) // 2) < 0.5
    prune = np.zeros(len(chosen), bool)
    for pair, first in enumerate(coin):
        rank = 2 * pair + (0 if first else 1)
        if rank < len(order):
            prune[order[rank]] = True
    return prune, np.asarray(chosen, bool) & ~prune
