"""Which shard is computed next: of those whose inputs are there, the one with the most work behind it in a row.

Task       one shard of a node
Schedule   what is there, what is ready, what is being computed
simulate   the time that a number of workers takes for a plan, on a clock that is only counted
"""

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class ShardLike(Protocol):
    """What a schedule needs of a shard."""

    @property
    def key(self) -> str:
        """The key of its result."""


class NodeLike(Protocol):
    """What a schedule needs of a node."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def stage(self) -> str:
        """Its stage."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Ids of the nodes it reads."""

    @property
    def shards(self) -> Sequence[ShardLike]:
        """Its shards."""


N = TypeVar("N", bound=NodeLike)


@dataclass(frozen=True)
class Task:
    """Shard number `place` of a node."""

    node: str
    place: int
    stage: str
    key: str

    @property
    def claim(self) -> str:
        """The name of its claim."""
        return f"{self.stage}.{self.key}"


class Schedule(Generic[N]):
    """The missing shards of some nodes, in the order in which they should be computed.

    A node is settled when all its shards are there and all its inputs are settled; the shards of a node are ready when all its inputs
    are settled. So a result whose input is computed again is not read before that input is there.

    nodes    in an order that respects their inputs; inputs that are not among them count as there
    there    (stage, key) -> whether that result is there
    cost     {node id: what one of its shards costs}, in any unit; None: in the order of the nodes
    mine     task -> whether it belongs to the share of this process, which is computed first
    """

    def __init__(
        self,
        nodes: Sequence[N],
        there: Callable[[str, str], bool],
        cost: Mapping[str, float] | None = None,
        mine: Callable[[Task], bool] = lambda task: True,
    ) -> None:
        self.nodes = {node.id: node for node in nodes}
        self._there, self._cost, self._mine = there, cost, mine
        self._readers: dict[str, list[str]] = {name: [] for name in self.nodes}
        for node in nodes:
            for name in set(node.inputs):
                if name in self.nodes:
                    self._readers[name].append(node.id)
        self._rank = self._ranks(nodes)
        self._place = {node.id: place for place, node in enumerate(nodes)}
        # nodes that ask for the same are computed once: {(stage, key): shards that have it}
        self._same: dict[tuple[str, str], list[tuple[str, int]]] = {}
        for node in nodes:
            for place, shard in enumerate(node.shards):
                self._same.setdefault((node.stage, shard.key), []).append((node.id, place))
        self._computing: set[tuple[str, str]] = set()
        self.running: set[Task] = set()
        self.refresh()

    def _ranks(self, nodes: Sequence[N]) -> dict[str, float]:
        """{node id: cost of the longest way from the beginning of one of its shards to the end of the plan}."""
        if self._cost is None:
            return {node.id: 0.0 for node in nodes}
        rank: dict[str, float] = {}
        for node in reversed(nodes):
            rank[node.id] = self._cost.get(node.id, 0.0) + max((rank[name] for name in self._readers[node.id]), default=0.0)
        return rank

    def refresh(self) -> None:
        """Look at the results again: others may have computed some, and damaged ones may be gone. What is being computed stays so."""
        self._missing: dict[str, set[int]] = {}
        self._waits: dict[str, int] = {}
        self._ready: list[tuple[bool, float, int, int, Task]] = []
        settled: set[str] = set()
        for name, node in self.nodes.items():
            self._missing[name] = {place for place, shard in enumerate(node.shards) if not self._there(node.stage, shard.key)}
            self._waits[name] = sum(one in self.nodes and one not in settled for one in set(node.inputs))
            if not self._waits[name]:
                if not self._missing[name]:
                    settled.add(name)
                self._offer(name)
        self._settled = settled
        self._n_left = sum(map(len, self._missing.values()))

    def _offer(self, name: str) -> None:
        node = self.nodes[name]
        for place in sorted(self._missing[name]):
            task = Task(name, place, node.stage, node.shards[place].key)
            if task not in self.running:
                self._push(task)

    def _push(self, task: Task) -> None:
        entry = (not self._mine(task), -self._rank[task.node], self._place[task.node], task.place, task)
        heapq.heappush(self._ready, entry)

    @property
    def left(self) -> bool:
        """Whether any shard is missing."""
        return self._n_left > 0

    def n_missing(self, name: str) -> int:
        """How many shards of a node are missing."""
        return len(self._missing[name])

    def next(self, may: Callable[[Task], bool] = lambda task: True) -> Task | None:
        """The next task, which counts as running from now on; None when none is ready.

        may   asked before a task is given out; those for which it says no stay ready
        """
        refused, found = [], None
        while self._ready and found is None:
            entry = heapq.heappop(self._ready)
            if entry[-1].place not in self._missing[entry[-1].node]:
                continue
            if (entry[-1].stage, entry[-1].key) not in self._computing and may(entry[-1]):
                found = entry[-1]
            else:
                refused.append(entry)
        for entry in refused:
            heapq.heappush(self._ready, entry)
        if found:
            self.running.add(found)
            self._computing.add((found.stage, found.key))
        return found

    def finished(self, task: Task) -> list[str]:
        """A task's result is there. Returns the ids of the nodes that are complete by this."""
        self.running.discard(task)
        self._computing.discard((task.stage, task.key))
        found = []
        for name, place in self._same[task.stage, task.key]:
            self._n_left -= place in self._missing[name]
            self._missing[name].discard(place)
            found += self._settle(name)
        return found

    def _settle(self, name: str) -> list[str]:
        if self._missing[name] or self._waits[name] or name in self._settled:
            return []
        self._settled.add(name)
        found = [name]
        for reader in self._readers[name]:
            self._waits[reader] -= 1
            if not self._waits[reader]:
                self._offer(reader)
                found += self._settle(reader)
        return found

    def again(self, task: Task) -> None:
        """A task was given up and is ready again."""
        self.running.discard(task)
        self._computing.discard((task.stage, task.key))
        self._push(task)


def simulate(
    nodes: Sequence[NodeLike],
    cost: Mapping[str, float],
    workers: int,
    there: Callable[[str, str], bool] = lambda stage, key: False,
) -> tuple[float, float]:
    """(time that `workers` take, time that they compute in sum) for the shards that are not there, in the unit of the cost."""
    schedule = Schedule(nodes, there, cost)
    now, busy, count = 0.0, 0.0, 0
    running: list[tuple[float, int, Task]] = []
    while True:
        while len(running) < workers and (task := schedule.next()):
            heapq.heappush(running, (now + cost.get(task.node, 0.0), count, task))
            busy, count = busy + cost.get(task.node, 0.0), count + 1
        if not running:
            return now, busy
        now, _, task = heapq.heappop(running)
        schedule.finished(task)
