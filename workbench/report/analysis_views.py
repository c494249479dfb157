"""The tables a reader sees of attribution, clusters and ablation."""

from workbench.report import wording
from workbench.report.ablation_figures import GROUPS, MODES, outcome, which
from workbench.report.views import view
from workbench.report.wording import integer, number

EFFECTS = {"deactivation": "deactivation", "reactivation": "reactivation", "sensitivity": "sensitivity δ (base standard deviations)"}


METHODS = {"conductance": "conductance (adds up over the text)"}


def attribution(document):
    """The target's value and the concept set's credit in every condition."""
    rows = wording.arranged(document["attribution"], wording.variant_names(document))
    return view(
        "Attribution: value of the target, and what goes through the concept neurons",
        (
            "Variant",
            "Prompts",
            "How made",
            "Method",
            "Target",
            "Units",
            "Value of the target",
            "95 % interval",
            "All gates off, or the start",
        )
        + ("Scores add up to", "Gap", "Credit of the concept neurons", "95 % interval", "Random sets", "Number of sets", "p")
        + ("UNet passes", "If missing, why"),
        [
            (
                row["variant"],
                wording.condition(row),
                wording.provenance(row),
                METHODS.get(row["method"], row["method"]),
                row["target"],
                integer(row["n"]),
                number(row["value"], 3),
                wording.span(row["low"], row["high"]),
                number(row["off"], 3),
                number(row["explained"], 3),
                number(row["delta"], 3),
                number(row["credit"], 3),
                wording.span(row["credit_low"], row["credit_high"], lambda value: number(value, 3)),
                wording.span(row["random_low"], row["random_high"], lambda value: number(value, 3)),
                integer(row["n_random"]),
                wording.p_value(row["p_random"]),
                number(row["passes"], 1),
                row["reason"],
            )
            for row in rows
        ],
        numeric=range(5, 17),
    )


def top_attributed(neurons, limit=20):
    """The neurons with the largest attribution on half A; its value on half B beside it; None when nothing was attributed."""
    ranked = [neuron for neuron in neurons if neuron.get("attribution") is not None]
    if not ranked:
        return None
    ranked.sort(key=lambda n: (-n["attribution"], str(n["layer"]), n["index"]))
    return view(
        f"Top {min(limit, len(ranked))} of {integer(len(ranked))} neurons by attribution on the half that chooses",
        ("Layer", "Neuron", "Attribution, half A", "Half B", "95 % interval, half B", "Score, half A", "In the concept set", "Cluster"),
        [
            (
                neuron["layer"],
                neuron["index"],
                number(neuron["attribution"], 4),
                number(neuron.get("attribution_b"), 4),
                wording.span(neuron.get("attribution_b_low"), neuron.get("attribution_b_high"), lambda value: number(value, 4)),
                number(neuron.get("score")),
                "yes" if neuron.get("in_concept") else "",
                None if neuron.get("cluster") is None or neuron["cluster"] < 0 else f"{neuron['cluster']:.0f}",
            )
            for neuron in ranked[:limit]
        ],
        numeric=(1, 2, 3, 4, 5),
    )


def fidelity(document):
    """Scores against what happens when neurons are really taken out."""
    where = {"sample": "single neurons, a random sample", "top": "single neurons, the top of the list", "sets": "random sets"}

    def cell(row, name):
        value, span = row[name], wording.span(row[f"{name}_low"], row[f"{name}_high"])
        return None if value is None else f"{number(value)} ({span})"

    return view(
        "Fidelity: do the scores say what happens when neurons are really taken out? Correlations with 95 % intervals",
        (
            "Method",
            "Target",
            "Against",
            "Share in each set",
            "Units",
            "Neurons or sets",
            "Spearman",
            "Pearson",
            "UNet passes",
            "If missing, why",
        ),
        [
            (
                row["method"],
                row["target"],
                where.get(row["where"], row["where"]),
                wording.percent(row["share"]) if row["share"] is not None else None,
                integer(row["n_units"]),
                integer(row["n"]),
                cell(row, "spearman"),
                cell(row, "pearson"),
                number(row["passes"], 1),
                row["reason"],
            )
            for row in document["fidelity"]
        ],
        numeric=(3, 4, 5, 6, 7, 8),
    )


PARTS = {"concept": "words of the concept", "plain": "other words of the prompt", "added": "added by the attack"}


def tokens(document):
    """Which words drive the leading neurons, clean beside adversarial."""
    rows = wording.arranged(document["tokens"], wording.variant_names(document))
    rows.sort(key=lambda row: row["rank"])
    return view(
        "Which words drive the neurons that carry most: mean credit for the neuron's signed activation",
        (
            "Rank",
            "Layer",
            "Neuron",
            "Variant",
            "Prompts",
            "How made",
            "Part of the prompt",
            "Most of it",
            "Units",
            "Credit",
            "95 % interval",
        )
        + ("If missing, why",),
        [
            (
                row["rank"],
                row["layer"],
                row["index"],
                row["variant"],
                wording.condition(row),
                wording.provenance(row),
                PARTS.get(row["part"], row["part"]),
                row["words"],
                integer(row["n"]),
                number(row["value"], 4),
                wording.span(row["low"], row["high"], lambda value: number(value, 4)),
                row["reason"],
            )
            for row in rows
        ],
        numeric=(0, 2, 8, 9, 10),
    )


def cluster_choice(document):
    """Every number of clusters tried, and how sure it is."""
    return view(
        "How many clusters, and how sure: do they come back when units are resampled, are they groups at all, are they just layers?",
        (
            "Method",
            "Clusters",
            "Taken",
            "Neurons",
            "In none",
            "Stability (adjusted Rand)",
            "95 % of the resamples",
            "In clouds without groups",
        )
        + (
            "p",
            "Silhouette",
            "In clouds without groups",
            "p over all numbers tried",
            "Told by the layer",
            "Layers permuted",
            "p",
            "Caveat",
        ),
        [
            (
                row["method"],
                row["n_clusters"],
                "yes" if row["chosen"] else "",
                integer(row["n"]),
                integer(row["in_none"]),
                number(row["stability"]),
                wording.span(row["low"], row["high"]),
                number(row["stability_chance"]),
                wording.p_value(row["p_stability"]),
                number(row["silhouette"]),
                number(row["silhouette_chance"]),
                wording.p_value(row["p_silhouette"]),
                number(row["layer_information"]),
                wording.span(row["layer_chance_low"], row["layer_chance_high"]),
                wording.p_value(row["layer_p"]),
                row["reason"],
            )
            for row in document["cluster_choice"]
        ],
        numeric=(1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14),
    )


def clusters(document):
    """Size and stability of each cluster, and the file that holds it."""
    return view(
        "The clusters",
        ("Cluster", "Neurons", "Of the concept set", "Layers", "Comes back (Jaccard)", "95 % of the resamples", "Resamples", "Neuron set"),
        [
            (
                row["cluster"],
                integer(row["n_neurons"]),
                integer(row["n_concept"]),
                row["n_layers"],
                number(row["jaccard"]),
                wording.span(row["low"], row["high"]),
                row["n_resamples"],
                row["file"],
            )
            for row in document["clusters"]
        ],
        numeric=(1, 2, 3, 4, 5, 6),
    )


def cluster_effects(document):
    """D, R and delta of each cluster."""
    rows = wording.arranged(document["cluster_effects"], wording.variant_names(document))
    rows.sort(key=lambda row: row["cluster"])
    return effects_of("What erasing and attacks do to each cluster, on the other half of the units", "Cluster", "cluster", rows)


def effects_of(title, head, key, rows):
    """D, R and delta of groups of neurons, each named in the column `key` of its rows under the heading `head`."""
    return view(
        title,
        (head, "Effect", "Variant", "Attack", "How made", "Units", "Value", "95 % interval", "Random sets", "Number of sets")
        + ("p among random sets", "If missing, why"),
        [
            (
                row[key],
                EFFECTS.get(row["effect"], row["effect"]),
                row["variant"],
                row["attack"],
                wording.provenance(row),
                integer(row["n"]),
                number(row["value"]),
                wording.span(row["low"], row["high"]),
                wording.span(row["random_low"], row["random_high"]),
                integer(row["n_random"]),
                wording.p_value(row["p_random"]),
                row["reason"],
            )
            for row in rows
        ],
        numeric=(5, 6, 7, 8, 9, 10),
    )


def cluster_layers(document):
    """In which layers each cluster's neurons are."""
    return view(
        "Where the neurons of each cluster are",
        ("Cluster", "Layer", "Neurons", "Share of the cluster", "Share of all clustered"),
        [
            (row["cluster"], row["layer"], integer(row["n"]), wording.percent(row["share"]), wording.percent(row["expected"]))
            for row in document["cluster_layers"]
            if row["n"]
        ],
        numeric=(2, 3, 4),
    )


def cluster_prompts(document):
    """The prompts that excite each cluster most in the base model."""
    return view(
        "The prompts that excite each cluster most in the base model, in its standard deviations",
        ("Cluster", "Prompts", "Rank", "Prompt", "Unit", "Contrast"),
        [
            (
                row["cluster"],
                wording.PROMPTS.get(row["prompt_set"], row["prompt_set"]),
                row["rank"],
                row["prompt"],
                row["unit"],
                number(row["value"]),
            )
            for row in document["cluster_prompts"]
        ],
        numeric=(2, 5),
    )


def cluster_regions(document):
    """Where in the image each cluster is active, on the units that excite it most."""
    rows = wording.arranged(document["cluster_regions"], wording.variant_names(document))
    rows.sort(key=lambda row: row["cluster"])
    return view(
        "How far the activity of each cluster gathers in one region of the image, on the units that excite it most",
        ("Cluster", "Variant", "Prompts", "How made", "Rank", "Prompt", "Unit", "Neurons", "Places", "In its brightest tenth")
        + ("Evenly spread", "Random sets", "Number of sets", "p", "If missing, why"),
        [
            (
                row["cluster"],
                row["variant"],
                wording.condition(row),
                wording.provenance(row),
                row["rank"],
                row["prompt"],
                row["unit"],
                integer(row["n_neurons"]),
                integer(row["n_tokens"]),
                wording.percent(row["share"]) if row["share"] is not None else None,
                wording.percent(row["even"]),
                wording.span(row["random_low"], row["random_high"], wording.percent),
                integer(row["n_random"]),
                wording.p_value(row["p_random"]),
                row["reason"],
            )
            for row in rows
        ],
        numeric=(4, *range(7, 14)),
    )


ABLATIONS = {
    "ablation": (
        "Dose and response: the highest ranked neurons taken out",
        "Share of the neurons",
        lambda row: wording.percent(row["share"]),
    ),
    "leave_one_out": ("What each cluster adds to taking out all", "Cluster", which),
    "greedy": ("Which clusters to take out first: order from one half of these units, numbers from the other", "Added", which),
    "shapley": ("Shapley values: how the change by taking out all clusters falls to each of them", "Cluster", which),
    "necessity": ("Necessity: attacked prompts, the concept neurons held at their values without the attack", "Variant and attack", which),
    "sufficiency": ("Sufficiency: plain prompts, the concept neurons given their values in the base model", "Variant", which),
    "set_ablation": ("Named sets, each taken out of the base model", "Set", which),
}
SHAPLEY = {
    "All taken out": lambda row: number(row["whole"], 3),
    "Values add up to": lambda row: number(row["summed"], 3),
    "Gap": lambda row: number(row["delta"], 3),
    "Combinations": lambda row: integer(row["n_sets"]),
    "Orders": lambda row: "all" if row["n_sets"] and row["n_orders"] is None else integer(row["n_orders"]),
}


def ablation(document, table):
    """One of the tables ABLATIONS."""
    title, what, words = ABLATIONS[table]
    more = SHAPLEY if table == "shapley" else {}
    return view(
        title,
        (what, "How made", "Measured", "Prompts", "Outcome", "What is put there", "Neurons", "Units", "Intact", "Change")
        + ("95 % interval", "Random sets", "Number of sets", "p", *more, "If missing, why"),
        [
            (
                words(row),
                wording.provenance(row),
                MODES.get(row["mode"], row["mode"]),
                GROUPS.get(row["group"], row["group"]),
                outcome(row),
                row["kind"],
                integer(row["n_neurons"]),
                integer(row["n"]),
                number(row["intact"], 3),
                number(row["value"], 3),
                wording.span(row["low"], row["high"], lambda value: number(value, 3)),
                wording.span(row["random_low"], row["random_high"], lambda value: number(value, 3)),
                integer(row["n_random"]),
                wording.p_value(row["p_random"]),
                *(form(row) for form in more.values()),
                row["reason"],
            )
            for row in document[table]
        ],
        numeric=range(6, 14 + len(more)),
    )
