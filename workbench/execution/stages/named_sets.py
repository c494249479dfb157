"""The stage `named_sets`, and what the report says of it: the [[sets]] of a study, described on half B beside its own concept set.

named_sets   each is saved as a neuron set: where it comes from, what it overlaps with, what erasing and attacks do to it
resolve      a set by name, from its file, the study's own choice, a cluster, or other sets;  members   the same as (neuron,) bool
to_prune     {layer: indices} that the eraser prune_neurons cuts
rows, columns, caveats   for the report, the neuron table, the verdict
export       the sets of a run as files that other studies can take
"""

import shutil
from datetime import UTC, datetime

import numpy as np

from workbench.analysis import cluster_description
from workbench.analysis.selection import stability
from workbench.errors import RunError, StatisticsError
from workbench.execution import named_set_files, neuron_choice
from workbench.execution.attribution_inputs import SITE, here
from workbench.execution.rows.rates import labels
from workbench.execution.stages.cluster import cluster_files, headline_trajectory
from workbench.neurons.combining import combine
from workbench.neurons.sets import NeuronSet, by_layer
from workbench.report.document import plain
from workbench.storage import digest, read_json, read_table, write_json
from workbench.study.neuron_sets import OWN, ordered
from workbench.study.prompt_set_name import control_of
from workbench.study.study import BASE

TABLES = ("sets", "set_layers", "set_overlaps", "set_effects")
SAID = ("study", "concept", "score", "half", "date")
FOLDER = "neuron-sets"
MADE_OF = "one is made of the other, or both of the same set, so that their overlap is no news"


def named_sets(room, node, shard, folder):
    """tables.json, and <name>.safetensors, a NeuronSet each that has neurons."""
    study, written, found = room.study, {name: [] for name in TABLES}, {}
    model = room.model.digest()
    for one in ordered(study):
        row = {"neuron_set": one.name, "how": one.how, "of": one.operands} | dict.fromkeys(("digest", "made", *SAID, "file"))
        row |= dict.fromkeys(("n_neurons", "n_layers", "n_seen"))
        try:
            own = resolve(room, one.name, model)
        except StatisticsError as error:
            written["sets"].append(row | {"reason": str(error)})
            continue
        row |= {"digest": own.digest, "made": own.provenance["made"]} | {key: own.provenance.get(key) for key in SAID}
        row |= {"n_neurons": len(own), "n_layers": len(own.neurons), "n_seen": _n_seen(room, own)}
        if not len(own):
            written["sets"].append(row | {"reason": f"no neuron is in this {one.how}"})
            continue
        own.save(folder / f"{one.name}.safetensors")
        found[one.name] = own.to_boolean(room.neurons)
        written["sets"].append(row | {"file": f"{FOLDER}/{one.name}.safetensors", "reason": None})
    if found:
        concept = _chosen(room, "concept")
        written["set_layers"] = [row for name, members in found.items() for row in _layers(room, name, members, concept)]
        written["set_overlaps"] = _overlaps(room, {"concept": concept} | found)
        written["set_effects"] = _effects(room, node, found)
    write_json(folder / "tables.json", plain(written))


def resolve(room, name, model):
    """The NeuronSet of a name, as one of `model` (its digest).

    Raises   StatisticsError for a cluster that was not found; RunError for a file that was changed since the run was planned
    """
    study = room.study
    one = next((one for one in study.sets or [] if one.name == name), None)
    if one is None:
        return _own(room, name, model)
    if one.file is not None:
        found = NeuronSet.load(one.path(study.folder))
        return NeuronSet(name, model, found.neurons, found.provenance)
    return combine(one.how, [resolve(room, operand, model) for operand in one.operands], name)


def members(room, name, identity):
    """(neuron,) bool over all recorded neurons.

    identity   of the set as it was planned
    Raises     as `resolve`
    """
    if named_set_files.identity(room.study, name, named_set_files.read(room.study)) != identity:
        raise RunError(f'The file of the set "{name}" has changed since this run was planned. Run the study again.')
    return resolve(room, name, "here").to_boolean(room.neurons)


def to_prune(room, part, node):
    """{layer path: indices} of the site ff that prune_neurons cuts: half of the concept set, all of it, or one of the [[sets]].

    part   what the study says of the variant
    """
    if "set" in node.parameters:
        chosen = members(room, part.parameters["set"], node.parameters["set"]) & here(room)
    else:
        chosen = _chosen(room, "prune" if part.parameters.get("neurons", "prune") == "prune" else "concept")
    return by_layer(room.neurons, chosen)


def _chosen(room, what):
    """(neuron,) bool: concept, suppressed or prune of the site ff."""
    return read_table(room._folder("score") / "neurons.parquet")[f"in_{what}"].to_numpy() & here(room)


def _own(room, name, model):
    """A set the study itself makes: concept, suppressed or cluster-N."""
    if name in OWN:
        return _choice(room, name, SITE, model)
    saved = {path.stem: path for path in cluster_files(room)}
    if name not in saved:
        raise StatisticsError(f"There is no {name}; the clusters found are {', '.join(saved) or 'none'}.")
    found = NeuronSet.load(saved[name])
    return NeuronSet(name, model, found.neurons, found.provenance | _origin(room, found.neurons))


def _choice(room, what, site, model):
    """The concept or suppressed set of a site, with how it was chosen."""
    study, choose = room.study, room.study.choose
    table = read_table(room._folder("score") / "neurons.parquet")
    neurons = by_layer(table, table[f"in_{what}"] & (table["site"] == site))
    about = {
        "made": f"{what} set of the site {site} by {neuron_choice.in_words(choose)}",
        "study": study.name,
        "concept": study.concept.name,
    }
    about |= {"score": neuron_choice.in_words(choose), "share": choose.share, "half": "a", "seed": choose.seed}
    name = what if site == SITE else f"{what}-{site.replace('_', '-')}"
    return NeuronSet(name, model, neurons, about | _origin(room, neurons))


def _origin(room, neurons):
    """What ties a set to its base model and to the prompts it was chosen on."""
    study, target, half = room.study, room.prompt_set("target"), room.half_a()
    widths = {layer.path: layer.n_neurons for layer in room.layers if layer.path in neurons}
    seen = [one for one, mine in zip(_fingerprints(target), half, strict=True) if mine]
    base = {"base": study.model.base, "base_digest": room.plan.node(f"generate:{BASE}:target").parameters["model"]}
    return base | {"widths": widths, "chosen_on": sorted(seen), "date": _date(room)}


def _date(room):
    """The day on which the neurons were scored."""
    written = (room._folder("score") / "neurons.parquet").stat().st_mtime
    return datetime.fromtimestamp(written, UTC).date().isoformat()


def _fingerprints(prompts):
    return [digest([prompt, int(seed)])[:12] for prompt, seed in zip(prompts.prompts, prompts.seeds, strict=True)]


def _n_seen(room, found):
    """How many units of half B the set was chosen on in another study; None when it does not say what it was chosen on."""
    if "chosen_on" not in found.provenance:
        return None
    target, seen = room.prompt_set("target"), set(found.provenance["chosen_on"])
    rows = zip(target.units, _fingerprints(target), room.half_a(), strict=True)
    return len({unit for unit, one, mine in rows if one in seen and not mine})


def _layers(room, name, chosen, concept):
    layer, rows = room.neurons["layer"].to_numpy(), []
    for path in np.unique(layer[chosen]):
        at = layer == path
        row = {"neuron_set": name, "layer": path, "n": int((chosen & at).sum()), "n_concept": int((chosen & concept & at).sum())}
        rows.append(row | {"share": (chosen & at).sum() / chosen.sum(), "expected": at.mean()})
    return rows


def _overlaps(room, chosen):
    """Every pair of sets beside chance."""
    layer, names, rows = room.neurons["layer"].to_numpy(), list(chosen), []
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            if not chosen[first].any():
                row = dict.fromkeys(("iou", "chance", "chance_low", "chance_high", "n_random", "p_random"))
                row |= {"n_first": 0, "n_second": int(chosen[second].sum()), "reason": f'the set "{first}" is empty'}
            else:
                row = stability({one: chosen[one] for one in (first, second)}, layer, seed=room.study.choose.seed).iloc[0].to_dict()
                row["reason"] = None
                if _parts(room.study, first) & _parts(room.study, second):
                    row |= dict.fromkeys(("chance", "chance_low", "chance_high", "n_random", "p_random")) | {"reason": MADE_OF}
            both = int((chosen[first] & chosen[second]).sum())
            rows.append(row | {"first": first, "second": second, "both": both})
    return rows


def _parts(study, name):
    """A set and every set that goes into it."""
    one = next((one for one in study.sets if one.name == name), None)
    return {name}.union(*(_parts(study, part) for part in (one.operands if one else ())))


def _effects(room, node, found):
    """D, R and delta on half B, as of clusters."""
    study, trajectory, half = room.study, headline_trajectory(room.study), room.units_in_half_a()
    pairs = [tuple(pair) for pair in node.parameters["conditions"]]
    values = {pair: room.unit_means(pair[1], room.mean_abs(*pair, trajectory))[~half] for pair in pairs}
    attacks = [(variant, name, control_of(name)) for variant, name in values if (variant, control_of(name)) in values]
    settings = {"n_resamples": study.choose.n_resamples, "n_random": study.choose.n_random, "seed": study.choose.seed}
    table = cluster_description.effects_of_sets(found, values, room.neurons, attacks, **settings)
    if table.empty:
        return []
    # a column of counts with a gap in it is one of floats
    table["n_random"] = table["n_random"].astype("Int64")
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [row | labels(room, row["variant"], row["prompt_set"]) for row in rows]


def rows(room):
    """{table: rows} of what the stage wrote; nothing where the study has no [[sets]]."""
    found = {name: [] for name in TABLES}
    for node in room.plan.of_stage("named_sets"):
        found |= read_json(_folder(room, node) / "tables.json")
    return found


def columns(room):
    """{column of the neuron table: (neuron,)}: set_<name>, whether a neuron is in the set."""
    saved = [path for node in room.plan.of_stage("named_sets") for path in sorted(_folder(room, node).glob("*.safetensors"))]
    return {f"set_{path.stem}": NeuronSet.load(path).to_boolean(room.neurons) for path in saved}


def caveats(tables):
    """Sentences about sets that were chosen on units they are described on here."""
    return [
        f"The set {row['neuron_set']} was chosen on {row['n_seen']} of the units it is described on here: what it does looks larger than "
        "it is. Take other prompts, or the seed of the study it comes from."
        for row in tables["sets"]
        if row["n_seen"]
    ]


def export(room, folder):
    """Write the concept and suppressed set of every site, the clusters and the [[sets]] of a run into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    model = room.model.digest()
    choices = [_choice(room, what, site, model) for what in OWN for site in room.study.record.sites]
    choices += [_own(room, path.stem, model) for path in cluster_files(room)]
    for one in choices:
        if len(one):
            one.save(folder / f"{one.name}.safetensors")
    for node in room.plan.of_stage("named_sets"):
        for path in _folder(room, node).glob("*.safetensors"):
            shutil.copyfile(path, folder / path.name)


def _folder(room, node):
    return room.store.result("named_sets", node.shards[0].key)
