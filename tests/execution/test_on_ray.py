"""The engine `ray` on a real Ray cluster of two nodes on this machine, of which one is killed in the middle of a run."""

import builtins
import os
import signal
import threading
import time

import pytest
import ray

import workbench
from tests.execution.test_engines import n_results, same
from workbench.execution.engines import on_ray
from workbench.execution.engines.on_ray import Actor


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two nodes of one CPU each."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")])))
        before = signal.getsignal(signal.SIGTERM)
        patch.setattr(builtins, "print", builtins.print)  # Ray puts its own in the place, and a handler of signals
        made = Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 1, "object_store_memory": 100 * 2**20})
        signal.signal(signal.SIGTERM, before)
        yield made
        ray.shutdown()
        made.shutdown()


def test_a_node_that_vanishes_costs_only_what_it_was_computing(cluster, quick, quick_file, tmp_path):
    node, folder = cluster.add_node(num_cpus=1), tmp_path / "run"
    cluster.wait_for_nodes()

    def vanish():
        while n_results(folder) < 6:
            time.sleep(0.05)
        cluster.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=vanish)
    killer.start()
    workbench.run(workbench.load_study(quick_file), folder, engine="ray", workers=2)
    killer.join()
    assert (folder / "run.log").read_text().count("A worker died while it computed") <= 1
    same(folder, quick)


def test_without_a_shared_file_system_results_travel_through_the_object_store(cluster, quick, quick_file, tmp_path, monkeypatch):
    class Elsewhere(Actor):
        """An actor that does not see the run folder."""

        def __init__(self, setup, token):
            super().__init__(setup, "not-there")

    monkeypatch.setattr(on_ray, "Actor", Elsewhere)
    folder = tmp_path / "run"
    workbench.run(workbench.load_study(quick_file), folder, engine="ray", workers=1)
    same(folder, quick)
