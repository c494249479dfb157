"""What a result depends on of the methods that made it, and so belongs to its key: versions, code, and what detectors are.

code_of             digest of a method's code; None for a bundled method, whose stage's version is raised by hand when its results change
used_by             the code of the methods of a node that do not come with the workbench
versions            versions of the methods of a node
made_against        the variant that an attack from a file was made against
detector_identity   what makes a detector give other answers
"""

import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from workbench import registry
from workbench.methods import detectors
from workbench.storage import digest, file_digest
from workbench.study.attacks import AttackTable

# bundled; a file that somebody else put beside them is their own, as docs/guides/own-detector.md says
DETECTORS = ("clip_zero_shot", "emoji", "image_classifier", "nudenet")


@cache
def code_of(kind: str, name: str) -> str | None:
    """sha256 over the code of a method: its file or, where it lies in a package of somebody else's, every .py file of that package.

    Read once per process, as the code itself is.

    returns   hex, or None for a method that comes with the workbench
    Raises    MethodError for an unknown method
    """
    module = registry.method(kind, name).module
    path = Path(module.__file__) if getattr(module, "__file__", None) else None
    package = module.__name__.partition(".")[0]
    if package == "workbench":
        return file_digest(path) if path and kind == "detectors" and name not in DETECTORS else None
    if path is None:
        return digest(module.__name__)
    if not module.__package__:
        return file_digest(path)
    depth = module.__name__.count(".") + (path.name == "__init__.py")
    root = path.parents[max(depth, 1) - 1]
    return digest({str(file.relative_to(root)): file_digest(file) for file in sorted(root.rglob("*.py"))})


def used_by(kind: str, names: Iterable[str]) -> dict[str, str]:
    """{method: code} of those methods that do not come with the workbench; empty where all do, so that their nodes keep their keys."""
    found = {name: code_of(kind, name) for name in dict.fromkeys(names)}
    return {name: code for name, code in found.items() if code}


def versions(*methods: registry.Method) -> dict[str, dict[str, Any]]:
    """{"versions": {name: VERSION}} of methods whose code gives other results than at first; empty for others, which keep their keys."""
    found = {one.name: one.version for one in methods if one.version > 1}
    return {"versions": found} if found else {}


def made_against(attack: AttackTable, folder: str | Path) -> str | None:
    """The variant that an attack's file says it was made against; None for an attack that reads no such file."""
    method = registry.method("attacks", attack.method)
    return method.made_against(method.parameters(**attack.settings), folder)


def detector_identity(given: Mapping[str, Any], folder: str | Path = ".") -> dict[str, Any]:
    """What makes a detector give other answers: method, parameters with their defaults, and what its files hold.

    Files and transformers folders that its parameters name are digested, and it is not loaded. Another one, such as a bundled
    detector, is loaded, and says its version and thresholds itself. Of a detector that does not come with the workbench all of
    it counts: files, version, thresholds and code.

    given    {"method": name, parameter: value}
    folder   where files are looked for first: that of the study
    """
    method = registry.method("detectors", given["method"])
    parameters = method.parameters(**{name: value for name, value in given.items() if name != "method"})
    set_to, located = (one.model_dump(mode="json") for one in (parameters, detectors.located(parameters, folder)))
    paths = [Path(value).expanduser() for value in located.values() if isinstance(value, str)]
    files = [file_digest(path) for path in paths if os.path.isfile(path)]
    files += [detectors.model_digest(path) for path in paths if os.path.isfile(path / "config.json")]
    code = code_of("detectors", method.name)
    said = []
    if code or not files:
        loaded = detectors.opened(given, folder)
        said = [loaded.version, loaded.thresholds]
    identity = {"method": method.name, "parameters": set_to, "files": files or said}
    return identity | {"said": said, "code": code} if code else identity
