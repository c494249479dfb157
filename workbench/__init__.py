"""Concept Erasure Workbench: is a concept really gone from a text-to-image diffusion model?

From Python:  run = workbench.run(workbench.load_study("emoji-ink-style")); run.neurons; run.report("html")
"""

from workbench import run as run

__version__ = "0.1.0"


def load_study(path):
    """Read and check a study file, by path or by the name of a bundled study."""
    from workbench.study.study import load_study as load

    return load(path)
