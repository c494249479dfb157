"""The stages `fidelity` and `tokens`: do cheap scores say what happens when neurons are taken out, and which words drive a neuron?

fidelity    scores against exact ablation, of single neurons and of random sets, on a sample of half B
tokens      which words drive the neurons that carry most, by Neuron Integrated Gradients, clean beside adversarial
rows        {table: rows} of the report
"""

import numpy as np

from workbench.analysis import fidelity as checks
from workbench.analysis.tokens import drivers, word_vectors
from workbench.errors import StatisticsError
from workbench.execution.attribution_inputs import condition, layers, picked, rows_of
from workbench.execution.optional_nodes import PROBED_UNITS, SET_SHARE
from workbench.execution.rows.rates import labels
from workbench.execution.stages.attribute import leading
from workbench.models import text
from workbench.report.document import plain
from workbench.statistics import jackknife
from workbench.storage import read_json, write_json

TABLES = ("fidelity", "tokens")
PARTS = ("concept", "plain", "added")
LEADING_WORDS = 3


def fidelity(workspace, node, shard, folder):
    """rows.json: the rows of fidelity.one_by_one or by_sets, or one that says why there is none."""
    part, (job, size) = workspace.study.attribute, node.parameters["jobs"][shard.start]
    methods = {name: (name, {}) for name in part.methods}
    common = {"batch": workspace.study.sampling.batch, "seed": workspace.study.choose.seed}
    try:
        with condition(workspace, node.variant, node.prompt_set, rows_of(workspace, "b", PROBED_UNITS), part.calls, part.target) as (
            items,
            target,
        ):
            if job == "neurons":
                table = checks.one_by_one(workspace.model, layers(workspace), items, target, methods, *size, **common)
            else:
                table = checks.by_sets(workspace.model, layers(workspace), items, target, methods, SET_SHARE, size[0], **common)
        rows = table.rename(columns={"n_neurons": "n", "n_sets": "n"}).to_dict("records")
    except StatisticsError as error:
        rows = [{"method": ", ".join(methods), "target": part.target, "reason": str(error)}]
    write_json(folder / "rows.json", plain([{"where": "sets", **row} for row in rows]))


def tokens(workspace, node, shard, folder):
    """rows.json: for each neuron and part of the prompt the mean credit over units; kept neuron by neuron."""
    part, resuming = workspace.study.attribute, workspace._resuming(node, shard)
    first = np.nan_to_num(leading(workspace), nan=-np.inf)
    chosen = np.argsort(-first, kind="stable")[: part.tokens]
    at = rows_of(workspace, "b", PROBED_UNITS)
    prompts, plain_prompts, found = picked(workspace, node.prompt_set, at), picked(workspace, "target", at), []
    by_path = {layer.path: layer for layer in layers(workspace)}
    with condition(workspace, node.variant, node.prompt_set, at, part.calls, part.target) as (items, _):
        vectors, words = [], []
        for place, prompt in enumerate(prompts.prompts):
            prefix = None if prompts.prefix is None else prompts.prefix[place]
            vectors.append(word_vectors(workspace.model, prompt, prefix))
            words.append(_words(workspace, prompt, plain_prompts.prompts[place], 0 if prefix is None else len(prefix), len(vectors[-1])))
        for rank, position in enumerate(chosen, start=1):
            layer, index = (workspace.neurons[name].iloc[position] for name in ("layer", "index"))
            rows = resuming["kept"](f"neuron-{rank}")
            if rows is None:
                credit, _ = drivers(workspace.model, by_path[layer], int(index), items, vectors, batch=workspace.study.sampling.batch)
                rows = plain(_by_part(credit, words, items.units))
                resuming["keep"](f"neuron-{rank}", rows)
            found += [{"rank": rank, "layer": layer, "index": int(index), **row} for row in rows]
            workspace.progress(rank, len(chosen))
    write_json(folder / "rows.json", plain(found))


def _words(workspace, prompt, before, n_prefix, n):
    """[(word, part)] of a prompt: concept, plain (another word of the prompt before the attack), or added by it."""
    model = workspace.model
    concept = {one for name in workspace.study.concept.names for one in text.words(model, name)}
    there = set(text.words(model, before))
    rows = [(f"vector {place + 1}", "added") for place in range(n_prefix)]
    for one in text.words(model, prompt):
        part = "concept" if one in concept else "plain" if one in there else "added"
        rows.append((model.tokenizer.decode([one]).strip(), part))
    return rows[:n]


def _by_part(credit, words, units):
    """Rows part, n, value, low, high, words: credit summed over a part's words, averaged over calls, then over units."""
    named = credit.assign(
        word=[words[prompt][token][0] for prompt, token in zip(credit["prompt"], credit["token"], strict=True)],
        part=[words[prompt][token][1] for prompt, token in zip(credit["prompt"], credit["token"], strict=True)],
    )
    per_token = named.groupby(["prompt", "token", "word", "part"], as_index=False)["value"].mean()
    rows = []
    for part in PARTS:
        mine = per_token[per_token["part"] == part]
        if mine.empty:
            continue
        sums = mine.groupby("prompt")["value"].sum().reindex(range(len(units)), fill_value=0.0)
        one = jackknife(lambda mean: mean, units, sums.to_numpy())
        most = mine.groupby("word")["value"].mean().sort_values(key=lambda value: -value.abs(), kind="stable").index[:LEADING_WORDS]
        rows.append({"part": part, "n": one.n, "value": one.value, "low": one.low, "high": one.high, "words": ", ".join(most)})
    return rows


def rows(workspace):
    """{table: rows} of both stages."""
    found = {name: [] for name in TABLES}
    empty = dict.fromkeys(("share", "n_units", "n", "spearman", "pearson", "passes", "reason"))
    empty |= {f"{name}_{end}": None for name in ("spearman", "pearson") for end in ("low", "high")}
    for name in TABLES:
        for node in workspace.plan.of_stage(name):
            about = labels(workspace, node.variant, node.prompt_set)
            for shard in node.shards:
                for row in read_json(workspace.store.file(name, shard.key, "rows.json")):
                    found[name].append(about | (empty if name == "fidelity" else {"reason": None}) | row)
    return found
