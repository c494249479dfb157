"""The stages of a run, one module each. A module of this folder is a stage with the name of the module. It has

VERSION                             to raise by hand when its code gives other results; part of every key
nodes(study, graph)                 the nodes it needs, as NodeSpec; `graph` knows the nodes of the stages before it
run(workspace, node, shard, out)    computes one shard into the folder `out`, from node.parameters, node.context and results of its inputs

and may have

rows(workspace, table)      {table of report.json: rows}, empty lists where the study does not ask; `table` is that of the neurons
columns(workspace)          {column of the neuron table: (neuron,)}
SECONDS                     what one node costs beside the UNet, for the estimate
READS_STUDY                 True for a stage whose parameters hold the whole study; all others get no study from the workspace

names     of all stages, in the order in which they are asked for their nodes
stage     what the module of a stage declares, with the defaults of what it may leave out
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

# a stage that is not listed is asked after these
ORDER: tuple[str, ...] = ("generate", "detect", "record", "score", "erase", "attack", "clip", "again")
ORDER += ("attribute", "conductance", "fidelity", "tokens", "cluster", "regions", "named_sets", "ablate")
LAST = ("measure", "report")


@cache
def names() -> tuple[str, ...]:
    """Names of all stages."""
    there = sorted(name for _, name, _ in pkgutil.iter_modules(__path__) if not name.startswith("_"))
    return (*ORDER, *(name for name in there if name not in ORDER + LAST), *LAST)


@dataclass(frozen=True)
class Stage:
    """A stage, as its module declares it."""

    version: int
    nodes: Callable[..., Any]
    run: Callable[..., None]
    rows: Callable[..., dict[str, Any]]
    columns: Callable[..., dict[str, Any]]
    seconds: float
    reads_study: bool


@cache
def stage(name: str) -> Stage:
    """The stage of that name."""
    module = importlib.import_module(f"{__name__}.{name}")
    return Stage(
        module.VERSION,
        module.nodes,
        module.run,
        getattr(module, "rows", lambda workspace, table: {}),
        getattr(module, "columns", lambda workspace: {}),
        getattr(module, "SECONDS", 0),
        getattr(module, "READS_STUDY", False),
    )
