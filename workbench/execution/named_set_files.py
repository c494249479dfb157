"""The [[sets]] of a study before anything runs: their files, whether they fit the base model, and what makes their nodes' keys.

read       {name: NeuronSet} of the sets that come from files
check      refuse files that are no neuron set, of another model, or of layers that are not recorded
NamedSets  the sets with the folder their files are in, for stages that get no study
identity   what a set is, for keys: neurons by digest, never a path
inputs     nodes whose results a set is made of
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.errors import RecordingMismatch, StudyError
from workbench.models.load import Model
from workbench.neurons.combining import belongs, check_fit
from workbench.neurons.sets import NeuronSet, index_table
from workbench.neurons.sites import Layer
from workbench.study.neuron_sets import CLUSTER, OWN, uses
from workbench.study.study import Study


@dataclass(frozen=True)
class NamedSets:
    """The [[sets]] of a study, the folder where their files are looked for, and what the sets that the study chooses say of themselves."""

    sets: list[NamedSet]
    folder: Path
    study: str
    concept: str
    choose: Choose

    @classmethod
    def of(cls, study: Study) -> "NamedSets":
        """The [[sets]] of a study."""
        return cls(study.sets or [], study.folder, study.name, study.concept.name, study.choose)


def read(study: Study | NamedSets) -> dict[str, NeuronSet]:
    """{name: NeuronSet} of the [[sets]] with a file; ModelError for a file that is no neuron set."""
    return {one.name: NeuronSet.load(one.path(study.folder)) for one in study.sets or [] if one.file is not None}


def check(study: Study, model: Model, source: str, layers: Sequence[Layer]) -> None:
    """Refuse sets from files that do not fit the base model.

    source   digest of the base model's files;  layers   recorded ones
    Raises   ModelError for no neuron set; RecordingMismatch for another model, layer or width; StudyError for neurons outside the
             UNet where they are to be taken out
    """
    files = read(study)
    if not files:
        return
    index = index_table(layers)
    own = model.digest() if any(not belongs(one, source, source) for one in files.values()) else source
    ablated = study.ablate is not None and any("sets" in study.ablate.of(mode)["effects"] for mode in study.ablate.modes)
    outside = {layer.path for layer in layers if layer.site.part != "unet"}
    for name, found in files.items():
        if not belongs(found, own, source):
            from_study = found.provenance.get("study")
            raise RecordingMismatch(
                f'The set "{name}" was made on another base model ({found.model[:12]}{f", study {from_study}" if from_study else ""}) than '
                f"{study.model.base} ({own[:12]}); neuron numbers mean nothing across models. Take a set of a run on {study.model.base}, "
                "or choose the neurons again in this study."
            )
        check_fit(found, index, f'The set "{name}"')
        if ablated and (there := sorted(outside & found.neurons.keys())):
            raise StudyError(
                f'ablate.effects: sets takes neurons out of the UNet, and the set "{name}" has some in the text encoder ({there[0]}). '
                "Save the set without them, or take `sets` out of ablate.effects."
            )


def identity(study: Study | NamedSets, name: str, files: Mapping[str, NeuronSet]) -> list[Any]:
    """[what it is made of]: digests of neurons in files, names of the study's own sets; files as of `read`."""
    if name in files:
        return ["file", files[name].digest]
    one = next((one for one in study.sets or [] if one.name == name), None)
    return [name] if one is None else [one.how, *(identity(study, operand, files) for operand in one.operands)]


def inputs(study: Study, name: str) -> list[str]:
    """Ids of the nodes whose results a set is made of; none when it comes from files alone."""
    own = uses(study, name)
    return (["score"] if own & set(OWN) else []) + (["cluster"] if any(CLUSTER.fullmatch(one) for one in own) else [])
