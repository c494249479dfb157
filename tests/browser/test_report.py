"""The report in a real browser: opened from disk, with every request watched."""

import pytest
from playwright.sync_api import expect

from tests.report.example import write_example
from workbench.report.renderers.render import render

FIGURES = 26


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_example(folder)
    render(folder, formats=("html",))
    return (folder / "report.html").as_uri()


@pytest.fixture
def opened(browser, address):
    """opened(**options) -> a page showing the report; what went wrong is checked at the end."""
    pages, requests, problems = [], [], []

    def open_page(**options):
        page = browser.new_page(**({"viewport": {"width": 1280, "height": 900}} | options))
        pages.append(page)
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(address)
        page.wait_for_function(f"document.querySelectorAll('.js-plotly-plot .main-svg').length >= {FIGURES}")
        return page

    yield open_page
    for page in pages:
        page.close()
    assert [url[:60] for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert problems == []


def test_it_opens_from_disk_and_draws_every_figure(opened):
    page = opened()
    drawn = page.evaluate(
        "[...document.querySelectorAll('.plotly-graph-div')].map(plot =>"
        " plot.querySelectorAll('.main-svg').length > 0"
        " && plot.querySelectorAll('.scatterlayer .trace').length > 0)"
    )
    assert drawn == [True] * FIGURES
    assert page.locator(".headline").is_visible()
    said = page.locator(".headline").inner_text().replace("\u00a0", " ")
    assert said.startswith("Without attack, esd shows heart in 4 % of its images (base model 97 %)")
    assert page.locator("text=alert(1)").first.is_visible()


def test_the_verdict_is_short_and_its_evidence_is_folded(opened):
    page = opened()
    assert page.locator("#verdict").bounding_box()["height"] < 1600
    expect(page.locator("#verdict .plot:visible")).to_have_count(1)
    assert page.locator("#table-at-a-glance").is_visible()
    expect(page.locator("#verdict .board:visible")).to_have_count(0)
    page.locator("#verdict summary", has_text="Evidence").click()
    expect(page.locator("#verdict .board:visible")).to_have_count(6)


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_the_page_itself_never_scrolls_sideways(opened, width):
    page = opened(viewport={"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_mode_is_dark_and_figures_stay_light(opened):
    page = opened(color_scheme="dark")
    colour = "getComputedStyle(document.querySelector('{}')).backgroundColor"
    assert page.evaluate(colour.format("body")) == "rgb(20, 22, 25)"
    assert page.evaluate(colour.format(".plot")) == "rgb(255, 255, 255)"


def test_a_figure_can_be_saved_without_asking_the_network(opened):
    page = opened()
    with page.expect_download() as download:
        page.evaluate("void Plotly.downloadImage('figure-rates-0', {format: 'png'})")
    assert download.value.suggested_filename.endswith(".png")


def test_nothing_offers_to_upload_a_figure(opened):
    page = opened()
    titles = page.evaluate("[...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title || '')")
    assert titles and not any("share" in t.lower() or "cloud" in t.lower() for t in titles)


def test_a_figure_in_a_closed_part_gets_its_width_when_opened(opened):
    page = opened()
    page.locator("#activity details", has=page.locator(".plotly-graph-div")).locator("> summary").first.click()
    page.wait_for_function("document.querySelector('#figure-activity-1 .main-svg').clientWidth > 900")


def test_a_table_can_be_copied(opened):
    page = opened()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("button[data-copies=table-models]").click()
    page.locator("button[data-copies=table-models]", has_text="Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.splitlines()[0].startswith("Variant\tRole\t")
    assert copied.splitlines()[2].startswith("esd\terased\t")


def test_print_shows_everything_and_leaves_the_page_as_it_was(opened, tmp_path):
    page = opened()
    before = page.evaluate("document.querySelectorAll('details[open]').length")
    page.evaluate(
        "addEventListener('beforeprint', () => { window.atPrint ="
        " [document.querySelectorAll('details:not([open])').length,"
        "  Math.max(...[...document.querySelectorAll('.plotly-graph-div')]"
        "    .map(plot => plot.offsetHeight * (plot.style.zoom || 1)))]; })"
    )
    pdf = page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert len(pdf) > 100_000
    closed, tallest = page.evaluate("window.atPrint")
    assert closed == 0 and tallest < 1000
    assert page.evaluate("document.querySelectorAll('details[open]').length") == before
    assert page.evaluate("document.querySelector('#figure-rates-0').style.zoom") == ""
