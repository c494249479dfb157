"""The Ablation lab in a real browser: a control changes the picture, a link reopens what was on screen."""

import shutil
from urllib.parse import parse_qs, urlparse

import pytest

from tests.pages.serving import served

PATIENCE = 120_000


@pytest.fixture(scope="module")
def address(finished, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab-served")
    shutil.copytree(finished.folder, folder / "runs" / "tiny")
    with served(folder / "runs", folder / "log") as address:
        yield address


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1280, "height": 1400})
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    hosts = {urlparse(url).hostname for url in requests if not url.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"} and not errors


def after(page, variant="erased"):
    return page.locator(f"img[alt^='{variant} after the ablation']").first


def changes(page, old, what):
    """Wait until the picture after the ablation is another one."""
    page.wait_for_function(
        "([old]) => { const one = document.querySelector(\"img[alt^='erased after the ablation']\"); return one && one.src !== old }",
        arg=[old],
        timeout=PATIENCE,
    )
    assert after(page).get_attribute("src") != old, what


def test_a_control_changes_the_picture_and_a_link_reopens_it(page, address):
    page.goto(f"{address}/lab?run=tiny")
    after(page).wait_for(timeout=PATIENCE)
    first = after(page).get_attribute("src")
    page.get_by_role("radio", name="mean", exact=True).or_(page.get_by_role("button", name="mean", exact=True)).first.click()
    changes(page, first, "the mode")
    page.get_by_text("mean of the reference prompts").first.wait_for(timeout=PATIENCE)
    said = parse_qs(urlparse(page.url).query)
    assert said["lab-mode"] == ["mean"] and said["run"] == ["tiny"]
    second, link = after(page).get_attribute("src"), page.url
    page.get_by_role("button", name="Same size at random").click()
    page.get_by_text("random neurons (seed 1)").first.wait_for(timeout=PATIENCE)
    page.keyboard.press("Control+z")
    page.get_by_text("13 neurons (the concept neurons)").first.wait_for(timeout=PATIENCE)
    page.goto(link)
    after(page).wait_for(timeout=PATIENCE)
    page.get_by_text("mean of the reference prompts").first.wait_for(timeout=PATIENCE)
    assert second  # media names are those of their content
    assert after(page).get_attribute("src").rsplit("/", 1)[-1].split("?")[0] == second.rsplit("/", 1)[-1].split("?")[0]
