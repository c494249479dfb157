"""Methods of other packages: what is broken is named, and the others are there."""

import importlib
import json
import sys

import pytest
from typer.testing import CliRunner

from workbench import registry
from workbench.cli import main
from workbench.errors import MethodError, WorkbenchError

GOOD = '''"""A detector of mine."""
from pydantic import BaseModel
class Parameters(BaseModel):
    """Nothing."""
def load(parameters):
    return 3
'''
MODULES = {
    "my_good": GOOD,
    "my_boom": "raise RuntimeError('boom at import\\nsecond line')\n",
    "my_exit": "import sys\nsys.exit(7)\n",
    "my_verbless": '"""No verb."""\nfrom pydantic import BaseModel\nclass Parameters(BaseModel):\n    pass\n',
    "my_settings": '"""No model."""\nParameters = 3\ndef load(parameters):\n    return None\n',
    "my_silent": GOOD.split("\n", 1)[1],
}
POINTS = {**{name: name for name in MODULES}, "my_absent": "nowhere_at_all", "emoji": "my_good"}


@pytest.fixture
def installed(tmp_path, monkeypatch):
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    about = tmp_path / "my_things-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-things\nVersion: 1.0\n")
    lines = "".join(f"{name} = {value}\n" for name, value in POINTS.items())
    (about / "entry_points.txt").write_text(f"[workbench.detectors]\n{lines}")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    registry.methods.cache_clear()
    yield tmp_path
    registry.methods.cache_clear()
    for name in MODULES:
        sys.modules.pop(name, None)


def test_entry_points_that_raise_are_named_and_the_others_are_there(installed):
    assert {"emoji", "clip_zero_shot", "my_good", "my_silent"} <= set(registry.methods("detectors"))
    broken = registry.broken("detectors")
    assert set(broken) == {"my_boom", "my_exit", "my_verbless", "my_settings", "my_absent", "emoji"}
    assert broken["my_boom"].startswith('its entry point "my_boom" raises RuntimeError: boom at import. Correct it')
    assert "SystemExit: 7" in broken["my_exit"] and 'has no "load"' in broken["my_verbless"]
    assert "no pydantic model" in broken["my_settings"] and "ModuleNotFoundError" in broken["my_absent"]
    assert "claims a name that is taken in detectors" in broken["emoji"]
    assert registry.method("detectors", "emoji").module.__name__ == "workbench.methods.detectors.emoji"
    assert registry.method("detectors", "my_silent").help == "my_silent"
    assert registry.broken("erasers") == {}


def test_a_study_that_asks_for_a_broken_one_is_told_why(installed):
    with pytest.raises(MethodError, match='The detector "my_boom" cannot be used: its entry point .* boom at import'):
        registry.method("detectors", "my_boom")


def test_the_command_line_lists_the_others_and_names_the_broken_ones(installed):
    done = CliRunner().invoke(main.app, ["list", "methods", "--json"])
    rows = {row["method"]: row["what"] for row in json.loads(done.output) if row["kind"] == "detectors"}
    assert rows["my_good"] == "A detector of mine." and rows["my_boom"].startswith("cannot be used: its entry point")
    done = CliRunner().invoke(main.app, ["show", "my_boom"])
    assert isinstance(done.exception, WorkbenchError) and "boom at import" in str(done.exception)
    assert "emoji" in CliRunner().invoke(main.app, ["show", "emoji"]).output


def test_what_a_foreign_load_returns_must_be_a_detector(installed):
    from workbench.methods import detectors

    with pytest.raises(MethodError, match="The detector my_good returns a int without name, version, labels, thresholds, present"):
        detectors.opened({"method": "my_good"})


@pytest.mark.parametrize(("kind", "verb"), registry.VERBS.items())
def test_an_unknown_name_says_how_to_bring_ones_own(kind, verb):
    with pytest.raises(MethodError, match=f'with `Parameters` and `{verb}`, found by an entry point of the group "workbench.{kind}"'):
        registry.method(kind, "x")
    with pytest.raises(MethodError, match="No "):
        registry.method(kind, ["x"])
