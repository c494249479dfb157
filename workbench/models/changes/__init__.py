"""Changes of a model that are no weights: rules of guidance, prompt transforms, correctors, and modules that are added.

Change      one of them: its kind, its settings and its tensors; data only
installed   context manager in which the model computes with it; afterwards nothing of it is left
save, load  as one safetensors file

Recording, attribution, ablation, attacks and the lab need not know of them: what is added is computed by hooks of the UNet, the loop
that samples asks the model for its rule of guidance and its corrector, and a prompt transform stands between the text encoder and the
calls of the UNet.
"""

import json
from contextlib import contextmanager
from dataclasses import dataclass, field

from workbench.errors import ModelError, nearest
from workbench.models.changes import adapter, corrector, guidance, membrane, safree
from workbench.storage import digest, read_arrays, read_metadata, tensors_digest, write_arrays

KINDS = {"adapter": adapter, "negative_prompt": guidance, "sld": guidance, "safree": safree, "corrector": corrector, "membrane": membrane}


@dataclass(frozen=True)
class Change:
    """A change that is no weights.

    kind       one of KINDS;  settings   {name: what JSON can hold}
    tensors    {name: tensor} in single precision
    """

    kind: str
    settings: dict = field(default_factory=dict)
    tensors: dict = field(default_factory=dict)

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ModelError(f'No kind of change is called "{self.kind}".{nearest(self.kind, KINDS)}')

    @property
    def digest(self):
        """sha256 over kind, settings and tensors."""
        return digest([self.kind, self.settings, tensors_digest(self.tensors)])

    @property
    def words(self):
        """What it is, for the report."""
        return KINDS[self.kind].words(self)

    @property
    def n_parameters(self):
        """How many numbers it adds to the UNet; 0 for all others."""
        return sum(value.numel() for value in self.tensors.values()) if KINDS[self.kind] in (adapter, membrane) else 0


@contextmanager
def installed(model, change):
    """While open, the model computes with the change; ModelError where it does not fit the model or another change."""
    with KINDS[change.kind].installed(model, change):
        yield model


def save(path, change, about):
    """Write a change with where it comes from (any JSON-able mapping)."""
    said = {"kind": change.kind, "settings": json.dumps(change.settings), "provenance": json.dumps(about)}
    write_arrays(path, change.tensors, said)


def load(path):
    """The Change of a file that `save` wrote.

    Raises   DamagedFile when it cannot be read
    """
    said = read_metadata(path)
    return Change(said["kind"], json.loads(said["settings"]), read_arrays(path))
