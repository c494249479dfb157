"""Names of methods -> their declaration. Lists every method without importing torch.

A method is one module in `workbench/methods/<kind>/` (or an entry point of the group `workbench.<kind>`). It declares
`Parameters` (a pydantic model; the help text of each field is its meaning) and one function named after the kind's verb.
Its first docstring line is its help. Heavy imports stand inside its functions.
"""

import importlib
import inspect
import pkgutil
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType

from workbench.errors import MethodError, nearest

VERBS = {"erasers": "erase", "attacks": "attack", "detectors": "load", "scores": "score"}


@dataclass(frozen=True)
class Method:
    """One registered method: its kind, name, first docstring line and module."""

    kind: str
    name: str
    help: str
    module: ModuleType

    @property
    def parameters(self):
        """The pydantic model of what can be set."""
        return self.module.Parameters

    @property
    def takes(self):
        """Names of the arguments of the method's one function: what it is given when the caller has it."""
        return set(inspect.signature(getattr(self.module, VERBS[self.kind])).parameters)

    def call(self, *args, **kwargs):
        """Run the method's one function."""
        return getattr(self.module, VERBS[self.kind])(*args, **kwargs)


@cache
def methods(kind):
    """{name: Method} of a kind, in alphabetical order.

    Raises   MethodError when two modules claim one name, or a module lacks its verb
    """
    if kind not in VERBS:
        raise MethodError(f'No kind of method is called "{kind}".{nearest(kind, VERBS)}')
    package = importlib.import_module(f"workbench.methods.{kind}")
    modules = {
        name: importlib.import_module(f"{package.__name__}.{name}")
        for _, name, _ in pkgutil.iter_modules(package.__path__)
        if not name.startswith("_")
    }
    for entry in entry_points(group=f"workbench.{kind}"):
        if entry.name in modules:
            raise MethodError(f'The entry point "{entry.value}" claims the name "{entry.name}", which is taken in {kind}.')
        modules[entry.name] = entry.load()
    found = {}
    for name, module in sorted(modules.items()):
        for needed in ("Parameters", VERBS[kind]):
            if not hasattr(module, needed):
                raise MethodError(f'{module.__name__} has no "{needed}", so it is no member of {kind}.')
        found[name] = Method(kind, name, (module.__doc__ or "").strip().splitlines()[0], module)
    return found


def method(kind, name):
    """The method of that name.

    Raises   MethodError that offers the nearest name
    """
    known = methods(kind)
    if name not in known:
        raise MethodError(f'No {kind[:-1]} is called "{name}".{nearest(name, known)}')
    return known[name]
