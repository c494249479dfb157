"""Imports point one way; listing things needs no torch."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "workbench"
# a room may import the rooms before it
ORDER = [
    "errors",
    "terminal",
    "textfile",
    "storage",
    "foreign",
    "statistics",
    "resources",
    "registry",
    "study",
    "models",
    "neurons",
    "diffusion",
    "methods",
    "analysis",
    "report",
    "execution",
    "lab",
    "ui",
    "cli",
]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("workbench"):
            rest = node.module.split(".")[1:]
            yield from ([rest[0]] if rest else [alias.name for alias in node.names])


def room(path):
    parts = path.relative_to(ROOT).parts
    return parts[0].removesuffix(".py")


def test_imports_point_up_the_list_only():
    wrong = []
    for path in ROOT.rglob("*.py"):
        own = room(path)
        if own in ("__init__", "_pages"):
            continue
        for other in imports(path):
            if other in ORDER and ORDER.index(other) > ORDER.index(own):
                wrong.append(f"{path.relative_to(ROOT)} imports {other}")
    assert wrong == []


def test_the_package_imports_no_experiment_test_or_benchmark():
    for path in ROOT.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        names = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
        names += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        assert not {name.split(".")[0] for name in names} & {"experiments", "tests", "benchmarks"}, path


def test_the_four_kinds_of_methods_never_import_each_other():
    kinds = ("erasers", "attacks", "detectors", "scores")
    for kind in kinds:
        for path in (ROOT / "methods" / kind).glob("*.py"):
            assert not any(f"workbench.methods.{other}" in path.read_text() for other in kinds if other != kind), path


def test_listing_and_planning_a_study_needs_no_torch():
    code = (
        "import sys, workbench, workbench.cli\n"
        "from workbench.registry import VERBS, methods\n"
        "[methods(kind) for kind in VERBS]\n"
        "workbench.load_study('emoji-ink-style')\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


NOT_OURS = {"_replace", "_asdict", "_fields", "_forward_hooks", "_forward_pre_hooks", "_exit"}  # namedtuple, torch, os


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_uses_a_private_name_of_another_room(path):
    tree = ast.parse(path.read_text())
    files = path.parent.rglob("*.py") if path.parent != ROOT else [path]
    text = "\n".join(file.read_text() for file in files)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.fullmatch(r"_[a-z]\w*", node.attr) and node.attr not in NOT_OURS:
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            assert own or re.search(rf"(self\.|def |^\s*){node.attr}\b", text, re.MULTILINE), f"line {node.lineno}: {node.attr}"
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("workbench"):
            other = node.module.removeprefix("workbench.").split(".")[0]
            mine = path.relative_to(ROOT).parts[0].removesuffix(".py")
            private = [alias.name for alias in node.names if re.match("_[a-z]", alias.name)] if other != mine else []
            assert not private, f"line {node.lineno}: {private} of {node.module}"
