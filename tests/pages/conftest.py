"""An app on a folder with one run of every kind."""

import pytest

from tests.pages.example_runs import write_all
from workbench.resources import folder
from workbench.ui import _runs

SCRIPT = folder("pages").parent / "workbench" / "ui" / "app.py"


@pytest.fixture(scope="module")
def some_runs(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("some"))


@pytest.fixture
def opened(some_runs, monkeypatch):
    """opened(page, run, runs=folder, **more of the address) -> the AppTest after the page has run."""
    from streamlit.testing.v1 import AppTest

    def open_page(name, run=None, runs=some_runs, **address):
        monkeypatch.setenv(_runs.VARIABLE, str(runs))
        app = AppTest.from_file(str(SCRIPT), default_timeout=60)
        for key, value in ({} if run is None else {"run": run} | address).items():
            app.query_params[key] = value
        app.run()
        assert not app.exception
        if name != "overview":
            app.switch_page(str(folder("pages") / f"{name}.py")).run()
        assert not app.exception
        return app

    return open_page
