"""Neurons that are picked on one page are there on the others, and a link opens the view again."""

import re
import shutil

import pytest

from tests.browser.test_pages import address_of, addresses, main_text, opened, settle  # noqa: F401 - fixtures
from workbench.ui import lists


@pytest.fixture(autouse=True)
def without_lists(addresses):  # noqa: F811
    shutil.rmtree(addresses["folder"] / lists.FOLDER, ignore_errors=True)


def fill(page, key, text):
    field = page.locator(f".st-key-{key} input")
    field.fill(text)
    field.press("Enter")
    settle(page)


def wait_for(page, text):
    page.wait_for_function("text => document.querySelector('[data-testid=stMain]').innerText.includes(text)", arg=text)
    settle(page)


def test_neurons_drawn_around_on_the_map_are_kept_and_seen_on_the_page_neurons(opened):  # noqa: F811
    page = opened("clusters", "finished")
    plot = page.locator(".st-key-clusters-map .nsewdrag").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    left, right, top, bottom = box["x"] + 3, box["x"] + box["width"] - 3, box["y"] + 3, box["y"] + box["height"] - 3
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom), (left, top)):
        page.mouse.move(x, y, steps=6)
    page.mouse.up()
    wait_for(page, "of 160 selected")
    n = int(re.search(r"(\d+) neurons of 160 selected", main_text(page)).group(1))
    assert n > 100
    fill(page, "clusters-drawn-new", "drawn")
    page.locator(".st-key-clusters-drawn-save button").click()
    wait_for(page, f"Saved {n} neurons as the list")
    page.locator("[data-testid=stSidebar] [data-testid=stPageLink] a", has_text="Neurons").click()
    wait_for(page, f"{n} neurons, kept in")
    page.locator("[data-testid=stMain] a", has_text="Go through it, neuron by neuron").click()
    wait_for(page, f"1 of {n}")
    assert address_of(page)[0] == "/neuron" and address_of(page)[1]["among"] == ["list:drawn"]


def test_next_goes_through_a_cluster_and_the_address_opens_the_neuron_again(opened, addresses):  # noqa: F811
    page = opened("neuron", "finished")
    page.goto(f"{addresses['some']}/neuron?run=finished&among=cluster:1")
    wait_for(page, "1 of 80")
    page.locator(".st-key-neuron-next button").click()
    wait_for(page, "2 of 80")
    title = page.locator("[data-testid=stMain] h1").inner_text()
    page.goto(page.url)
    wait_for(page, "2 of 80")
    assert page.locator("[data-testid=stMain] h1").inner_text() == title


def test_a_neuron_of_the_table_opens_its_page_and_the_lab_gets_what_is_picked(opened, addresses):  # noqa: F811
    page = opened("neurons", "finished")
    page.goto(f"{addresses['some']}/neurons?run=finished&selected=down1.0.0:4")
    settle(page)
    page.locator("[data-testid=stMain] a", has_text="Open the card of this neuron").click()
    page.locator("[data-testid=stMain] h1", has_text="down1.0.0 · 4").wait_for()
    settle(page)
    fill(page, "neuron-new", "eyes")
    page.locator(".st-key-neuron-save button").click()
    wait_for(page, "In the list eyes")
    lab = page.locator("[data-testid=stMain] a", has_text="Ablate in the lab")
    if lab.count():
        assert "pick=neurons" in lab.first.get_attribute("href")
