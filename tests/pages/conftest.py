"""An app on a folder with one run of every kind."""

import pytest

from tests.pages.example_runs import write_all
from tests.pages.opening import open_page
from workbench.resources import EXAMPLE_FOLDER


@pytest.fixture(autouse=True)
def without_example_run(monkeypatch):
    """What the pages show where there are no runs does not depend on whether the example run is there."""
    monkeypatch.setenv(EXAMPLE_FOLDER, "")


@pytest.fixture(scope="module")
def some_runs(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("some"))


@pytest.fixture
def opened(some_runs, monkeypatch):
    """opened(page, run, runs=folder, **more of the address) -> the AppTest after the page has run."""
    return lambda name, run=None, runs=some_runs, **address: open_page(monkeypatch, runs, name, run, **address)
