"""What an experiment began on one machine is taken on another."""

import pytest

from experiments import begun
from tests.tiny_study import written
from workbench.execution import execute
from workbench.study.study import load_study


@pytest.fixture
def rooms(finished, tiny_folder, tmp_path):
    """(the workspace of a finished run, one of the same study in an empty folder)."""
    study = load_study(written(tmp_path, tiny_folder))
    return execute.prepare(study, finished.folder)[1], execute.prepare(study, tmp_path / "elsewhere")[1]


def results(workspace):
    """{(stage, key)} of the erased variants and attacks that are there."""
    found = {(node.stage, shard.key) for node in workspace.plan.nodes if node.stage in begun.STAGES for shard in node.shards}
    return {one for one in found if workspace.store.has(*one)}


def test_erased_variants_and_attacks_are_taken_and_not_made_again(rooms, tmp_path, monkeypatch):
    here, elsewhere = rooms
    there = results(here)
    assert begun.folders("tiny", tmp_path) == []
    assert begun.keep(here, "tiny", tmp_path) == len(there) > 2 and begun.keep(here, "tiny", tmp_path) == 0
    nodes = [node for node in elsewhere.plan.nodes if node.stage != "report"]
    monkeypatch.setattr(execute, "drive", lambda *given: None)  # nothing is computed
    execute.run_nodes(elsewhere, nodes)
    assert not results(elsewhere)
    execute.run_nodes(elsewhere, nodes, others=begun.folders("tiny", tmp_path))
    assert results(elsewhere) == there and not any(elsewhere.store.fault(*one) for one in there)
    begun.ended("tiny", tmp_path)
    assert begun.folders("tiny", tmp_path) == []


def test_what_is_large_is_made_again(rooms, tmp_path, monkeypatch):
    monkeypatch.setattr(begun, "MOST_BYTES", 10)
    assert begun.keep(rooms[0], "tiny", tmp_path) == 0 and begun.folders("tiny", tmp_path) == []
