"""The verb import-prompts as a user meets it."""

import json
import os
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from tests.study.imported import table
from workbench import cli
from workbench.errors import PromptError


def workbench(*arguments, answers=None):
    return CliRunner().invoke(cli.app, ["import-prompts", *map(str, arguments)], input=answers)


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
    monkeypatch.setattr(cli, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    done = workbench(source, answers="transferred\nSD 1.4 ESD\n")
    assert done.exit_code == 0, done.output
    assert "Provenance  transferred against SD 1.4 ESD" in done.output
