"""Concept Erasure Workbench: is a concept really gone from a text-to-image diffusion model?

From Python:  run = workbench.run(workbench.load_study("emoji-ink-style")); run.neurons; run.report("html")
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing has it, without importing it
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from workbench.execution.books import Watcher
    from workbench.execution.open_run import Run
    from workbench.lab import Lab
    from workbench.models.load import Model
    from workbench.study.study import Study

__version__ = "0.2.0"


def load_study(path: str | Path | Study) -> Study:
    """Read and check a study file, by path or by the name of a bundled study."""
    from workbench.study.study import load_study as load

    return load(path)


def run(
    study: str | Path | Study,
    out: str | Path | None = None,
    *,
    device: str = "cpu",
    model: Model | None = None,
    watcher: Watcher | None = None,
    command: str | None = None,
    others: Sequence[str | Path] = (),
    engine: str = "inline",
    workers: int | None = None,
    shard: str | None = None,
) -> Run:
    """Execute a study, or what is left of it; returns a `Run` with .neurons, .images, .activity and .report(format).

    study     a Study, or the path or bundled name of one;  out   the run folder, default runs/<name of the study>
    device    "cpu", "cuda", "cuda:0,cuda:1", "auto";  model   a base model that is loaded already
    engine    "inline": here, one after the other; "processes" or "ray": in `workers` workers; "auto"
    shard     "3/8" or "auto": one of several processes that compute this study in one folder
    watcher   a Watcher that is told what happens;  command   what the report names as the command that made it
    others    run folders whose results may be taken over
    """
    from workbench.execution.execute import run as execute

    return execute(
        study,
        out,
        device=device,
        model=model,
        watcher=watcher,
        command=command,
        others=others,
        engine=engine,
        workers=workers,
        shard=shard,
    )


def __getattr__(name: str) -> type[Lab]:
    """`workbench.Lab`, imported when it is first asked for: it needs torch."""
    if name == "Lab":
        from workbench.lab import Lab

        return Lab
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
