"""The commit a report names is that of the workbench's own checkout, and asking for it runs nothing of another one."""

import subprocess

import pytest

from workbench import resources
from workbench.execution.stages import report
from workbench.resources import PACKAGE

ROOT = PACKAGE.parent


@pytest.fixture
def installed_in_a_foreign_checkout(tmp_path, monkeypatch):
    """A repository whose settings run a program on `git status`, with an environment in it that holds the package."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "theirs"], check=True)
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'RAN'}\n")
    program.chmod(0o755)
    subprocess.run([*git, "config", "core.fsmonitor", str(program)], check=True)
    package = tmp_path / ".venv" / "site-packages" / "workbench"
    package.mkdir(parents=True)
    monkeypatch.setattr(resources, "PACKAGE", package)
    return tmp_path


def test_a_checkout_around_the_environment_is_not_asked(installed_in_a_foreign_checkout):
    assert report._git("rev-parse", "HEAD") is None and report._git("status", "--porcelain") is None
    assert not (installed_in_a_foreign_checkout / "RAN").exists()


def test_the_own_checkout_says_its_commit():
    asked = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    assert report._git("rev-parse", "HEAD") == (asked if (ROOT / ".git").exists() else None)
