"""The code of methods that do not come with the workbench: it belongs to the key of what they made.

code_of   digest of a method's code; None for a bundled method, whose stage's version is raised by hand when its results change
used_by   the code of the own methods that a node uses
"""

from functools import cache
from pathlib import Path

from workbench import registry
from workbench.storage import digest, file_digest

# bundled; a file that somebody else put beside them is their own, as docs/guides/own-detector.md says
DETECTORS = ("clip_zero_shot", "emoji", "image_classifier", "nudenet")
KINDS = {"erase": "erasers", "attack": "attacks"}


@cache
def code_of(kind, name):
    """sha256 over the code of a method: its file or, where it lies in a package of somebody else's, every .py file of that package.

    Read once per process, as the code itself is.

    returns   hex, or None for a method that comes with the workbench
    Raises    MethodError for an unknown method
    """
    module = registry.method(kind, name).module
    path = Path(module.__file__) if getattr(module, "__file__", None) else None
    package = module.__name__.partition(".")[0]
    if package == "workbench":
        return file_digest(path) if kind == "detectors" and name not in DETECTORS else None
    if path is None:
        return digest(module.__name__)
    if not module.__package__:
        return file_digest(path)
    depth = module.__name__.count(".") + (path.name == "__init__.py")
    root = path.parents[max(depth, 1) - 1]
    return digest({str(file.relative_to(root)): file_digest(file) for file in sorted(root.rglob("*.py"))})


def used_by(stage, parameters):
    """{method: code} of the own methods a node uses; empty where all are bundled, so that such a node keeps its key.

    parameters   of the node: an eraser's and an attack's have `method`, those of the stage score say which scores are computed
    """
    if stage in KINDS:
        kind, names = KINDS[stage], [parameters["method"]]
    elif stage == "score":
        chosen = [parameters["score"], *(parameters.get("agree") or [])]
        compare = parameters["compare"]
        kind, names = "scores", [*chosen, *(registry.methods("scores") if compare is None else compare)]
    else:
        return {}
    found = {name: code_of(kind, name) for name in dict.fromkeys(names)}
    return {name: code for name, code in found.items() if code}
