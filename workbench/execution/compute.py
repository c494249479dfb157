"""One shard computed: what every engine does in every process.

compute        a task -> its result in the run folder
mend           damaged results aside, and those of other runs copied
drop_derived   what a damaged result that came back with other bytes does to the results made from it
"""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.execution import digests
from workbench.execution.run_folder import SET_ASIDE, Store
from workbench.memory import give_back_much

if TYPE_CHECKING:
    from workbench.execution.plan import Node, Plan, Shard
    from workbench.execution.schedule import Task
    from workbench.execution.workspace import Workspace


def compute(workspace: "Workspace", task: "Task") -> tuple[float, bool]:
    """Compute a task. Returns (seconds, whether results made from its earlier result were set aside: look at all results again)."""
    store, node = workspace.store, workspace.plan.node(task.node)
    shard, before, start = node.shards[task.place], store.n_set_aside, time.time()
    made = partial(drop_derived, workspace.plan, node, shard, store)
    with store.writing(node.stage, shard.key, made) as folder, store.naming_unreadable():
        workspace.run(node, shard, folder)
    give_back_much()
    return time.time() - start, store.n_set_aside > before


def drop_derived(plan: "Plan", node: "Node", shard: "Shard", store: Store, seal: digests.Seal) -> None:
    """Set aside the results made from a damaged result, when computing it again gave other bytes. See `Store`.

    seal   of the new result, which is not in its place yet: a run that is killed in between repeats this step
    """
    old = store.seal_of_set_aside(node.stage, shard.key)
    if old is None or digests.same(old, seal):
        return
    derived, aside = {node.id}, 0
    for other in plan.nodes:
        if derived & set(other.inputs):
            derived.add(other.id)
            for one in other.shards:
                if store.has(other.stage, one.key):
                    store.set_aside(other.stage, one.key)
                    aside += 1
    if aside:
        store.warn(
            f"The damaged result {node.stage}/{shard.key} was made again and is not the same as it was, so {aside} results that were "
            f"made from it were set aside too (in {store.folder / SET_ASIDE}) and are computed again."
        )


def mend(plan: "Plan", nodes: "Sequence[Node]", store: Store, others: Sequence[str | Path]) -> None:
    """Set the damaged results of these nodes aside, and copy from other runs the results that are undamaged."""
    for damage in store.mend(nodes):
        store.warn(str(damage))
    for node in nodes:
        for shard in node.shards:
            for other in map(Store, others):
                if store.has(node.stage, shard.key) or not other.has(node.stage, shard.key):
                    continue
                if not store.take(node.stage, shard.key, other, partial(drop_derived, plan, node, shard, store)):
                    store.warn(f"The result {node.stage}/{shard.key} of {other.folder} is damaged and was not taken from there.")
