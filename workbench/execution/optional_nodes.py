"""The nodes that the tables [attribute], [cluster], [[sets]] and [ablate] of a study add to the graph, and what they cost.

attribute:<variant>:<set>             one shard per method and half of the units
conductance:<variant>:<set>           the same conditions, one shard per half
fidelity:base:target                  one shard for single neurons, one for random sets
tokens:<variant>:<set>                which words drive the leading neurons
cluster                               on half A, described on half B
regions                               where in the image the clusters are active
named_sets                            the [[sets]], described on half B
ablate:<mode>:<effect>:<kind>         base model; one shard per group of prompts and share (greedy, shapley: the target prompts alone)
ablate:<mode>:<effect>:<variant>:<set>    necessity and sufficiency
ablate:<mode>:sets:<kind>:<name>          one of the [[sets]]
"""

from workbench.analysis import coalitions
from workbench.errors import StudyError, nearest
from workbench.execution import named_set_files
from workbench.study.ablate import FEWEST_PARTITIONS
from workbench.study.prompt_set_name import control_of
from workbench.study.study import BASE

GRADIENT = 2.5  # UNet row passes of a row with gradient
SHARED = 0.75  # of a one-step pass that is left where the first layers are shared
COMPARES = {"T1": 1, "T2": 3, "T3": 1, "T4": 0}  # passes for what a target compares with
STEPS = {"gradient": GRADIENT, "integrated": 16 * GRADIENT, "curvature": 2 * GRADIENT}
PROBED_UNITS = 8  # of half B, on which fidelity and tokens are asked
SAMPLE, TOP, N_SETS, SET_SHARE = 200, 50, 100, 0.01
WORD_STEPS = TEXT_STEPS = 16
REGION_SETS = 19
N_CLUSTERS = 5  # a guess, where the study leaves k open


class Facts:
    """What a node's key and cost are made of.

    plans    {name: SetPlan};  rows {name: rows of its file};  base, images, looks    as in plan.build
    """

    def __init__(self, study, plans, rows, calls, n_calls, n_neurons, base, images, looks):
        self.study, self.plans, self.rows, self.calls, self.n_calls = study, plans, rows, calls, n_calls
        self.n_neurons, self.base, self.images, self.looks = n_neurons, base, images, looks
        units = len(set(plans["target"].table.units))
        self.rows_per_unit = len(rows["target"]) / units
        self.n_units_a, self.n_units_b = units // 2, units - units // 2
        self.plain = [variant.name for variant in study.variants if variant.role != "sham"]

    def n_rows(self, units, half="b"):
        """Rows of so many units of a half."""
        n = self.n_units_a if half == "a" else self.n_units_b
        return round(min(units or n, n) * self.rows_per_unit)

    def met(self, variant):
        """Attacks' sets that a variant met by design: made against it, or against none."""
        return [name for name, one in self.plans.items() if one.attack and not one.control and one.against in (None, variant)]

    def needed(self, variant, name):
        """Nodes that make a condition: the trajectory, the variant, the prompts."""
        nodes = [f"generate:{BASE}:target"]
        nodes += [] if variant == BASE else [f"erase:{variant}"]
        return nodes + ([self.plans[name].node] if self.plans[name].node else [])

    def written(self, names):
        """{set: rows} of the sets that come from files."""
        return {name: self.rows[name] for name in names if name in self.rows}


def conditions(facts):
    """[variant, prompt set] pairs that clusters are made and described by; every attack beside its control.

    Without pruned variants: what was pruned is silent there, and a cluster would only find the mask again.
    """
    found = [[BASE, "reference"], [BASE, "target"]]
    for variant in (name for name in facts.plain if facts.study.variant(name).role != "pruned"):
        found.append([variant, "target"])
        for name in facts.met(variant):
            found += [[variant, name], [variant, control_of(name)]]
    return found


def attributed(facts):
    """[variant, prompt set] pairs that [attribute] asks for.

    Raises   StudyError for a prompt set the study does not have
    """
    part = facts.study.attribute
    for name in part.prompt_sets or []:
        if name not in facts.plans:
            raise StudyError(f'attribute.prompt_sets names "{name}", which is no prompt set of this study.{nearest(name, facts.plans)}')
    found = []
    for variant in part.variants or [BASE, *facts.plain]:
        sets = part.prompt_sets or ["target", *(facts.met(variant) if variant != BASE else [])]
        found += [[variant, name] for name in sets]
    return found


def attributed_calls(facts):
    """The calls that are attributed; StudyError for one that is not recorded."""
    calls = facts.study.attribute.calls
    for call in calls or []:
        if call not in facts.calls:
            raise StudyError(
                f"attribute.calls names call {call}, which is not recorded; recorded are {', '.join(map(str, facts.calls))}. "
                "Attribution needs the latents kept there."
            )
    return sorted(set(calls)) if calls else list(facts.calls)


def add(make, facts):
    """Add the nodes that the study asks for to a plan's builder; returns the ids of all of them."""
    study, added = facts.study, []
    if study.attribute:
        added += _attribute(make, facts)
    attributions = list(added)
    if study.attribute:
        added += _conductance(make, facts) + _probe(make, facts)
    if study.cluster:
        added.append(_cluster(make, facts, attributions))
        if study.cluster.regions:
            added.append(_regions(make, facts))
    if study.sets:
        added.append(_sets(make, facts))
    if study.ablate:
        added += _ablate(make, facts, attributions)
    return added


def _attribution_of(facts):
    """Parameters of every node about the target of [attribute]."""
    study, part = facts.study, facts.study.attribute
    detector = {"steer": facts.looks["steer"], "labels": facts.looks["labels"]} if part.target == "T4" else {}
    calls = attributed_calls(facts)
    return facts.base | {"target": part.target, "calls": calls, "units": part.units, "seed": study.choose.seed} | detector


def _attribute(make, facts):
    part, added, common = facts.study.attribute, [], _attribution_of(facts)
    calls, jobs = common["calls"], [[method, half] for method in part.methods for half in ("a", "b")]
    for variant, name in attributed(facts):
        parameters = common | {"prompts": facts.written(["target", "reference", name]), "set": name, "jobs": jobs}
        each = COMPARES[part.target] + 2
        passes = sum((each + STEPS[method]) * facts.n_rows(part.units, half) * len(calls) for method, half in jobs)
        size = sum(facts.n_neurons * (24 + 4 * facts.n_rows(part.units, half)) for _, half in jobs)
        ranges = tuple((place, place + 1) for place in range(len(jobs)))
        inputs = facts.needed(variant, name)
        added.append(
            make.add(f"attribute:{variant}:{name}", "attribute", parameters, inputs, variant, name, ranges, passes=passes, bytes=size)
        )
    return added


def _conductance(make, facts):
    """Nodes of their own, so that what is made from attributions is not made anew."""
    part, added = facts.study.attribute, []
    jobs = [["conductance", half] for half in ("a", "b")]
    for variant, name in attributed(facts) if part.conductance else []:
        parameters = _attribution_of(facts) | {"set": name, "steps": TEXT_STEPS, "jobs": jobs}
        parameters |= {"prompts": facts.written(["target", "reference", name])}
        n_rows = sum(facts.n_rows(part.units, half) for _, half in jobs)
        passes = (COMPARES[part.target] + (TEXT_STEPS + 1) * GRADIENT) * n_rows * len(parameters["calls"])
        size, inputs = facts.n_neurons * (48 + 4 * n_rows), facts.needed(variant, name)
        node_id, ranges = f"conductance:{variant}:{name}", ((0, 1), (1, 2))
        added.append(make.add(node_id, "conductance", parameters, inputs, variant, name, ranges, passes=passes, bytes=size))
    return added


def _probe(make, facts):
    """Fidelity on base x target; which words drive the neurons in every attributed condition."""
    part, added, calls = facts.study.attribute, [], attributed_calls(facts)
    common = facts.base | {"target": part.target, "calls": calls, "seed": facts.study.choose.seed, "units": PROBED_UNITS}
    items = facts.n_rows(PROBED_UNITS) * len(calls)
    if part.fidelity:
        jobs = [["neurons", [SAMPLE, TOP]], ["sets", [N_SETS]]]
        parameters = common | {"methods": part.methods, "share": SET_SHARE, "jobs": jobs}
        parameters |= {"prompts": facts.written(["target", "reference"])}
        scored = sum(COMPARES[part.target] + 2 + STEPS[method] for method in part.methods)
        passes = items * (SAMPLE + TOP + N_SETS + 2 * scored)
        inputs, ranges = facts.needed(BASE, "target"), ((0, 1), (1, 2))
        added.append(make.add(f"fidelity:{BASE}:target", "fidelity", parameters, inputs, BASE, "target", ranges, passes=passes, bytes=4000))
    for variant, name in attributed(facts) if part.tokens else []:
        parameters = common | {"tokens": part.tokens, "names": facts.study.concept.names, "set": name}
        parameters |= {"prompts": facts.written(["target", "reference", name])}
        inputs = [*facts.needed(variant, name), f"attribute:{BASE}:target"]
        passes = part.tokens * items * (WORD_STEPS * GRADIENT + 2)
        added.append(make.add(f"tokens:{variant}:{name}", "tokens", parameters, inputs, variant, name, passes=passes, bytes=4000))
    return added


def _cluster(make, facts, attributions):
    study, part = facts.study, facts.study.cluster
    pairs = conditions(facts)
    uses = part.attribution is not False
    inputs = ["score", *(f"record:{variant}:{name}" for variant, name in pairs), *(attributions if uses else [])]
    own = {name: value for name, value in part.model_dump(mode="json").items() if name not in part.later}
    parameters = {"cluster": own, "conditions": pairs, "seed": study.choose.seed}
    parameters |= {"trajectories": study.record.trajectories, "n_resamples": study.choose.n_resamples}
    size = facts.n_neurons * 60 + 50_000
    return make.add("cluster", "cluster", parameters, inputs, bytes=size)


def _regions(make, facts):
    """On base x target, and under the first attack that the first variant which is no sham met, one made against it before others."""
    pairs = [[BASE, "target"]]
    for variant in facts.plain[:1]:
        names = sorted(facts.met(variant), key=lambda name: facts.plans[name].against != variant)
        pairs += [[variant, name] for name in names[:1]]
    n = facts.study.cluster.regions
    parameters = facts.base | {"regions": n, "n_random": REGION_SETS, "seed": facts.study.choose.seed, "conditions": pairs}
    parameters |= {"trajectories": facts.study.record.trajectories, "prompts": facts.written(["target", "reference"])}
    needed = [node for pair in pairs for node in facts.needed(*pair)]
    recorded = [f"record:{variant}:{name}" for variant, name in [[BASE, "reference"], *pairs]]
    inputs = list(dict.fromkeys(["cluster", *recorded, *needed]))
    n_maps = len(pairs) * n * N_CLUSTERS
    return make.add("regions", "regions", parameters, inputs, passes=n_maps * len(facts.calls), bytes=n_maps * 10_000)


def _sets(make, facts):
    study, pairs, files = facts.study, conditions(facts), named_set_files.read(facts.study)
    parameters = {"sets": [[one.name, named_set_files.identity(study, one.name, files)] for one in study.sets], "conditions": pairs}
    parameters |= {"provenance": {name: one.provenance for name, one in files.items()}, "trajectories": study.record.trajectories}
    parameters |= {name: getattr(study.choose, name) for name in ("seed", "n_resamples", "n_random")}
    inputs = ["score", *(f"record:{variant}:{name}" for variant, name in pairs)]
    inputs += ["cluster"] if any("cluster" in named_set_files.inputs(study, one.name) for one in study.sets) else []
    return make.add("named_sets", "named_sets", parameters, inputs, bytes=20_000 * len(study.sets))


def _ablate(make, facts, before):
    study, part, added = facts.study, facts.study.ablate, []
    for mode in part.modes:
        own = part.of(mode)
        groups = own["groups"] or [name for name in ("target", "near", "far") if name in facts.rows]
        n_rows = facts.n_rows(own["units"])
        once = n_rows * (2 * facts.n_calls if mode == "images" else len(facts.calls) * SHARED)
        common = facts.base | {"mode": mode, "units": own["units"], "seed": [study.choose.seed, part.seed], "calls": part.calls}
        common |= {"target": part.target} if mode == "one_step" else {"images": facts.images, "looks": facts.looks}
        for effect in own["effects"]:
            if effect in ("necessity", "sufficiency"):
                added += _held(make, facts, mode, effect, common | {"n_random": own["n_held"]}, once * (own["n_held"] + 1))
                continue
            if effect == "sets":
                added += _named(make, facts, mode, common, groups, once)
                continue
            inputs = [f"generate:{BASE}:target", "score"]
            inputs += ["cluster"] if effect != "dose_response" else before if part.ranking == "attribution" else []
            jobs = {
                "dose_response": [[group, share] for group in groups for share in own["shares"]],
                "leave_one_out": [[group] for group in groups],
                "greedy": [["target"]],
                "shapley": [["target"]],
            }[effect]
            n_random = own["n_random"]
            if effect == "shapley":
                n_random = FEWEST_PARTITIONS if part.n_partitions is None else part.n_partitions
            sets = (n_random + 1) * _sets_of(effect, study.cluster)
            for kind in own["kinds"]:
                parameters = common | {"effect": effect, "kind": kind, "factor": part.factor if kind == "scaled" else None}
                parameters |= {"branch": part.branch, "n_random": n_random, "ranking": part.ranking, "jobs": jobs}
                parameters |= {"prompts": facts.written(["target", "reference", *groups])}
                ranges = tuple((place, place + 1) for place in range(len(jobs)))
                node_id, passes = f"ablate:{mode}:{effect}:{kind}", once * sets * len(jobs)
                added.append(make.add(node_id, "ablate", parameters, inputs, BASE, None, ranges, passes=passes, bytes=9000 * len(jobs)))
    return added


def _named(make, facts, mode, common, groups, once):
    """A node per set and kind, so that a set more computes only its own."""
    study, part, added = facts.study, facts.study.ablate, []
    own, files, jobs = part.of(mode), named_set_files.read(study), [[group] for group in groups]
    for one in study.sets:
        inputs = [f"generate:{BASE}:target", *named_set_files.inputs(study, one.name)]
        about = {"named": one.name, "identity": named_set_files.identity(study, one.name, files), "n_random": own["n_random"], "jobs": jobs}
        for kind in own["kinds"]:
            parameters = common | about | {"effect": "sets", "kind": kind, "factor": part.factor if kind == "scaled" else None}
            parameters |= {"branch": part.branch, "prompts": facts.written(["target", "reference", *groups])}
            ranges, passes = tuple((place, place + 1) for place in range(len(jobs))), once * (own["n_random"] + 1) * len(jobs)
            node_id, size = f"ablate:{mode}:sets:{kind}:{one.name}", 9000 * len(jobs)
            added.append(make.add(node_id, "ablate", parameters, inputs, BASE, None, ranges, passes=passes, bytes=size))
    return added


def _sets_of(effect, cluster):
    """How many sets an effect takes out, beside each random one; a guess where the number of clusters is open."""
    if effect == "dose_response":
        return 1
    n = cluster.k if isinstance(cluster.k, int) else min(N_CLUSTERS, cluster.k[1]) if cluster.k else N_CLUSTERS
    return coalitions.n_sets(n) if effect == "shapley" else N_CLUSTERS


def _held(make, facts, mode, effect, common, passes):
    """Necessity: the attacks made against a variant, or where there is none those made against none. Sufficiency: plain prompts."""
    added = []
    for variant in facts.study.ablate.variants or facts.plain:
        names = ["target"]
        if effect == "necessity":
            names = [name for name in facts.met(variant) if facts.plans[name].against == variant] or facts.met(variant)
        for name in names:
            parameters = common | {"effect": effect, "prompts": facts.written(["target", "reference"]), "set": name}
            inputs = [*facts.needed(variant, name), "score"]
            node_id = f"ablate:{mode}:{effect}:{variant}:{name}"
            added.append(make.add(node_id, "ablate", parameters, inputs, variant, name, passes=passes, bytes=9000))
    return added
