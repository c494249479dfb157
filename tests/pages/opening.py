"""The app in process: one page on one run of a folder."""

from functools import cache

import pandas
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from workbench.resources import folder
from workbench.ui import neuron_table, run_list
from workbench.ui.navigation import pages

SCRIPT = folder("pages").parent / "workbench" / "ui" / "app.py"
# each AppTest asks all installed packages for Streamlit components, which takes longer than most pages; they stay the same
manifest_scanner.scan_component_manifests = cache(manifest_scanner.scan_component_manifests)


def open_page(monkeypatch, runs, name, run=None, **address):
    """The AppTest after a page has run; `address` are more values of it."""
    monkeypatch.setenv(run_list.VARIABLE, str(runs))
    app = AppTest.from_file(str(SCRIPT), default_timeout=180)
    for key, value in ({} if run is None else {"run": run} | address).items():
        app.query_params[key] = value
    app.run()
    assert not app.exception
    if name != pages()[0].name:
        app.switch_page(str(next(page.script for page in pages() if page.name == name))).run()
    assert not app.exception, app.exception[0].value
    return app


def open_all(monkeypatch, run):
    """Open every page on a real run, with the card of its first neuron; what is wrong is raised."""
    first = neuron_table.identity(pandas.read_parquet(run / "report" / "neurons.parquet").iloc[0])
    said: list[str] = []
    for page in (page for page in pages() if page.of_run):
        app = open_page(monkeypatch, run.parent, page.name, run.name, neuron=first, selected=first)
        assert not app.error and app.title, [error.value for error in app.error]
        app.toggle(key="blur").set_value(False).run()
        assert not app.exception and not app.error, [error.value for error in app.error]
        said += [caption.value for caption in app.caption]
    for words in ("standard error", "jackknife t over units"):
        assert any(words in one for one in said), words
