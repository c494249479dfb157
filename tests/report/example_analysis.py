"""Invented tables of the example report about attribution, clusters and ablation."""

from tests.report.example_tables import NOT_RUN

HOSTILE = '<script>alert(1)</script> a red heart, "quoted" | piped'
PLAIN = {"attack": None, "provenance": None, "against": None}
ATTACKED = {"attack": "unlearndiffatk", "provenance": "optimised", "against": "esd"}
RANDOM = {"p_random": 0.005, "n_random": 199, "random_low": -0.04, "random_high": 0.05}
NO_NUMBERS = dict.fromkeys(("n", "value", "low", "high", *RANDOM))


def attribution():
    rows = []
    for variant, prompt_set, made, value in (
        ("base", "target", PLAIN, 1.0),
        ("esd", "target", PLAIN, 0.21),
        ("esd", "adversarial", ATTACKED, 0.66),
    ):
        row = {"variant": variant, "prompt_set": prompt_set, **made, "control": False, "method": "gradient", "target": "T2 J_lin"}
        row |= {"calls": [4, 9, 14], "n_prompts": 60, "n": 60, "value": value, "low": value - 0.05, "high": value + 0.05}
        row |= {"off": 0.02, "explained": value * 0.8, "delta": -0.1, "complete": False, "n_neurons": 160}
        row |= {"credit": value * 0.4, "credit_low": value * 0.3, "credit_high": value * 0.5, **RANDOM, "passes": 7.0, "reason": None}
        rows.append(row)
    return rows


def fidelity():
    row = {"variant": "base", "prompt_set": "target", **PLAIN, "control": False, "method": "gradient", "target": "T2 J_lin"}
    numbers = {"spearman": 0.94, "spearman_low": 0.9, "spearman_high": 0.97, "pearson": 0.88, "pearson_low": 0.8, "pearson_high": 0.93}
    rows = [row | numbers | {"where": "sample", "share": None, "n_units": 8, "n": 200, "passes": 2.0, "reason": None}]
    nothing = dict.fromkeys((*numbers, "share", "n_units", "n", "passes"))
    return [*rows, row | nothing | {"where": "sets", "reason": "a correlation is undefined: " + NOT_RUN}]


def tokens():
    row = {"variant": "esd", "prompt_set": "adversarial", **ATTACKED, "control": False, "rank": 1, "index": 17, "reason": None}
    row |= {"layer": "mid_block.attentions.0.transformer_blocks.0.ff.net.2", "n": 8, "low": 0.01, "high": 0.05}
    return [row | {"part": "concept", "words": "heart", "value": 0.02}, row | {"part": "added", "words": "vector 1", "value": 0.04}]


def cluster_choice():
    row = {"method": "kmeans", "n": 700, "n_units": 60, "in_none": 0, "silhouette": 0.31, "silhouette_chance": 0.12}
    row |= {"p_silhouette": 0.05, "stability_chance": 0.4, "n_resamples": 20, "n_random": 19, "grouped": True}
    row |= {"p_stability": 0.05, "n_tried": 2}
    none = dict.fromkeys(f"layer_{name}" for name in ("information", "chance", "chance_low", "chance_high", "p"))
    layer = {"layer_information": 0.21, "layer_chance": 0.02, "layer_chance_low": 0.01, "layer_chance_high": 0.03, "layer_p": 0.005}
    taken = {"k": 2, "n_clusters": 2, "stability": 0.81, "low": 0.7, "high": 0.9, "stable": True, "chosen": True, "reason": None}
    other = {"k": 3, "n_clusters": 3, "stability": 0.42, "low": 0.3, "high": 0.6, "stable": False, "chosen": False}
    return [row | layer | taken, row | none | other | {"reason": "the clusters do not recur when units are resampled"}]


def clusters():
    row = {"n_layers": 4, "low": 0.7, "high": 0.95, "n_resamples": 20}
    return [
        row | {"cluster": n, "n_neurons": 400 - 100 * n, "n_concept": 80, "jaccard": 0.85, "file": f"neuron-sets/cluster-{n}.safetensors"}
        for n in (0, 1)
    ]


def cluster_effects():
    rows = []
    for number in (0, 1):
        found = {"n": 60, "value": 0.7 - 0.3 * number, "low": 0.6 - 0.3 * number, "high": 0.8 - 0.3 * number, "reason": None}
        erased = {"cluster": number, "variant": "esd", "prompt_set": "target", **PLAIN, "control": False}
        attacked = erased | ATTACKED | {"prompt_set": "adversarial"}
        rows.append({"effect": "deactivation", **erased, **RANDOM, **found})
        rows.append({"effect": "reactivation", **attacked, **RANDOM, **found})
        rows.append({"effect": "sensitivity", **attacked, **dict.fromkeys(RANDOM), **found})
    rows.append({"effect": "deactivation", **erased, **NO_NUMBERS, "variant": "uce", "reason": "no scale: " + NOT_RUN})
    return rows


def cluster_profiles():
    rows = []
    for number in (0, 1):
        for variant, prompt_set, made in (("base", "target", PLAIN), ("esd", "target", PLAIN), ("esd", "adversarial", ATTACKED)):
            for call in (4, 9, 14):
                value = 2.0 - 0.1 * call - number
                row = {"cluster": number, "variant": variant, "prompt_set": prompt_set, **made, "control": False, "call": call}
                row |= {"timestep": 950.0 - 50 * call, "n": 60, "n_neurons": 300, "value": value, "low": value - 0.2, "high": value + 0.2}
                rows.append(row)
    return rows


def cluster_layers():
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2"
    return [{"cluster": number, "layer": layer, "n": 100, "share": 0.3, "expected": 0.25} for number in (0, 1)]


def cluster_prompts():
    row = {"variant": "base", "prompt_set": "target", "rank": 1, "value": 3.1, "id": "7", "unit": "heart-noto", "prompt": "a red heart"}
    return [row | {"cluster": number} for number in (0, 1)]


def cluster_regions():
    row = {"rank": 1, "id": "7", "unit": "heart-noto", "prompt": HOSTILE, "control": False, "n_neurons": 300, "n_tokens": 256}
    row |= {"even": 0.1, "reason": None, "blurred": True, "top": 3.2, "place": "upper left", "picture_reason": None, "drawn": None}
    row |= {"read_on": "images/region-base.webp", "overlay": "images/region-0.webp"}
    plain = row | {"variant": "base", "prompt_set": "target", **PLAIN, "share": 0.31, **RANDOM, "random_low": 0.1, "random_high": 0.2}
    attacked = row | {"variant": "esd", "prompt_set": "adversarial", **ATTACKED, "share": 0.2, **dict.fromkeys(RANDOM)}
    attacked |= {"drawn": "images/region-esd.webp", "overlay": "images/region-1.webp", "reason": "too few other neurons: " + NOT_RUN}
    silent = attacked | {"share": None, "n_tokens": None, "reason": "every neuron is 0", "picture_reason": "every neuron is 0"}
    silent |= dict.fromkeys(("drawn", "read_on", "overlay", "blurred", "top", "place"))
    return [plain | {"cluster": 0}, attacked | {"cluster": 1}, silent | {"cluster": 1, "rank": 2}]


def _ablations(**own):
    row = {"mode": "one_step", "kind": "zero", "variant": "base", **PLAIN, "n_neurons": 28, "n": 60, "random_mean": 0.0, **RANDOM}
    row |= {"reason": None, **own}
    rows = []
    for group, outcome, intact, value in (("target", "T2 J_lin", 1.0, -0.4), ("near", "T2 J_lin over the empty prompt", 1.0, -0.05)):
        rows.append(row | {"group": group, "outcome": outcome, "intact": intact, "value": value, "low": value - 0.1, "high": value + 0.1})
    empty = NO_NUMBERS | dict.fromkeys(("n_neurons", "intact", "random_mean"))
    return [*rows, row | {"group": "far", "outcome": "any"} | empty | {"reason": "too few other neurons: " + NOT_RUN}]


def ablation():
    return [*_ablations(share=0.01), *_ablations(share=0.04)]


def leave_one_out():
    return _ablations(cluster="cluster 0")


def greedy():
    return _ablations(step=1, added="cluster 1")


def shapley():
    found = {"whole": -0.7, "summed": -0.7, "delta": 0.0, "n_sets": 3, "n_orders": None}
    target, _, missing = _ablations(cluster="cluster 0")
    return [
        target | found,
        target | found | {"cluster": "cluster 1", "value": -0.3, "low": -0.4, "high": -0.2},
        missing | dict.fromkeys(found),
    ]


def necessity():
    return _ablations(neuron_set="concept", kind="held", variant="esd", **ATTACKED)


def sufficiency():
    return _ablations(neuron_set="concept", kind="held", variant="esd", mode="images")


def set_ablation():
    return _ablations(neuron_set="church-neurons")


def sets():
    said = {
        "made": "concept set of the site ff by contrast",
        "study": "emoji-church",
        "concept": "church",
        "score": "contrast",
        "half": "a",
    }
    said |= {"date": "2026-11-25", "digest": "ab" * 32, "file": "neuron-sets/church-neurons.safetensors"}
    row = {"neuron_set": "church-neurons", "how": "file", "of": [], **said, "n_neurons": 160, "n_layers": 4, "n_seen": 3, "reason": None}
    empty = dict.fromkeys(said) | {"neuron_set": "both", "how": "intersection", "of": ["concept", "church-neurons"]}
    return [row, empty | {"n_neurons": None, "n_layers": None, "n_seen": None, "reason": "no cluster-3 was found: " + NOT_RUN}]


def set_layers():
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2"
    return [{"neuron_set": "church-neurons", "layer": layer, "n": 100, "share": 0.3, "expected": 0.25, "n_concept": 20}]


def set_overlaps():
    row = {"n_first": 160, "n_second": 160, "both": 40, "iou": 0.143, "chance": 0.021, "chance_low": 0.01, "chance_high": 0.03}
    row |= {"p_random": 0.001, "n_random": 999, "reason": None}
    other = row | dict.fromkeys(("chance", "chance_low", "chance_high", "p_random", "n_random")) | {"reason": "one is made of the other"}
    return [row | {"first": "concept", "second": "church-neurons"}, other | {"first": "church-neurons", "second": "both"}]


def set_effects():
    rows = []
    for row in cluster_effects():
        own = {name: value for name, value in row.items() if name != "cluster"}
        rows.append(own | {"neuron_set": ("church-neurons", "both")[row["cluster"]]})
    return rows
