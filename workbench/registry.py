"""Names of methods -> their declaration. Lists every method without importing torch.

A method is one module in `workbench/methods/<kind>/` (or an entry point of the group `workbench.<kind>`). It declares
`Parameters` (a pydantic model; the help text of each field is its meaning) and one function named after the kind's verb.
Its first docstring line is its help. Heavy imports stand inside its functions. `workbench/methods/contract.py` says what each kind of
module must and may declare; here a declaration is checked once, when the module is found, and read through `Method`, which knows the
defaults.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from workbench.errors import MethodError, first_line, nearest

_BROKEN: dict[str, dict[str, str]] = {}  # kind -> {name: why}, filled by `methods`
VERBS = {"erasers": "erase", "attacks": "attack", "detectors": "load", "scores": "score"}
SIDES = ("prompt", "anchor")  # of an erasing pair
QUANTITIES = {  # what a score may read of activations
    "mean_abs": "mean over tokens of |a|",
    "norm": "sqrt of the sum over tokens of a^2",
    "row_norm": "the same after each token's activations are brought to length 1",
}


@dataclass(frozen=True)
class Constant:
    """A constant that a module may declare: how it must look, in words and as a test, and what counts without it."""

    must_be: str
    fits: Callable[[Any], bool]
    default: Any = None
    needed: bool = False


@dataclass(frozen=True)
class Function:
    """A function that a module may declare, by its positional arguments."""

    arguments: tuple[str, ...]
    needed: bool = False


def _is_words(value: Any) -> bool:
    return isinstance(value, str) and value == value.strip() != "" and not value.endswith("\n")


def _names_of(*possible: str) -> Constant:
    fits = lambda value: isinstance(value, tuple) and set(value) <= {*possible}  # noqa: E731
    return Constant(f"a tuple of any of {', '.join(possible)}", fits, ())


DEFENCES = ("guidance", "transform", "corrector")

_FLAG = Constant("True or False", lambda value: isinstance(value, bool), False)
_VERSION = Constant("a whole number, at least 1", lambda value: type(value) is int and value >= 1, 1)
_CITATIONS = Constant(
    "a tuple of keys of workbench/methods/citations.bib or of BibTeX entries",
    lambda value: isinstance(value, tuple) and all(map(_is_words, value)),
    (),
)
_FILES = Function(("parameters", "folder"))
_CHECK = Function(("parameters", "model"))
_PASSES = Function(("parameters", "n", "passes_per_image"))
_SCORE_NEEDS = ("target", "reference", "erased", *QUANTITIES, "calls", "weights")

DECLARATIONS: dict[str, dict[str, Constant | Function]] = {
    "erasers": {
        "CITATIONS": _CITATIONS,
        "MASK": _FLAG,
        "NEEDS": _names_of("neurons"),
        "OVER_OTHER_PARENTS": _FLAG,
        "DEFENDS": Constant(f"one of {', '.join(DEFENCES)}", lambda value: value in DEFENCES),
        "FURTHER_BRANCH": _FLAG,
        "VERSION": _VERSION,
        "PUBLISHED": Constant("a Published of workbench.study.published", lambda value: hasattr(value, "settings")),
        "NO_PRESET": Constant("a sentence", _is_words, "it states no published values."),
        "learns_from": Function(("parameters",)),
        "lifts_masks": Function(("parameters",)),
        "check": _CHECK,
        "check_training": Function(("parameters", "pairs")),
        "files": _FILES,
        "passes": _PASSES,
    },
    "attacks": {
        "CITATIONS": _CITATIONS,
        "OPTIMISED": Constant("True or False", lambda value: isinstance(value, bool), needed=True),
        "SHARED": _FLAG,
        "GRADIENT": _FLAG,
        "VERSION": _VERSION,
        "PUBLISHED": Constant("{parameter: value}", lambda value: isinstance(value, dict)),
        "control": Function(("model", "targets", "adversarial", "parameters", "context"), needed=True),
        "made_against": Function(("parameters", "folder")),
        "check": _CHECK,
        "check_targets": Function(("parameters", "targets", "names")),
        "files": _FILES,
        "passes": _PASSES,
    },
    "detectors": {
        "CITATIONS": _CITATIONS,
        "REMEMBERED": Constant("True or False", lambda value: isinstance(value, bool), True),
    },
    "scores": {
        "CITATIONS": _CITATIONS,
        "NEEDS": Constant(
            f"a tuple of any of {', '.join(_SCORE_NEEDS)}",
            lambda value: isinstance(value, tuple) and "target" in value and set(value) <= {*_SCORE_NEEDS},
            needed=True,
        ),
        "UNIT": Constant("what its values count, in words", lambda value: _is_words(value) and not value.endswith("."), needed=True),
        "NEUTRAL": Constant("a number", lambda value: isinstance(value, int | float) and not isinstance(value, bool), 0.0),
        "VERSION": _VERSION,
        "unit": Function(("parameters",)),
    },
}


@dataclass(frozen=True)
class Method:
    """One registered method: its kind, name, first docstring line and module, and what the module declares."""

    kind: str
    name: str
    help: str
    module: ModuleType

    @property
    def parameters(self) -> type[BaseModel]:
        """The pydantic model of what can be set."""
        return self.module.Parameters

    @property
    def takes(self) -> set[str]:
        """Names of the arguments of the method's one function: what it is given when the caller has it."""
        return set(inspect.signature(getattr(self.module, VERBS[self.kind])).parameters)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Run the method's one function."""
        return getattr(self.module, VERBS[self.kind])(*args, **kwargs)

    def _constant(self, name: str) -> Any:
        declared = DECLARATIONS[self.kind].get(name)
        return getattr(self.module, name, declared.default) if isinstance(declared, Constant) else None

    def _call(self, name: str, *arguments: Any, otherwise: Any = None) -> Any:
        function = getattr(self.module, name, None) if name in DECLARATIONS[self.kind] else None
        return otherwise if function is None else function(*arguments)

    # of any kind

    @property
    def version(self) -> Any:
        """Raised when the code gives other results than before."""
        return self._constant("VERSION")

    @property
    def citations(self) -> tuple[str, ...]:
        """The publications it implements, as `workbench/methods/citations.py` reads them."""
        return self._constant("CITATIONS")

    @property
    def needs(self) -> tuple[str, ...]:
        """What it is given beside parameters: `neurons` to an eraser, arrays to a score."""
        return self._constant("NEEDS") or ()

    @property
    def published(self) -> Any:
        """The authors' settings: a Published of an eraser, {parameter: value} of an attack; None when there are none."""
        return self._constant("PUBLISHED")

    @property
    def no_preset(self) -> str:
        """Why an eraser has no published settings."""
        return self._constant("NO_PRESET")

    @property
    def reads_files(self) -> bool:
        """Whether it takes what it does from files that its parameters name."""
        return "files" in DECLARATIONS[self.kind] and hasattr(self.module, "files")

    @property
    def has_cost(self) -> bool:
        """Whether it runs the UNet: an eraser that trains or measures, an attack that searches."""
        return "passes" in DECLARATIONS[self.kind] and hasattr(self.module, "passes")

    def files(self, parameters: BaseModel, folder: str | Path) -> dict[str, str]:
        """{name: digest} of the files it reads."""
        return self._call("files", parameters, folder, otherwise={})

    def passes(self, parameters: BaseModel, n: int, passes_per_image: float) -> float:
        """UNet row passes it takes for n erasing pairs or n prompts; 0 when it does not say."""
        return self._call("passes", parameters, n, passes_per_image, otherwise=0.0)

    def check(self, parameters: BaseModel, model: Any) -> None:
        """Refuse files that do not fit a model, with an expected error."""
        self._call("check", parameters, model)

    # erasers

    @property
    def is_mask(self) -> bool:
        """Whether an eraser returns masks, not weights."""
        return bool(self._constant("MASK"))

    @property
    def defends(self) -> str | None:
        """What an eraser does while images are sampled, in place of changing the model: one of DEFENCES; None for all others."""
        return self._constant("DEFENDS")

    @property
    def further_branch(self) -> bool:
        """Whether that rule takes a third branch."""
        return bool(self._constant("FURTHER_BRANCH"))

    @property
    def over_other_parents(self) -> bool:
        """Whether an eraser is a stress test, compared with itself over other parents."""
        return bool(self._constant("OVER_OTHER_PARENTS"))

    def learns_from(self, parameters: BaseModel) -> tuple[str, ...]:
        """Sides of the erasing pairs that an eraser learns from: by default both, none where it reads files."""
        return self._call("learns_from", parameters, otherwise=() if self.reads_files else SIDES)

    def lifts_masks(self, parameters: BaseModel) -> bool:
        """Whether an eraser's weights hold where its parent pruned."""
        return self._call("lifts_masks", parameters, otherwise=False)

    def check_training(self, parameters: BaseModel, pairs: Sequence[Any]) -> None:
        """Refuse pairs that an eraser cannot learn from, with MethodError."""
        self._call("check_training", parameters, pairs)

    # attacks

    @property
    def optimised(self) -> bool:
        """Whether an attack needs a model to work against."""
        return bool(self._constant("OPTIMISED"))

    @property
    def shared(self) -> bool:
        """Whether an attack searches once for many prompts."""
        return bool(self._constant("SHARED"))

    @property
    def gradient(self) -> bool:
        """Whether an attack follows the gradient of the model's noise, and so passes through a rule of guidance and a prompt transform."""
        return bool(self._constant("GRADIENT"))

    def control(self, model: Any, targets: Any, adversarial: Any, parameters: BaseModel, context: Any) -> Any:
        """The control of what an attack made."""
        return self._call("control", model, targets, adversarial, parameters, context)

    def made_against(self, parameters: BaseModel, folder: str | Path) -> str | None:
        """The variant that imported prompts were made against."""
        return self._call("made_against", parameters, folder)

    def check_targets(self, parameters: BaseModel, targets: Any, names: Sequence[str]) -> None:
        """Refuse targets that an attack cannot work on, with MethodError."""
        self._call("check_targets", parameters, targets, names)

    # detectors

    @property
    def remembered(self) -> bool:
        """Whether the answers of a detector are kept in the run folder, so that an image is judged once."""
        return bool(self._constant("REMEMBERED"))

    # scores

    @property
    def neutral(self) -> float:
        """The score of a neuron that carries no information about the concept."""
        return float(self._constant("NEUTRAL") or 0.0)

    @property
    def quantity(self) -> str:
        """The quantity of activations that a score reads, one of QUANTITIES."""
        return next((name for name in QUANTITIES if name in self.needs), "mean_abs")

    def unit(self, parameters: Mapping[str, Any] | None = None) -> str:
        """What the values of a score count, in words; `parameters` as a study sets them."""
        if hasattr(self.module, "unit"):
            return self._call("unit", self.parameters(**(parameters or {})))
        return self._constant("UNIT")


@cache
def methods(kind: str) -> dict[str, Method]:
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
    found, why = {name: declared(kind, name, module) for name, module in sorted(modules.items())}, _BROKEN.setdefault(kind, {})
    why.clear()
    for entry in entry_points(group=f"workbench.{kind}"):
        where = f'its entry point "{entry.value}"'
        if entry.name in found:
            why[entry.name] = f"{where} claims a name that is taken in {kind}. Give it another name."
            continue
        try:
            found[entry.name] = declared(kind, entry.name, entry.load())
        except MethodError as error:
            why[entry.name] = f"{where}: {error}"
        except (Exception, SystemExit) as error:  # somebody else's code: whatever it raises, the other methods are there
            why[entry.name] = f"{where} raises {type(error).__name__}: {first_line(error)}. Correct it, or uninstall its package."
    return dict(sorted(found.items()))


def broken(kind: str) -> dict[str, str]:
    """{name: why} of the entry points of a kind that cannot be used: they raise, declare something wrong, or claim a taken name."""
    methods(kind)
    return _BROKEN[kind]


def declared(kind: str, name: str, module: Any) -> Method:
    """The Method of a module.

    Raises   MethodError that names the file and the attribute when a declaration is missing or of another form
    """
    where = getattr(module, "__file__", None) or getattr(module, "__name__", module)
    known = DECLARATIONS[kind]
    needed = ("Parameters", VERBS[kind], *(one for one, form in known.items() if form.needed))
    for attribute in needed:
        if not hasattr(module, attribute):
            raise MethodError(f'{where} has no "{attribute}", so it cannot be one of the {kind}. See workbench/methods/contract.py.')
    if not (isinstance(module.Parameters, type) and issubclass(module.Parameters, BaseModel)):
        raise MethodError(f"{where}: `Parameters` is no pydantic model, so nothing can be set.")
    if not callable(getattr(module, VERBS[kind])):
        raise MethodError(f"{where}: `{VERBS[kind]}` is no function.")
    for attribute, form in known.items():
        if not hasattr(module, attribute):
            continue
        value = getattr(module, attribute)
        if isinstance(form, Constant):
            if not form.fits(value):
                raise MethodError(f"{where}: `{attribute}` must be {form.must_be}; found {str(value)[:80]!r}.")
        elif not callable(value) or not _takes(value, len(form.arguments)):
            raise MethodError(f"{where}: `{attribute}` must be a function {attribute}({', '.join(form.arguments)}).")
    return Method(kind, name, next(iter((module.__doc__ or "").strip().splitlines()), name), module)


def _takes(function: Callable[..., Any], n: int) -> bool:
    """Whether a function can be called with n positional arguments."""
    try:
        inspect.signature(function).bind(*range(n))
    except (TypeError, ValueError):
        return False
    return True


def method(kind: str, name: str) -> Method:
    """The method of that name.

    Raises   MethodError that offers the nearest name
    """
    known = methods(kind)
    if not isinstance(name, str) or name not in known:
        if isinstance(name, str) and name in broken(kind):
            raise MethodError(f'The {kind[:-1]} "{name}" cannot be used: {broken(kind)[name]}')
        raise MethodError(f'No {kind[:-1]} is called "{name}".{nearest(name, known)}{_how_to_add(kind)}')
    return known[name]


def _how_to_add(kind: str) -> str:
    guide = " (docs/guides/own-detector.md)" if kind == "detectors" else ""
    return (
        f" To add one of your own, write a module with `Parameters` and `{VERBS[kind]}`, found by an entry point of the group "
        f'"workbench.{kind}" in an installed package{guide}.'
    )
