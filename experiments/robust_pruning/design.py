"""What `robust_pruning.py` asks: the search's candidates, the mask that was frozen, comparators, attacks, the order of the work, and the
map of where else a mask might work."""

from experiments.attack_table.run import CONCEPTS
from workbench.study.parts import RETAINED
from workbench.study.study import BASE, Study, load_study

DEVELOPMENT, TESTED = "weapon", ("ink", "church")
N, N_SEARCH, N_QUICK = 100, 40, 8
SEEDS = (0, 1, 2)
STEPS = 160
SOUGHT = {"style": 0.3, "object": 0.4, "group": 0.4}
RETENTION = 0.03

# where the search starts. Half of the concept's neurons are left alone by a mask, so that they say what it does elsewhere; None: no
# such rule
START = {"iterations": STEPS, "eta": 0.4, "steps": 10, "share": 0.02, "spare": "watch"}
# one setting changed at a time
CANDIDATES = {
    "plain": {},
    "not-spared": {"spare": None},
    "share-5": {"share": 0.05},
    "share-10": {"share": 0.1},
    "neurons": {"unit": "neuron", "share": 0.05},
    "attention": {"layers": ["feeds", "reads", "attention"]},
    "attention-only": {"layers": ["attention"], "share": 0.1},
    "stronger": {"eta": 1.0},
    "anchor": {"objective": "ac"},
    "adversarial": {"adversarial_steps": 2},
    "adversarial-5": {"adversarial_steps": 2, "share": 0.05, "layers": ["feeds", "reads", "attention"]},
    "adversarial-attention": {"adversarial_steps": 2, "share": 0.1, "layers": ["attention"]},
    "adversarial-kept": {"adversarial_steps": 2, "share": 0.1, "layers": ["attention"], "retention": 4.0, "retained_batch": 2},
}
FROZEN = "adversarial-kept"
MASK = START | CANDIDATES[FROZEN]
SPARE = MASK.pop("spare")
# attacks that never query a detector: whatever they end with is judged
ATTACKS = {
    "pgd": {"method": "embedding_pgd", "iterations": 40},
    "inversion": {"method": "concept_inversion", "iterations": 200},
    "uda": {"method": "unlearn_diff_atk", "timesteps": 10, "iterations": 6},
}
# concept inversion learns a vector for each half of the prompts: other prompts do not tell how another would do, only other runs do
REPEATS = {"inversion": ("inversion", "inversion-2", "inversion-3")}
AGAIN = REPEATS["inversion"][1:]
ATTACKS |= {name: ATTACKS["inversion"] | {"seed": seed} for seed, name in enumerate(AGAIN, 1)}
EVERYWHERE = ("pgd", "inversion")
SEARCHED_WITH = {"pgd": ATTACKS["pgd"], "inversion": {"method": "concept_inversion", "iterations": 100}}
SENSITIVITY_UNDER = "pgd"
# the family a mask was trained against says nothing about it
IN_THE_LOOP = [name for name, given in ATTACKS.items() if MASK.get("adversarial_steps") and given["method"] == "embedding_pgd"]
CORE = ("erased", "longer", "masked-0")
COMPARATORS = ("erased", "longer", "twice", "eta", "random", "smallest")
PEERS = ("without-loop", "without-loop-1", "without-loop-2")  # seeds of the mask
NOT_ATTACKED = ("revived", "relearned")
RELEARN = (10, 20, 40)
ALL_LAYERS = {"layers": ["feeds", "reads", "attention"]}
SPARED = {"spare": SPARE} if SPARE else {}
# the map: where else might a mask work? Looked at on the tested concepts after the test, so it is no test. What changes in the frozen
# mask, and over which eraser; no attack is in the loop, so that the one that searches each prompt by itself is scored on all
WITHOUT_LOOP = {"adversarial_steps": 0}
DIRECTIONS = {
    PEERS[0]: ("erased", {}),
    "share-30": ("erased", {"share": 0.3}),
    "feeds-and-reads": ("erased", {"layers": ["feeds", "reads"]}),
    "everywhere": ("erased", ALL_LAYERS),
    "neurons": ("erased", {"layers": ["feeds", "reads"], "unit": "neuron"}),
    "anchor": ("erased", {"objective": "ac"}),
    "anchor-1": ("erased", {"objective": "ac", "seed": 1}),
    "anchor-2": ("erased", {"objective": "ac", "seed": 2}),
    "over-eta": ("eta", {}),
    "over-twice": ("twice", {}),
}
# the direction that cut most with one mask; further seeds of it were asked for after that was known
SEEDS_OF_THE_MAP = {"anchor, three seeds": ("anchor", "anchor-1", "anchor-2")}
RANDOM_OF_THE_MAP = {"random-30": "share-30"}
MAPPED_WITH = {"pgd": ATTACKS["pgd"]}


def masks_over(parent, mask, seeds, spare):
    """The learned masks of these seeds over a variant."""
    about = {"method": "learned_mask", "parent": parent, "role": "pruned"} | ({"spare": spare} if spare else {})
    return [{"name": f"masked-{seed}", **about, "parameters": mask | {"seed": seed}} for seed in seeds]


def tested_variants(esd, mask, seeds=SEEDS):
    """What is compared: erased, longer, masks (learned, random, magnitude), stronger erasers, peers (masks learned without an attack in
    the loop, so that embedding PGD can be scored against them), and what the stress tests start from."""
    more = lambda name, **changes: {"name": name, "method": "esd", "parameters": esd | changes}  # noqa: E731
    pruned = {"parent": "erased", "role": "pruned", "like": "masked-0", "parameters": ALL_LAYERS} | SPARED
    found = [more("erased"), more("longer", iterations=mask["iterations"]) | {"parent": "erased"}]
    found += masks_over("erased", mask, seeds, SPARE)
    found += [more("twice", iterations=2 * esd["iterations"]), more("eta", eta=2.5 * esd["eta"])]
    found += [{"name": "random", "method": "random_mask", **pruned}, {"name": "smallest", "method": "magnitude", **pruned}]
    if mask.get("adversarial_steps"):
        alike = masks_over("erased", mask | {"adversarial_steps": 0}, seeds, SPARE)
        found += [one | {"name": name} for one, name in zip(alike, PEERS, strict=False)]
    found += [{"name": f"revived-{seed}", "method": "revive", "parent": f"masked-{seed}"} for seed in seeds]
    for parent in ("erased", "masked-0"):
        short = parent.removesuffix("-0")
        found += [
            {"name": f"relearned-{short}-{k}", "method": "relearn", "parent": parent, "parameters": {"iterations": k}} for k in RELEARN
        ]
    return found


def mapped_variants(esd, mask):
    """The erasers, each direction's mask over one of them, and random masks as large as the larger ones."""
    tested = tested_variants(esd, mask)
    found = [one for one in tested if one["name"] in {parent for parent, _ in DIRECTIONS.values()}]
    for name, (parent, changes) in DIRECTIONS.items():
        settings = mask | WITHOUT_LOOP | changes
        found.append(masks_over(parent, settings, [settings.get("seed", 0)], SPARE)[0] | {"name": name})
    at_random = {"method": "random_mask", "parent": "erased", "role": "pruned", "parameters": ALL_LAYERS} | SPARED
    return found + [{"name": name, "like": like, **at_random} for name, like in RANDOM_OF_THE_MAP.items()]


def study_of(concept, variants, n, attacks=ATTACKS, shorter=1):
    """The bundled study of a concept with these variants, each attacked as the module says; lengths `shorter` times shorter."""
    demo = load_study(CONCEPTS[concept])
    data = demo.model_dump(mode="json", exclude_none=True)
    open_to_attack = [v["name"] for v in variants if not v["name"].startswith(NOT_ATTACKED)]
    parts = []
    for label, given in attacks.items():
        parameters = {key: max(1, value // shorter) if key in ("iterations", "timesteps") else value for key, value in given.items()}
        compared = (*CORE, *COMPARATORS, *(f"masked-{seed}" for seed in SEEDS)) if label in AGAIN else CORE
        against = [name for name in open_to_attack if label in EVERYWHERE or name in compared]
        parts.append({"method": parameters.pop("method"), "name": label, "against": against, "parameters": parameters | {"looks": 0}})
    for variant in variants:
        if shorter > 1 and "iterations" in variant.get("parameters", {}):
            variant["parameters"] = variant["parameters"] | {"iterations": max(1, variant["parameters"]["iterations"] // shorter)}
    data |= {"name": f"robust-pruning-{concept}", "title": f"Does pruning keep {concept} erased?", "variants": variants, "attacks": parts}
    data["prompts"] |= {"limit": n, "units": "column", "retain": f"prompts/emoji-{concept}-retain.csv"}
    data["record"] = {"sites": ["ff", "update"], "trajectories": ["reference"], "calls": [1, 4, 7]}
    if {"erased", "masked-0"} <= {part["name"] for part in variants}:
        data["ablate"] = {"effects": ["necessity", "sufficiency"], "variants": ["erased", "masked-0"], "units": 8}
    return Study(**data).beside(demo)


def picked(workspace, due=None):
    """The nodes the tables read, what says most first (as `due` says, or `turn`): each attack's images for the variant it was made
    against alone, controls for the core variants; what is retained of every variant that attacks are made against."""
    asked, due = [], due or turn
    for node in workspace.plan.nodes:
        planned = workspace.plan.sets.get(node.prompt_set)
        attack = planned.attack if planned else None
        own = attack is None or planned.against == node.variant
        if node.stage in ("generate", "detect"):
            mine = own and (attack is None or not planned.control or (node.variant in CORE and attack not in AGAIN))
            needed = node.prompt_set not in RETAINED or not node.variant.startswith(NOT_ATTACKED)
            wanted = mine and needed and (node.prompt_set != "reference" or node.variant == BASE)
        elif node.stage == "record":
            wanted = node.prompt_set in ("target", "reference") or (own and attack == SENSITIVITY_UNDER)
        else:
            wanted = node.stage == "again" or (node.stage == "ablate" and attack in (None, SENSITIVITY_UNDER))
        if wanted:
            asked.append((due(node, attack), node))
    found = {}

    def add(node):
        for name in node.inputs:
            if name not in found:
                add(workspace.plan.node(name))
        found[node.id] = node

    for _, node in sorted(asked, key=lambda one: one[0]):
        add(node)
    return list(found.values())


def turn(node, attack):
    """When a node is due: 0 the masks beside no pruning and more training, 1 the other comparators, 2 further runs of attacks that
    need them, 3 masks that no attack was in the loop of, 4 other peers and stress, 5 the attack that sensitivity is read under,
    6 the attacks on core variants alone. What a node needs comes before it."""
    if attack in AGAIN:
        return 2
    if node.stage in ("generate", "detect") and node.variant in PEERS:
        return 3
    if attack == SENSITIVITY_UNDER and node.stage in ("generate", "detect") and node.variant in COMPARATORS:
        return 3
    if node.stage in ("record", "ablate") or attack == SENSITIVITY_UNDER:
        return 5
    if attack is not None and attack not in EVERYWHERE:
        return 6
    if node.variant in (BASE, *CORE) or node.variant.startswith("masked"):
        return 0
    return 1 if node.variant in COMPARATORS else 4


def turn_of_map(node, attack):
    """One variant after the other; recordings last."""
    names = [BASE, *CORE, *(parent for parent, _ in DIRECTIONS.values()), *DIRECTIONS, *RANDOM_OF_THE_MAP]
    return node.stage == "record", names.index(node.variant)


def candidate(name):
    """The variant of the search that this name stands for."""
    settings = START | CANDIDATES[name]
    return masks_over("erased", settings, [0], settings.pop("spare"))[0] | {"name": name}
