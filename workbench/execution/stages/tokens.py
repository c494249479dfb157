"""The stage `tokens`: which words drive the leading neurons, by Neuron Integrated Gradients, without attack beside under attack."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas

from workbench.analysis.tokens import drivers, word_vectors
from workbench.execution.attribution_inputs import condition, layers, picked, rows_of
from workbench.execution.condition import Condition
from workbench.execution.graph import Graph, NodeSpec
from workbench.execution.plan import Node, Shard
from workbench.execution.rows import Row, Tables
from workbench.execution.stages.attribute import GRADIENT, attributed, leading
from workbench.execution.stages.fidelity import UNITS, probed
from workbench.execution.workspace import Workspace
from workbench.models import text
from workbench.models.load import Model
from workbench.statistics import jackknife
from workbench.storage import plain_json, read_json, write_json
from workbench.study.study import BASE, Study

VERSION = 1
STEPS = 16
PARTS = ("concept", "plain", "added")
LEADING_WORDS = 3


def nodes(study: Study, graph: Graph) -> Iterator[NodeSpec]:
    """tokens:<variant>:<prompt set> of every attributed condition."""
    part = study.attribute
    if not (part and part.tokens):
        return
    common, context = probed(study, part, graph)
    for variant, name in attributed(part, graph):
        parameters = common | {"tokens": part.tokens, "names": study.concept.names, "set": name}
        yield NodeSpec(
            Condition(variant, name).node("tokens"),
            "tokens",
            parameters | {"prompts": graph.written(["target", "reference", name])},
            (*graph.needed(variant, name), Condition(BASE, "target").node("attribute")),
            variant,
            name,
            context=context,
            passes=part.tokens * graph.n_rows(UNITS) * len(common["calls"]) * (STEPS * GRADIENT + 2),
            bytes=4000,
        )


def run(workspace: Workspace, node: Node, shard: Shard, out: Path) -> None:
    """rows.json: for each neuron and part of the prompt the mean credit over units; kept neuron by neuron."""
    given, resuming = node.parameters, workspace.resuming(node, shard)
    credit = leading(workspace)
    assert credit is not None, "the stage tokens reads attributions"
    first = np.nan_to_num(credit, nan=-np.inf)
    chosen = np.argsort(-first, kind="stable")[: given["tokens"]]
    at = rows_of(workspace, "b", given["units"])
    prompts, without, found = picked(workspace, node.condition.prompt_set, at), picked(workspace, "target", at), []
    by_path = {layer.path: layer for layer in layers(workspace)}
    with condition(workspace, *node.condition, at, node.context["calls"], given["target"]) as (items, _):
        vectors, words = [], []
        for place, prompt in enumerate(prompts.prompts):
            prefix = None if prompts.prefix is None else prompts.prefix[place]
            vectors.append(word_vectors(workspace.model, prompt, prefix))
            n_prefix = 0 if prefix is None else len(prefix)
            words.append(_words(workspace.model, given["names"], prompt, without.prompts[place], n_prefix, len(vectors[-1])))
        for rank, position in enumerate(chosen, start=1):
            layer, index = (workspace.neurons[name].iloc[position] for name in ("layer", "index"))
            rows = resuming["kept"](f"neuron-{rank}")
            if rows is None:
                credit, _ = drivers(workspace.model, by_path[layer], int(index), items, vectors, batch=workspace.batch)
                rows = plain_json(_by_part(credit, words, items.units))
                resuming["keep"](f"neuron-{rank}", rows)
            found += [{"rank": rank, "layer": layer, "index": int(index), **row} for row in rows]
            workspace.progress(rank, len(chosen))
    write_json(out / "rows.json", plain_json(found))


def _words(model: Model, names: Sequence[str], prompt: str, before: str, n_prefix: int, n: int) -> list[tuple[str, str]]:
    """[(word, part)] of a prompt: concept, plain (another word of the prompt before the attack), or added by it."""
    concept = {one for name in names for one in text.words(model, name)}
    there = set(text.words(model, before))
    rows = [(f"vector {place + 1}", "added") for place in range(n_prefix)]
    for one in text.words(model, prompt):
        part = "concept" if one in concept else "plain" if one in there else "added"
        rows.append((model.tokenizer.decode([one]).strip(), part))
    return rows[:n]


def _by_part(credit: pandas.DataFrame, words: list[list[tuple[str, str]]], units: Sequence[str]) -> list[Row]:
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


def rows(workspace: Workspace, table: pandas.DataFrame) -> Tables:
    """{"tokens": rows} of report.json."""
    found = []
    for node in workspace.plan.of_stage("tokens"):
        about = node.condition.keys(workspace) | {"reason": None}
        found += [about | row for row in read_json(workspace.result(node.id) / "rows.json")]
    return {"tokens": found}
