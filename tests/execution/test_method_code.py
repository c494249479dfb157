"""Methods of one's own: when their version, thresholds or code change, what they made is made again."""

import importlib
import sys

import pytest
import torch

import workbench
from workbench import registry
from workbench.execution import execute, method_code
from workbench.execution.method_code import detector_identity
from workbench.methods.detectors import Cached

DETECTOR = '''
"""Bright: a detector of one's own that calls a bright image ink."""

from pydantic import BaseModel, ConfigDict

from {package}brightness import of

VERSION, THRESHOLD = "bright 1", 0.5


class Parameters(BaseModel):
    """What can be set."""

    model_config = ConfigDict(extra="forbid")

    note: str = ""


def load(parameters):
    """Nothing is read."""
    from workbench.methods.detectors import Detector

    labels = ["style:ink", "style:fluent"]
    return Detector("bright", VERSION, labels, dict.fromkeys(labels, THRESHOLD), lambda images: of(images).repeat(1, 2))
'''
BRIGHTNESS = "def of(images):\n    return images.mean(dim=(1, 2, 3))[:, None]\n"
ATTACK = '''
"""Mine: an attack of one's own."""

from pydantic import BaseModel

from workbench.methods.attacks import reseeded, reworded

OPTIMISED = False


class Parameters(BaseModel):
    """Nothing to set."""


def attack(model, targets, parameters, context):
    """Say please."""
    return reworded(targets, [f"owl {p}" for p in targets.prompts], context)


def control(model, targets, adversarial, parameters, context):
    """The same from other noise."""
    return reseeded(targets, context, 7, control=True)
'''
POINTS = "[workbench.detectors]\nbright = ours.bright\n[workbench.attacks]\nmine = mine_attack\n"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A detector in a package and an attack in a single file, installed by entry points; call it to change and load them anew."""
    files = {"ours/__init__.py": "", "ours/brightness.py": BRIGHTNESS, "ours/bright.py": DETECTOR.format(package="ours.")}
    files |= {"mine_attack.py": ATTACK, "own-1.0.dist-info/entry_points.txt": POINTS}
    files |= {"own-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: own\nVersion: 1.0\n"}
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def forget():
        for name in ("ours", "ours.bright", "ours.brightness", "mine_attack"):
            sys.modules.pop(name, None)
        registry.methods.cache_clear()
        method_code.code_of.cache_clear()
        importlib.invalidate_caches()

    def change(name=None, before="", after=""):
        if name:
            path = tmp_path / "site" / name
            text = path.read_text()
            assert before in text
            path.write_text(text.replace(before, after))
        forget()

    for name, text in files.items():
        (tmp_path / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "site" / name).write_text(text)
    forget()
    yield change
    forget()


def keys(study_file):
    study = workbench.load_study(study_file).with_values(
        ['detectors.judge={ method = "bright" }', 'attacks=[{ method = "mine" }]', "record.sites=['ff']"]
    )
    return {node.id: node.key for node in execute.prepare(study)[0].nodes}


def changed(before, after):
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize(
    "file, before, after",
    [
        ("ours/bright.py", "bright 1", "bright 2"),
        ("ours/bright.py", 'THRESHOLD = "bright 1", 0.5', 'THRESHOLD = "bright 1", 0.6'),
        ("ours/brightness.py", "images.mean(dim=(1, 2, 3))[:, None]", "images.amax(dim=(1, 2, 3))[:, None]"),
    ],
)
def test_a_detector_of_ones_own_that_changes_judges_again(installed, study_file, file, before, after):
    first = keys(study_file)
    installed()
    assert keys(study_file) == first
    installed(file, before, after)
    differ = changed(first, keys(study_file))
    assert {name for name in first if name.startswith("detect:")} | {"measure"} <= differ
    assert not any(name.startswith(("erase:", "generate:base", "record:base:target", "score")) for name in differ)


def test_a_version_that_changes_without_its_code_judges_again(installed, study_file, monkeypatch):
    first = detector_identity({"method": "bright"})
    monkeypatch.setattr(registry.method("detectors", "bright").module, "VERSION", "weights of today")
    assert detector_identity({"method": "bright"}) != first


def test_an_attack_of_ones_own_that_changes_is_made_again(installed, study_file):
    first = keys(study_file)
    installed("mine_attack.py", 'f"owl {p}"', 'f"cat {p}"')
    differ = changed(first, keys(study_file))
    assert {"attack:mine", "generate:erased:mine", "record:erased:mine"} <= differ
    assert not any(name.startswith(("erase:", "generate:base", "generate:erased:target", "detect:base", "score")) for name in differ)


def test_answers_of_a_detectors_older_code_are_not_taken(tmp_path, installed):
    images = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))

    def answers():
        method = registry.method("detectors", "bright")
        return Cached(method.call(method.parameters()), tmp_path / "answers", method_code.code_of("detectors", "bright"))

    first = answers().probabilities(images)
    installed("ours/brightness.py", "mean", "amax")
    cached = answers()
    assert cached.probabilities(images).max() > first.max() and (cached.hits, cached.misses) == (0, 3)
    same = answers()
    assert torch.equal(same.probabilities(images), cached.probabilities(images)) and same.misses == 0


def test_what_comes_with_the_workbench_keeps_its_keys():
    for kind in registry.VERBS:
        known = registry.methods(kind)
        assert all(method_code.code_of(kind, name) is None for name in known), kind
    assert set(detector_identity({"method": "emoji"})) == {"method", "parameters", "files"}


def test_a_file_that_somebody_put_beside_the_bundled_detectors_is_their_own(monkeypatch):
    monkeypatch.setattr(method_code, "DETECTORS", ("clip_zero_shot", "image_classifier", "nudenet"))
    method_code.code_of.cache_clear()
    assert method_code.code_of("detectors", "emoji") and set(detector_identity({"method": "emoji"})) > {"said", "code"}
    method_code.code_of.cache_clear()
