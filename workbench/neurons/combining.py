"""Neuron sets from neuron sets, across runs: what the result is made of, which base model it is of, how wide its layers are.

combine     union, intersection or difference of several sets
same_base   refuse sets of different base models
belongs     whether a set is of a base model, whatever variant or number format of it the set was made on
check_fit   refuse a set that the recorded layers of a model cannot hold
widths_of   {layer: neurons} as far as the sets say

What sets carry in their provenance beside `made`, where it is known: study, concept, score, share, half, seed, date; base (name),
base_digest (of its files), widths {layer: neurons}, chosen_on (digests of the prompts and seeds the choice has seen).
"""

from functools import reduce
from operator import and_, or_, sub

from workbench.errors import ModelError, RecordingMismatch, nearest
from workbench.neurons.sets import NeuronSet

HOW = {"union": or_, "intersection": and_, "difference": sub}
SHORT = ("chosen_on", "widths")


def combine(how, sets, name):
    """The union or intersection of sets, or what of the first is in none of the others; NeuronSet.

    Raises   ModelError for another way or fewer than two sets; RecordingMismatch for sets of different base models
    """
    if how not in HOW:
        raise ModelError(f'Neuron sets cannot be combined by "{how}".{nearest(how, HOW)}')
    if len(sets) < 2:
        raise ModelError(f"A {how} needs at least two neuron sets; {len(sets)} was given.")
    alike = same_base(sets)
    about = {"made": f"{how} of {', '.join(_called(one) for one in sets)}", "of": [_without_lists(one) for one in sets]}
    for key in ("base", "base_digest"):
        said = {one.provenance.get(key) for one in sets}
        if len(said) == 1 and None not in said:
            about[key] = said.pop()
    widths = widths_of(sets)
    about |= {"widths": widths} if widths else {}
    seen = sorted({row for one in sets for row in one.provenance.get("chosen_on", ())})
    about |= {"chosen_on": seen} if seen else {}
    return NeuronSet(name, alike[0].model, reduce(HOW[how], alike).neurons, about)


def same_base(sets):
    """The sets as ones of the first one's model, when all are of one base model, whatever variant or number format.

    Raises   RecordingMismatch when one is of another base
    """
    first, alike = sets[0], []
    for one in sets:
        if not (one.model == first.model or belongs(one, first.model, first.provenance.get("base_digest", first.model))):
            raise RecordingMismatch(
                f'The sets "{first.name}" and "{one.name}" belong to different models ({first.model[:12]}, {one.model[:12]}); neuron '
                "numbers mean nothing across models."
            )
        alike.append(NeuronSet(one.name, first.model, one.neurons, one.provenance))
    return alike


def belongs(found, model, source):
    """Whether a set is of a base model.

    model    digest of its weights as they are loaded;  source   digest of its files
    """
    return found.model == model or found.provenance.get("base_digest") in (source, model)


def check_fit(found, index, what):
    """Refuse a set that names layers or neurons an index table does not have, or was made where a layer has another width.

    Raises   RecordingMismatch
    """
    found.to_boolean(index)
    here = index.groupby("layer").size()
    for layer, n in widths_of([found]).items():
        if layer in here and here[layer] != n:
            raise RecordingMismatch(
                f'{what}: its layer "{layer}" has {n} neurons, that of this model {here[layer]}. It was made for another model.'
            )


def widths_of(sets):
    """{layer: number of neurons} of the layers of some sets, as far as their provenance says.

    Raises   RecordingMismatch when two of them say different widths
    """
    widths = {}
    for one in sets:
        for layer, n in one.provenance.get("widths", {}).items():
            if widths.setdefault(layer, n) != n:
                raise RecordingMismatch(
                    f'The sets do not belong to one model: the layer "{layer}" has {widths[layer]} neurons in one and {n} in "{one.name}".'
                )
    return widths


def _called(one):
    return f'"{one.name}"'


def _without_lists(one):
    kept = {key: value for key, value in one.provenance.items() if key not in SHORT}
    return {"name": one.name, "digest": one.digest, "n": len(one), "provenance": kept}
