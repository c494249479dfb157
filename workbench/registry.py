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

from pydantic import BaseModel

from workbench.errors import MethodError, first_line, nearest

_BROKEN = {}  # kind -> {name: why}, filled by `methods`
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
    """{name: Method} of a kind, in alphabetical order; without the entry points that are `broken`.

    Raises   MethodError for an unknown kind
    """
    if kind not in VERBS:
        raise MethodError(f'No kind of method is called "{kind}".{nearest(kind, VERBS)}')
    package = importlib.import_module(f"workbench.methods.{kind}")
    modules = {
        name: importlib.import_module(f"{package.__name__}.{name}")
        for _, name, _ in pkgutil.iter_modules(package.__path__)
        if not name.startswith("_")
    }
    found, why = {name: _method(kind, name, module) for name, module in sorted(modules.items())}, _BROKEN.setdefault(kind, {})
    why.clear()
    for entry in entry_points(group=f"workbench.{kind}"):
        where = f'its entry point "{entry.value}"'
        if entry.name in found:
            why[entry.name] = f"{where} claims a name that is taken in {kind}. Give it another name."
            continue
        try:
            found[entry.name] = _method(kind, entry.name, entry.load())
        except MethodError as error:
            why[entry.name] = f"{where}: {error}"
        except (Exception, SystemExit) as error:  # somebody else's code: whatever it raises, the other methods are there
            why[entry.name] = f"{where} raises {type(error).__name__}: {first_line(error)}. Correct it, or uninstall its package."
    return dict(sorted(found.items()))


def broken(kind):
    """{name: why} of the entry points of a kind that cannot be used: they raise, lack what a method needs, or claim a taken name."""
    methods(kind)
    return _BROKEN[kind]


def _method(kind, name, module):
    for needed in ("Parameters", VERBS[kind]):
        if not hasattr(module, needed):
            raise MethodError(f'{getattr(module, "__name__", module)} has no "{needed}", so it is no member of {kind}.')
    if not (isinstance(module.Parameters, type) and issubclass(module.Parameters, BaseModel)):
        raise MethodError(f"{module.__name__}.Parameters is no pydantic model, so nothing can be set.")
    return Method(kind, name, next(iter((module.__doc__ or "").strip().splitlines()), name), module)


def method(kind, name):
    """The method of that name.

    Raises   MethodError that offers the nearest name
    """
    known = methods(kind)
    if not isinstance(name, str) or name not in known:
        if isinstance(name, str) and name in broken(kind):
            raise MethodError(f'The {kind[:-1]} "{name}" cannot be used: {broken(kind)[name]}')
        raise MethodError(f'No {kind[:-1]} is called "{name}".{nearest(name, known)}{_own(kind)}')
    return known[name]


def _own(kind):
    """How to bring one's own method of a kind."""
    guide = " (docs/guides/own-detector.md)" if kind == "detectors" else ""
    return (
        f" One of your own is a module with `Parameters` and `{VERBS[kind]}`, found by an entry point of the group "
        f'"workbench.{kind}" in an installed package{guide}.'
    )
