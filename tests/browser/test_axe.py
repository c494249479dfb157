"""axe finds no serious fault on any page of the example run, in light and dark."""

import os

import pytest

from tests.pages.serving import served
from workbench.resources import EXAMPLE_FOLDER, folder
from workbench.ui.navigation import pages

FIRST_NEURON = "up_blocks.1.attentions.1.transformer_blocks.0.ff.net.2:5"
BAD = ("serious", "critical")
BY_THE_BROWSER = ("scrollable-region-focusable",)  # Chromium itself lets the keyboard into what scrolls


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    place = tmp_path_factory.mktemp("axe")
    (place / "runs").mkdir()
    kept = os.environ.get(EXAMPLE_FOLDER)
    with served(place / "runs", place / "log", environment={EXAMPLE_FOLDER: str(folder("data") / "example-run")}) as address:
        yield address
    assert os.environ.get(EXAMPLE_FOLDER) == kept


def faults(page, rules=None):
    """[(rule, first elements)] of what axe finds serious, without what Chromium and Streamlit do themselves."""
    from axe_playwright_python.sync_playwright import Axe

    found = []
    for fault in Axe().run(page, options={"runOnly": rules} if rules else None).response["violations"]:
        nodes = [node for node in fault["nodes"] if 'class="token' not in node["html"]]  # the colours of code are Streamlit's own
        if fault["impact"] in BAD and fault["id"] not in BY_THE_BROWSER and nodes:
            found.append((fault["id"], [node["html"][:200] for node in nodes[:3]]))
    return found


def test_axe_finds_no_serious_fault(browser, address):
    wrong = []
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    for one in pages():
        page.emulate_media(color_scheme="light")
        page.goto(f"{address}/{one.name}?run=example&neuron={FIRST_NEURON}&selected={FIRST_NEURON}")
        page.locator("[data-testid=stMain] h1").first.wait_for(timeout=90_000)
        page.locator("[data-testid=stStatusWidget]").wait_for(state="detached", timeout=180_000)
        page.wait_for_timeout(500)
        wrong += [(one.name, "light", *fault) for fault in faults(page)]
        page.emulate_media(color_scheme="dark")
        page.wait_for_function("getComputedStyle(document.querySelector('[data-testid=stApp]')).color == 'rgb(255, 255, 255)'")
        page.wait_for_timeout(500)  # until its colours have changed over
        wrong += [(one.name, "dark", *fault) for fault in faults(page, ["color-contrast"])]
    page.close()
    assert wrong == []
