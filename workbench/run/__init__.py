"""Executing a study: plan, stages, run folder.

The package itself is callable, because both `workbench.run(study)` and the folder `workbench/run/` are promised names
(docs/decisions/0004-run-is-a-package-and-a-function.md).
"""

import sys
import types


class _Callable(types.ModuleType):
    def __call__(self, study, out=None, **options):
        """Execute a study, or what is left of it; returns a `Run` with .neurons, .images, .activity and .report(format)."""
        from workbench.run.runs import run

        return run(study, out, **options)


sys.modules[__name__].__class__ = _Callable
