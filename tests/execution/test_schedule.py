"""The schedule: what is ready when, what comes first, and how long many workers take on a clock that is only counted."""

import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import RunError
from workbench.execution.drive import MOST_LOST, Hears, drive
from workbench.execution.engines import Finished, Lost
from workbench.execution.schedule import Schedule, Task, simulate


@dataclass(frozen=True)
class Piece:
    key: str


@dataclass(frozen=True)
class Thing:
    id: str
    inputs: tuple = ()
    n: int = 1
    stage: str = "made"
    passes: float = 1.0

    @property
    def shards(self):
        return [Piece(f"{self.id}-{place}") for place in range(self.n)]


class Twin(Thing):
    """A node with the key of the node `one`."""

    @property
    def shards(self):
        return [Piece("one-0")]


def planned(seed, n, most=6):
    """Nodes that each read a few earlier ones, and what a shard of each costs."""
    rng = random.Random(seed)
    nodes = []
    for number in range(n):
        names = [one.id for one in nodes[-40:]]
        inputs = tuple(rng.sample(names, min(len(names), rng.randrange(3))))
        nodes.append(Thing(f"n{number}", inputs, rng.randrange(1, most)))
    return nodes, {one.id: rng.uniform(0.5, 20.0) for one in nodes}


def longest_way(nodes, cost):
    """The slow reference: the longest way through the plan, from its end."""
    ends = {}
    for node in nodes:
        ends[node.id] = cost[node.id] + max((ends[name] for name in node.inputs), default=0.0)
    return max(ends.values())


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 40), workers=st.integers(1, 9))
def test_every_shard_is_computed_once_and_after_its_inputs(seed, n, workers):
    nodes, cost = planned(seed, n)
    by_id, rng = {one.id: one for one in nodes}, random.Random(seed)
    there, running = set(), []
    schedule = Schedule(nodes, lambda stage, key: key in there, cost)
    while schedule.left:
        while len(running) < workers and (task := schedule.next()):
            node = by_id[task.node]
            assert task.key not in there and task not in running
            assert all(piece.key in there for name in node.inputs for piece in by_id[name].shards)
            running.append(task)
        task = running.pop(rng.randrange(len(running)))
        if rng.random() < 0.2:
            schedule.again(task)
            continue
        there.add(task.key)
        schedule.finished(task)
        if rng.random() < 0.2:
            schedule.refresh()
    assert there == {piece.key for node in nodes for piece in node.shards}


def test_one_worker_keeps_the_order_of_the_nodes_and_several_begin_with_what_has_most_behind_it():
    nodes = [Thing("first"), Thing("second"), Thing("long", ("second",)), Thing("end", ("first", "long"))]
    in_order = Schedule(nodes, lambda stage, key: False)
    assert in_order.next().node == "first"
    behind = Schedule(nodes, lambda stage, key: False, {"first": 5.0, "second": 1.0, "long": 9.0, "end": 1.0})
    assert behind.next().node == "second"
    own = Schedule(nodes, lambda stage, key: False, {}, mine=lambda task: task.node == "second")
    assert [own.next().node, own.next().node] == ["second", "first"]


def test_a_node_waits_for_an_input_of_its_input_that_is_computed_again():
    nodes = [Thing("images"), Thing("recorded", ("images",)), Thing("score", ("recorded",))]
    schedule = Schedule(nodes, lambda stage, key: key == "recorded-0")
    task = schedule.next()
    assert task.node == "images" and schedule.next() is None
    assert schedule.finished(task) == ["images", "recorded"] and schedule.next().node == "score"


@pytest.mark.parametrize("workers", [2, 16, 1000])
def test_many_workers_take_little_longer_than_the_longest_way_or_their_share(workers):
    for seed in range(3):
        nodes, cost = planned(seed, 3000)
        took, busy = simulate(nodes, cost, workers)
        assert busy == pytest.approx(sum(cost[node.id] * node.n for node in nodes))
        assert max(longest_way(nodes, cost), busy / workers) <= took + 1e-6
        assert took <= 1.1 * max(longest_way(nodes, cost), busy / workers)


class Counted:
    """An engine on which what it is given is done at once, or whose worker dies."""

    name, slots = "counted", 3

    def __init__(self, dying=()):
        self.dying, self.waiting, self.done, self.is_open = dying, [], [], False

    def open(self, workspace, tell):
        self.tell, self.is_open = tell, True

    def submit(self, task):
        assert len(self.waiting) < self.slots
        self.waiting.append(task)

    def wait(self, seconds):
        task = self.waiting.pop(0)
        if task.node in self.dying:
            self.tell(Lost(task, "killed"))
        else:
            self.done.append(task)
            self.tell(Finished(task, 1.0))

    def close(self):
        self.is_open = False


class Room:
    """What `drive` needs of a workspace."""

    class store:
        said = []

        @classmethod
        def warn(cls, sentence):
            cls.said.append(sentence)

        @staticmethod
        def remove_half_written(stage, key):
            pass


def test_a_task_whose_worker_dies_is_computed_again_and_given_up_at_the_third_time():
    nodes = [Thing("good"), Thing("bad"), Thing("behind", ("bad",))]
    engine = Counted(dying=("bad",))
    with pytest.raises(RunError, match=f"bad was given up: {MOST_LOST + 1} workers died .*killed"):
        drive(Room, Schedule(nodes, lambda stage, key: False), engine)
    assert [task.node for task in engine.done] == ["good"] and not engine.is_open
    assert len(Room.store.said) == MOST_LOST


def test_passes_are_counted_as_they_are_done():
    nodes, _ = planned(0, 50)
    total, heard, complete = sum(one.passes for one in nodes), [], []
    hears = Hears(shard=lambda node, task, done, said, seconds: heard.append((done, said)), complete=lambda node: complete.append(node.id))
    drive(Room, Schedule(nodes, lambda stage, key: False), Counted(), hears)
    done = [one for one, _ in heard]
    assert done == sorted(done) and done[-1] == pytest.approx(total) and len(heard) == sum(one.n for one in nodes)
    assert sorted(complete) == sorted(one.id for one in nodes)
    last = [said for _, said in heard if said.startswith("2/2")]
    assert last and all(said == "2/2 1.0 s" for said in last)


def test_nodes_that_ask_for_the_same_are_computed_once():
    nodes = [Thing("one"), Twin("other"), Thing("behind", ("other",))]
    schedule = Schedule(nodes, lambda stage, key: False, {})
    task = schedule.next()
    assert schedule.next() is None  # the other one is the same, which is being computed
    assert sorted(schedule.finished(task)) == ["one", "other"] and schedule.next().node == "behind"
    engine = Counted()
    drive(Room, Schedule(nodes, lambda stage, key: False), engine)
    assert [task.node for task in engine.done] == ["one", "behind"]


def test_a_task_names_its_claim():
    assert Task("generate:base:target", 0, "generate", "0f" * 12).claim == f"generate.{'0f' * 12}"
