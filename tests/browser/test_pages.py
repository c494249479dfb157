"""The pages in a real browser, started by `workbench app`, with every request and the console watched."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from urllib.parse import urlparse

import pytest

from tests.pages.example_runs import manifest, node, running, status, write_all
from tests.report.example import write_example

PAGES = ("overview", "images", "sensitivity")
LOOKS = {
    "light": {"viewport": {"width": 1280, "height": 900}},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "narrow": {"viewport": {"width": 390, "height": 844}},
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(runs, log):
    """(process, address) of `workbench app` on a folder of runs, once it answers."""
    port = free_port()
    words = [sys.executable, "-m", "workbench.cli", "app", "--runs", str(runs), "--port", str(port), "--no-browser"]
    process = subprocess.Popen(words, stdout=log.open("w"), stderr=subprocess.STDOUT, env=os.environ | {"OMP_NUM_THREADS": "1"})
    for _ in range(300):
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1):
                return process, f"http://127.0.0.1:{port}"
        except OSError:
            time.sleep(0.2)
    process.terminate()
    raise AssertionError(f"the app did not answer: {log.read_text()}")


@pytest.fixture(scope="module")
def addresses(tmp_path_factory):
    """{"some": address of an app on one run of every kind, "none": on an empty folder}."""
    folder = tmp_path_factory.mktemp("served")
    write_all(folder / "some")
    (folder / "none").mkdir()
    started = {name: serve(folder / name, folder / f"{name}.log") for name in ("some", "none")}
    yield {"folder": folder / "some"} | {name: address for name, (_, address) in started.items()}
    for process, _ in started.values():
        process.terminate()
        process.wait(timeout=60)
    for _, address in started.values():  # the server ends with the command that started it
        with pytest.raises(OSError):
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=1)


@pytest.fixture
def opened(browser, addresses):
    """opened(page, run, **options) -> a page that has come to rest; requests and console are checked at the end."""
    pages, requests, problems = [], [], []

    def open_page(name, run=None, **options):
        page = browser.new_page(**({"viewport": {"width": 1280, "height": 900}} | options))
        pages.append(page)
        page.on("request", lambda request: requests.append(request.url))
        page.on("websocket", lambda socket: requests.append(socket.url))
        page.on("console", lambda message: problems.append(message) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(error))
        address = addresses["some" if run else "none"]
        page.goto(f"{address}/{'' if name == 'overview' else name}" + (f"?run={run}" if run else ""))
        settle(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    hosts = {urlparse(url).hostname for url in requests if not url.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"}
    assert [str(problem) for problem in problems if not looks_for_the_server(problem)] == []


def looks_for_the_server(message):
    """On a page below the root Streamlit's client asks /page/_stcore/… before /_stcore/…, and the browser notes the 404."""
    path = urlparse(getattr(message, "location", {}).get("url", "")).path
    return path in {f"/{name}/_stcore/{what}" for name in PAGES for what in ("health", "host-config")}


def settle(page):
    """Wait until the script has run and what it made is drawn."""
    page.locator("[data-testid=stAppViewContainer]").wait_for()
    page.locator("[data-testid=stMain] :is(h1, h3, [data-testid=stAlert])").first.wait_for()
    page.wait_for_function("!document.querySelector('[data-testid=stApp][data-test-script-state=running]')")
    page.wait_for_function(
        "[...document.querySelectorAll('[data-testid=stPlotlyChart]')].every(one => one.querySelector('.main-svg'))"
        " && !document.querySelector('[data-testid=stSkeleton]') && [...document.images].every(one => one.complete)"
    )


def main_text(page):
    return page.locator("[data-testid=stMain]").inner_text()


def sharpness(page, place):
    """Mean difference of neighbouring pixels of the picture at a place among the images of the page."""
    return page.evaluate(
        "place => { const image = document.querySelectorAll('[data-testid=stImage] img')[place];"
        " const canvas = Object.assign(document.createElement('canvas'), {width: image.naturalWidth, height: image.naturalHeight});"
        " const pen = canvas.getContext('2d'); pen.drawImage(image, 0, 0);"
        " const {data, width} = pen.getImageData(0, 0, canvas.width, canvas.height);"
        " let sum = 0, n = 0;"
        " for (let i = 4; i < data.length; i += 4) if ((i / 4) % width) { sum += Math.abs(data[i] - data[i - 4]); n++; }"
        " return sum / n; }",
        place,
    )


@pytest.mark.parametrize("name", PAGES)
def test_without_runs_every_page_says_how_to_make_one(opened, name):
    page = opened(name)
    assert "No runs yet" in main_text(page) and "workbench demo" in main_text(page)


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("run, sentence", [("damaged", "is not valid JSON"), ("older", "another version"), ("reportless", "is missing")])
def test_a_damaged_run_is_one_sentence_and_the_picker_still_works(opened, name, run, sentence):
    page = opened(name, run)
    assert sentence in main_text(page)
    assert page.locator("[data-testid=stMain] [data-testid=stAlert]").count() == 1
    pick_run(page, "finished")
    page.locator("[data-testid=stMain] h1").wait_for()
    settle(page)
    assert sentence not in main_text(page)
    page.wait_for_url("**run=finished*")


def pick_run(page, run):
    picker = page.locator(".st-key-run [data-baseweb=select], .st-key-run input").first
    picker.click()
    page.get_by_role("option", name=run, exact=True).click()


@pytest.mark.parametrize("name", PAGES)
def test_a_running_run_shows_progress_and_its_pictures(opened, name):
    page = opened(name, "running")
    text = main_text(page)
    assert "This run is going on" in text and "25 %" in text and "about 5 min" in text
    assert page.locator("[data-testid=stMain] [data-testid=stImage] img").count() == 3
    assert sharpness(page, 0) < 15


def test_an_open_page_follows_a_run_to_its_end(opened, addresses):
    folder = running(addresses["folder"] / "followed")
    page = opened("overview", "followed")
    assert "25 %" in main_text(page)
    status(folder, "running", done=240.0)
    page.locator("[data-testid=stMain] [data-testid=stProgress]", has_text="50 %").wait_for()
    write_example(folder / "report")
    manifest(folder, [node("generate", "base", "target")])
    status(folder, "done", done=480.0)
    page.locator("[data-testid=stMain] h1", has_text="Does erasing").wait_for()
    settle(page)
    assert page.locator("[data-testid=stMetric]").count() == 4


def test_the_overview_gives_verdict_numbers_and_pictures(opened):
    page = opened("overview", "finished")
    text = main_text(page)
    assert "The neurons that carry heart are deactivated" in text
    assert page.locator("[data-testid=stMetric]").count() == 4
    assert text.count("95 % interval") >= 4 and "n = 180" in text
    alts = page.locator("[data-testid=stImage] img").evaluate_all("images => images.map(image => image.alt)")
    assert len(alts) == 4 and all("prompt:" in alt for alt in alts)


def test_the_links_at_the_end_keep_the_run(opened):
    page = opened("overview", "finished")
    page.locator("[data-testid=stMain] [data-testid=stPageLink] a", has_text="Sensitivity").click()
    page.wait_for_url("**/sensitivity*run=finished*")
    page.locator("[data-testid=stMain] h1", has_text="Sensitivity").wait_for()
    page.locator("[data-testid=stSidebarNav] a", has_text="Images").click()
    page.locator("[data-testid=stMain] h1", has_text="Images").wait_for()
    page.wait_for_url("**/images*run=finished*")


def test_pictures_are_blurred_in_the_pixels_until_the_switch_is_turned_off(opened):
    page = opened("images", "finished")
    assert sharpness(page, 0) < 15
    page.locator(".st-key-blur label").first.click()
    page.wait_for_function("document.querySelector('[data-testid=stMain]').innerText.includes('Pictures are shown as drawn')")
    settle(page)
    assert sharpness(page, 0) > 40


def test_the_matrix_has_a_cell_for_every_picture_and_a_blend(opened):
    page = opened("images", "finished")
    assert "esd-pruned" in main_text(page) and "Two conditions over each other" in main_text(page)
    assert page.locator("[data-testid=stImage] img").count() == 4 * 7 + 3
    assert "<script>alert(1)</script> a red heart" in main_text(page)


def test_every_figure_has_an_alternative_text(opened):
    page = opened("sensitivity", "finished")
    texts = page.locator("[data-testid=stPlotlyChart]").evaluate_all(
        "charts => charts.map(chart => { const named = chart.matches('[aria-label], [alt]') ? chart"
        " : chart.querySelector('[aria-label], [alt]') || chart.closest('[aria-label]');"
        " return named ? (named.getAttribute('aria-label') || named.getAttribute('alt')) : ''; })"
    )
    assert len(texts) == 6
    assert all(len(text) > 40 for text in texts), texts


def test_the_command_that_made_the_run_is_shown(opened):
    page = opened("overview", "finished")
    page.locator(".st-key-command summary").click()
    page.locator(".st-key-command code").first.wait_for()
    text = page.locator(".st-key-command").inner_text()
    assert "workbench run analyses/emoji-heart.toml --set attack.steps=40" in text and "import workbench" in text


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("look", LOOKS)
def test_no_page_scrolls_sideways_in_any_look(opened, name, look, tmp_path):
    page = opened(name, "finished", **LOOKS[look])
    main = page.locator("[data-testid=stMain]")
    assert main.evaluate("main => main.scrollWidth - main.clientWidth") <= 0
    assert page.evaluate("document.documentElement.scrollWidth") <= LOOKS[look]["viewport"]["width"]
    page.screenshot(path=tmp_path / f"{name}-{look}.png")
