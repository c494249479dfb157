"""The verb import-prompts as a user meets it."""

import json
import os
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from tests.study.imported import table
from workbench.cli import main, prompts
from workbench.errors import PromptError


def workbench(*arguments, answers=None):
    return CliRunner().invoke(main.app, ["import-prompts", *map(str, arguments)], input=answers)


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return table(tmp_path / "church.csv", "UnlearnDiffAtk", ["a church at dusk", "a child by a church"])


def test_the_terminal_says_what_was_recognised_dropped_cut_and_written(source):
    done = workbench(source, "--provenance", "static")
    assert done.exit_code == 0, done.output
    for words in ("UnlearnDiffAtk", "1 prompts, 1 dropped", "names a minor", "estimated by words", "church-imported.csv", "from_file"):
        assert words in done.output
    assert "a child" not in done.output and os.path.exists("church-imported.about.json")


def test_json_holds_the_same_note(source, tmp_path):
    done = workbench(source, "--provenance", "optimised", "--against", "erased", "--out", "x.csv", "--json")
    note = json.loads(done.output)
    assert note.pop("file") == "x.csv" and note.pop("about") == "x.about.json"
    assert note == json.loads((tmp_path / "x.about.json").read_text()) and note["against"] == "erased"


def test_without_a_terminal_the_missing_option_is_named(source):
    done = workbench(source)
    assert isinstance(done.exception, PromptError) and "--provenance static|transferred|optimised" in str(done.exception)
    assert os.listdir() == ["church.csv"]


def test_at_a_terminal_the_provenance_is_asked(source, monkeypatch):
    monkeypatch.setattr(prompts, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    done = workbench(source, answers="transferred\nSD 1.4 ESD\n")
    assert done.exit_code == 0, done.output
    assert "Provenance  transferred against SD 1.4 ESD" in done.output


def test_the_terminal_says_how_many_prompts_say_a_name_of_the_concept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = table(tmp_path / "made.csv", "UnlearnDiffAtk", ["grey zx churches", "steeple qua", "a CATHEDRAL at dusk"])
    done = workbench(made, "--provenance", "optimised", "--against", "erased", "--name", "church", "--name", "cathedral")
    assert done.exit_code == 0, done.output
    assert "Named       2 of 3 prompts say church or cathedral; as an attack, a success of these is no evidence" in done.output
    assert json.loads((tmp_path / "made-imported.about.json").read_text())["named"] == {"n": 2, "names": ["church", "cathedral"]}
    none = workbench(made, "--provenance", "static", "--name", "castle", "--force")
    assert "Named       0 of 3 prompts say castle\n" in none.output
    assert "Named" not in workbench(made, "--provenance", "static", "--force").output


def test_names_are_counted_in_prompts_alone_and_an_empty_one_is_told(tmp_path, monkeypatch, source):
    pairs = table(tmp_path / "pairs.csv", "UnlearnDiffAtk")
    pairs.write_text("prompt,anchor\na church,a house\n")
    done = workbench(pairs, "--name", "church")
    assert isinstance(done.exception, PromptError) and "holds pairs; --name counts in prompts" in str(done.exception)
    done = workbench(source, "--provenance", "static", "--name", " ")
    assert isinstance(done.exception, PromptError) and "--name church" in str(done.exception)
