"""A study written, costed, started, left, found again, stopped, continued and opened in a real browser."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.looks import scrolls_sideways_in_no_look
from tests.pages.example_runs import write_all
from tests.pages.serving import served
from tests.tiny_study import STUDY, written
from workbench.execution import jobs
from workbench.resources import EXAMPLE_FOLDER
from workbench.ui import run_list

SECONDS = 240_000  # a run of the tiny study takes some 20 s on a quiet machine


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """(folder of runs, address of an app on it)."""
    runs = write_all(tmp_path_factory.mktemp("served") / "runs")
    with served(runs, runs.parent / "app.log", environment={EXAMPLE_FOLDER: ""}) as address:
        yield runs, address


def settled(page):
    page.locator("[data-testid=stMain] h1").first.wait_for(timeout=60_000)
    page.wait_for_function("!document.querySelector('[data-testid=stApp][data-test-script-state=running]')", timeout=60_000)
    return page.locator("[data-testid=stMain]")


def press(page, key):
    page.locator(f".st-key-{key} button").first.click()  # the second one is its help


def test_a_study_is_written_started_left_found_again_stopped_continued_and_opened(browser, place, tiny_folder, tmp_path):
    runs, address = place
    written(tmp_path, tiny_folder)
    text = STUDY.format(base=tiny_folder).replace("iterations = 2, looks = 2", "iterations = 60, looks = 2")  # long enough to be stopped
    for name in ("target", "reference", "near"):
        text = text.replace(f'"{name}.csv"', f'"{tmp_path / name}.csv"')
    page = browser.new_page()
    page.goto(f"{address}/new_study")
    main = settled(page)
    area = page.locator(".st-key-new-area textarea")
    area.fill(text.replace('"esd"', '"esdd"'))
    area.press("Control+Enter")
    expect(main.locator("[data-testid=stAlert]", has_text='Did you mean "esd"')).to_be_visible(timeout=60_000)
    area.fill(text)
    area.press("Control+Enter")
    expect(main.locator("[data-testid=stAlert]", has_text="This is a study: 2 variants, 2 attacks")).to_be_visible(timeout=60_000)
    title = page.get_by_label("Title", exact=True)
    expect(title).to_have_count(1, timeout=60_000)  # the fields of the text before are gone
    expect(title).to_have_value("A tiny study")
    title.fill("Written in a form")
    title.press("Enter")
    expect(area).to_have_value(re.compile('title = "Written in a form"'), timeout=60_000)
    press(page, "new-cost-button")
    expect(main.locator("[data-testid=stTable]", has_text="Nodes to do")).to_be_visible(timeout=SECONDS)
    press(page, "new-start")
    expect(main.locator("h3", has_text="Run tiny")).to_be_visible(timeout=SECONDS)
    assert 'title = "Written in a form"' in (runs / "studies" / "tiny.toml").read_text()
    page.close()

    page = browser.new_page()
    page.goto(f"{address}/runs?run=tiny")
    main = settled(page)
    stop = page.locator(".st-key-runs-stop button").first
    expect(stop).to_be_enabled(timeout=SECONDS)
    assert jobs.status(runs / "tiny")["state"] == "running"
    stop.click()
    expect(main.locator("[data-testid=stAlert]", has_text="This run is not finished")).to_be_visible(timeout=SECONDS)
    before = jobs.status(runs / "tiny")
    assert before["state"] == "stopped" and before["nodes_done"] < before["nodes"]
    expect(main.locator("[data-testid=stCode]", has_text="stopped in")).to_be_visible(timeout=60_000)
    press(page, "runs-resume")
    expect(main.locator("[data-testid=stAlert]", has_text="This run is finished")).to_be_visible(timeout=SECONDS)
    assert jobs.status(runs / "tiny")["state"] == "finished"
    press(page, "runs-open")
    expect(page.locator("[data-testid=stMain] h1", has_text="Written in a form")).to_be_visible(timeout=60_000)
    assert "run=tiny" in page.url
    page.close()


def test_a_picked_row_is_the_run_of_the_address_and_of_the_sidebar(browser, place):
    runs, address = place
    first = run_list.list_runs(runs)[0]
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{address}/runs?run=finished")
    main = settled(page)
    table = page.locator(".st-key-runs-table canvas").first
    table.wait_for()
    page.wait_for_timeout(1000)  # until the table has its place
    box = table.bounding_box()
    page.mouse.click(box["x"] + 15, box["y"] + 35 + 17)  # the box of the first row
    page.wait_for_url(f"**run={first}*")
    expect(main.locator("h3", has_text=first).first).to_be_visible(timeout=60_000)
    page.close()


@pytest.mark.parametrize("name", ["runs", "new_study"])
def test_neither_page_scrolls_sideways_in_any_look(browser, place, name, tmp_path):
    _, address = place
    page = browser.new_page()
    page.goto(f"{address}/{name}?run=stopped")
    settled(page)
    scrolls_sideways_in_no_look(page, tmp_path / name)
    page.close()
