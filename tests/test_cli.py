"""The command line as a user meets it."""

import json
import subprocess
import sys

import pytest


def workbench(*arguments, cwd=None):
    return subprocess.run([sys.executable, "-m", "workbench.cli", *arguments], capture_output=True, text=True, cwd=cwd)


@pytest.mark.parametrize("what", ["studies", "methods", "sites", "models", "prompts", "runs"])
def test_every_list_is_also_json(what, tmp_path):
    done = workbench("list", what, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert rows == [] if what == "runs" else rows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "emoji-ink-stile"), "emoji-ink-style"),
        (("list", "studys"), "studies"),
        (("show", "esq"), "esd"),
        (("report", "nothing"), 'No run "nothing"'),
        (("run", "emoji-ink-style", "--set", "sampling.stebs=3"), '"steps"'),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(arguments, message, tmp_path):
    done = workbench(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_show_explains_a_method_and_prints_a_study(tmp_path):
    assert "learning_rate" in workbench("show", "esd", "--json", cwd=tmp_path).stdout
    assert 'name = "emoji-ink-style"' in workbench("show", "emoji-ink-style", cwd=tmp_path).stdout


def test_a_dry_run_shows_the_bill_and_writes_nothing(tmp_path):
    done = workbench("run", "emoji-ink-style", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "of memory" in done.stdout and "nodes to do" in done.stdout and list(tmp_path.iterdir()) == []


def test_doctor_finds_the_bundled_model(tmp_path):
    rows = {row["what"]: row for row in json.loads(workbench("doctor", "--json", cwd=tmp_path).stdout)}
    assert rows["emoji model"]["state"] == "ok" and rows["torch"]["state"] == "ok"
