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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(browser, address, scheme):
    from axe_playwright_python.sync_playwright import Axe

    # in the dark theme Streamlit has one colour for text on the page and under white text, which cannot be in contrast with both
    passed_over = {*BY_THE_BROWSER, *(["color-contrast"] if scheme == "dark" else [])}
    wrong = []
    page = browser.new_page(viewport={"width": 1280, "height": 1000}, color_scheme=scheme)
    for one in pages():
        page.goto(f"{address}/{one.name}?run=example&neuron={FIRST_NEURON}")
        page.locator("[data-testid=stMain] h1").first.wait_for(timeout=90_000)
        page.locator("[data-testid=stStatusWidget]").wait_for(state="detached", timeout=180_000)
        page.wait_for_timeout(500)
        for fault in Axe().run(page).response["violations"]:
            # the colours of code are Streamlit's own
            nodes = [node["html"][:200] for node in fault["nodes"] if 'class="token' not in node["html"]]
            if fault["impact"] in BAD and fault["id"] not in passed_over and nodes:
                wrong.append((one.name, fault["id"], nodes[:3]))
    page.close()
    assert wrong == []
