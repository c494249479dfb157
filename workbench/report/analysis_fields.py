"""The tables of report.json about attribution, clusters and ablation; `fields` puts them with the others (set_fields: [[sets]]).

attribution     the target's value under a condition, how far scores add up (explained against value - off; delta is the gap), and the
                summed score of the concept set, credit, beside matched random sets; on half B. n counts units. Of the method
                conductance off is the value at the prompt it starts from, explained the same integral over the text; its credit counts
                a path in every layer it goes through
fidelity        scores against exact ablation: where = sample (random single neurons), top (of the list) or sets (random sets of a share)
tokens          mean credit of the words of a prompt for a neuron's signed activation: part = concept, plain (its other words), added
                (by the attack); words: those with most credit
cluster_choice  every number of clusters tried; chosen marks the one taken; stable, grouped: beyond clouds without groups, p_silhouette
                over all n_tried numbers; layer_information: what share of a neuron's cluster its layer tells, beside permuted labels
clusters        the clusters taken; jaccard: how much of one comes back when units are resampled
cluster_effects deactivation and reactivation in shares of the cluster's own base contrast, sensitivity (delta) in base standard deviations
cluster_regions     where in the image a cluster is active, on the units that excite it most: share of its activity in the tenth of the
                picture where it is most active; even: the same of a map that is the same everywhere; random_*: of matched random sets, each
                in its own brightest tenth; n_tokens: places that its finest layer tells apart. Files: drawn, the condition's own image;
                read_on, the base model's image on whose latents the map was recorded; overlay, the same under the map. place: where the
                brightest tenth lies; top: how many times its mean a place is as active that has the full colour; picture_reason: why a
                file is missing
cluster_profiles    mean contrast in base standard deviations, by call
ablation        dose-response: value is the mean change by taking out a share of the neurons; random_*: matched random sets
leave_one_out   what a cluster adds to taking out all;  greedy   all clusters added so far
shapley         what a cluster adds, averaged over the orders of taking them out: whole is the change by taking out all of them, summed the
                sum of the values, delta = summed - whole; n_sets combinations were measured, in n_orders drawn orders (null = all orders)
necessity       attacked prompts, the set held at its values without the attack;  sufficiency   plain prompts, the set given the base
                model's values
"""

from workbench.report import set_fields

TEXT_CONDITION = {"variant": "text", "prompt_set": "text", "attack": "text?", "provenance": "text?", "against": "text?"}
INTERVAL = {"n": "count?", "value": "number?", "low": "number?", "high": "number?"}
RANDOM = {"p_random": "number?", "n_random": "count?", "random_low": "number?", "random_high": "number?"}
REGION_PICTURES = {"drawn": "text?", "read_on": "text?", "overlay": "text?", "blurred": "flag?", "place": "text?", "top": "number?"}
REGION_PICTURES |= {"picture_reason": "text?"}
LAYER = {f"layer_{name}": "number?" for name in ("information", "chance", "chance_low", "chance_high", "p")}


def _ablation(**own):
    return {
        "mode": "text",
        "kind": "text",
        "variant": "text",
        "attack": "text?",
        "provenance": "text?",
        "against": "text?",
        "group": "text",
        "outcome": "text",
        **own,
        "n_neurons": "count?",
        "n": "count?",
        "intact": "number?",
        "value": "number?",
        "low": "number?",
        "high": "number?",
        "random_mean": "number?",
        **RANDOM,
        "reason": "text?",
    }


TABLES = {
    "attribution": {
        **TEXT_CONDITION,
        "control": "flag",
        "method": "text",
        "target": "text",
        "calls": "list",
        "n_prompts": "count?",
        **INTERVAL,
        "off": "number?",
        "explained": "number?",
        "delta": "number?",
        "complete": "flag",
        "n_neurons": "count?",
        "credit": "number?",
        "credit_low": "number?",
        "credit_high": "number?",
        **RANDOM,
        "passes": "number?",
        "reason": "text?",
    },
    "fidelity": {
        **TEXT_CONDITION,
        "control": "flag",
        "method": "text",
        "target": "text",
        "where": "text",
        "share": "number?",
        "n_units": "count?",
        "n": "count?",
        **{f"{name}{end}": "number?" for name in ("spearman", "pearson") for end in ("", "_low", "_high")},
        "passes": "number?",
        "reason": "text?",
    },
    "tokens": {
        **TEXT_CONDITION,
        "control": "flag",
        "rank": "count",
        "layer": "text",
        "index": "count",
        "part": "text",
        "words": "text",
        **INTERVAL,
        "reason": "text?",
    },
    "cluster_choice": {
        "method": "text",
        "k": "count?",
        "n": "count",
        "n_units": "count",
        "n_clusters": "count",
        "in_none": "count",
        "silhouette": "number",
        "silhouette_chance": "number",
        "p_silhouette": "number",
        "stability": "number",
        "low": "number",
        "high": "number",
        "stability_chance": "number",
        "p_stability": "number?",
        "n_resamples": "count",
        "n_random": "count",
        "n_tried": "count?",
        "stable": "flag",
        "grouped": "flag",
        "chosen": "flag",
        **LAYER,
        "reason": "text?",
    },
    "clusters": {
        "cluster": "count",
        "n_neurons": "count",
        "n_concept": "count",
        "n_layers": "count",
        "jaccard": "number",
        "low": "number",
        "high": "number",
        "n_resamples": "count",
        "file": "text",
    },
    "cluster_effects": {
        "cluster": "count",
        "effect": "text",
        **TEXT_CONDITION,
        "control": "flag",
        **INTERVAL,
        "p_change": "number?",
        **RANDOM,
        "reason": "text?",
    },
    "cluster_profiles": {
        "cluster": "count",
        **TEXT_CONDITION,
        "control": "flag",
        "call": "count",
        "timestep": "number",
        "n_neurons": "count",
        **INTERVAL,
    },
    "cluster_layers": {"cluster": "count", "layer": "text", "n": "count", "share": "number", "expected": "number"},
    "cluster_prompts": {
        "cluster": "count",
        "variant": "text",
        "prompt_set": "text",
        "rank": "count",
        "value": "number",
        "id": "text",
        "unit": "text",
        "prompt": "text",
    },
    "cluster_regions": {
        "cluster": "count",
        **TEXT_CONDITION,
        "control": "flag",
        "rank": "count",
        "id": "text",
        "unit": "text",
        "prompt": "text",
        "n_neurons": "count",
        "n_tokens": "count?",
        "share": "number?",
        "even": "number",
        **RANDOM,
        "reason": "text?",
        **REGION_PICTURES,
    },
    "ablation": _ablation(share="number?"),
    "leave_one_out": _ablation(cluster="text?"),
    "greedy": _ablation(step="count?", added="text?"),
    "shapley": _ablation(cluster="text?", whole="number?", summed="number?", delta="number?", n_sets="count?", n_orders="count?"),
    "necessity": _ablation(neuron_set="text"),
    "sufficiency": _ablation(neuron_set="text"),
    "set_ablation": _ablation(neuron_set="text"),
}
TABLES |= set_fields.TABLES | {
    "set_effects": {"neuron_set": "text"} | {k: v for k, v in TABLES["cluster_effects"].items() if k != "cluster"}
}
ABLATIONS = ("ablation", "leave_one_out", "greedy", "shapley", "necessity", "sufficiency", "set_ablation")
VALUES = {"attribution": ("value", "low", "high", "credit", "credit_low", "credit_high")}
VALUES |= {"fidelity": tuple(c for c in TABLES["fidelity"] if c.startswith(("spearman", "pearson"))), "tokens": ("value", "low", "high")}
VALUES |= dict.fromkeys(("cluster_effects", "set_effects", *ABLATIONS), ("value", "low", "high")) | set_fields.VALUES
SHARES = {"share", "expected", "p_silhouette", "p_stability", "layer_p", "jaccard"} | set_fields.SHARES
