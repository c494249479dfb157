"""Stages are modules of one folder: what each must have, that none reads the study behind its key, and that a new one is one file."""

import pkgutil
import sys

import pytest

import workbench
from workbench.errors import PlanError
from workbench.execution import execute, stages
from workbench.execution import plan as planning
from workbench.storage import read_json

NEW = '''"""The stage `counted`: how many prompts a set has."""

from workbench.execution.graph import NodeSpec
from workbench.storage import write_json

VERSION = 1


def nodes(study, graph):
    """counted."""
    yield NodeSpec("counted", "counted", {"rows": graph.rows["target"]})


def run(workspace, node, shard, out):
    """counted.json."""
    write_json(out / "counted.json", {"n": len(node.parameters["rows"])%s})


def columns(workspace):
    """{counted: (neuron,)}."""
    return {"counted": [1.0] * len(workspace.neurons)}
'''


@pytest.fixture
def with_stage(tmp_path, monkeypatch):
    """with_stage(source): put a stage `counted` of one file beside the others."""

    def put(source):
        (tmp_path / "counted.py").write_text(source)
        monkeypatch.setattr(stages, "__path__", [*stages.__path__, str(tmp_path)])
        forget()

    def forget():
        stages.names.cache_clear()
        stages.stage.cache_clear()
        sys.modules.pop("workbench.execution.stages.counted", None)

    yield put
    monkeypatch.undo()
    forget()


def test_every_stage_is_a_module_with_its_version_nodes_and_run():
    there = {name for _, name, _ in pkgutil.iter_modules(stages.__path__)}
    assert set(stages.names()) == there == {*stages.ORDER, *stages.LAST}
    for name in stages.names():
        stage = stages.stage(name)
        assert stage.version >= 1 and callable(stage.nodes) and callable(stage.run), name


def test_a_new_stage_is_one_file_and_what_it_finds_is_measured(with_stage, study_file):
    with_stage(NEW % "")
    plan = planning.build(workbench.load_study(study_file), "model", 10)
    assert plan.nodes.index(plan.node("counted")) < plan.nodes.index(plan.node("measure")) and "counted" in plan.node("measure").inputs
    without = [key for node in planning.build(workbench.load_study(study_file), "model", 10).nodes for key in node.inputs]
    assert without.count("counted") == 1


def test_a_new_stage_is_computed(with_stage, study_file, tmp_path):
    with_stage(NEW % "")
    plan, workspace = execute.prepare(study_file, tmp_path / "run")
    execute.run_nodes(workspace, [plan.node("counted")])
    assert read_json(workspace.result("counted") / "counted.json") == {"n": len(workspace.prompt_set("target"))}


def test_a_stage_that_reads_the_study_behind_its_key_is_refused(with_stage, study_file, tmp_path):
    with_stage(NEW % ', "seed": workspace.study.choose.seed')
    plan, workspace = execute.prepare(study_file, tmp_path / "run")
    with pytest.raises(PlanError, match="counted reads the study"):
        execute.run_nodes(workspace, [plan.node("counted")])
    assert workspace.study.choose.seed == 0


def test_a_node_that_is_not_in_the_plan_is_named_with_the_nearest(study_file):
    plan = planning.build(workbench.load_study(study_file), "model", 10)
    with pytest.raises(PlanError, match='no node "record:bse:target".*Did you mean "record:base:target"'):
        plan.node("record:bse:target")
