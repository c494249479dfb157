"""The pages in a real browser, started by `workbench app`, with every request and the console watched."""

import shutil
import zipfile
from contextlib import ExitStack
from urllib.parse import parse_qs, urlencode, urlparse

import pytest
from playwright.sync_api import expect

from tests.browser.looks import scrolls_sideways_in_no_look, settle
from tests.pages.example_runs import manifest, node, recorded, running, status, stopped, write_all
from tests.pages.serving import served
from tests.report.example import write_example
from workbench.resources import EXAMPLE_FOLDER
from workbench.ui.navigation import pages

LISTED = pages()
PAGES = tuple(page.name for page in LISTED if page.of_run)


@pytest.fixture(scope="module")
def addresses(tmp_path_factory):
    """{"some": address of an app on one run of every kind, "none": on an empty folder}."""
    folder = tmp_path_factory.mktemp("served")
    write_all(folder / "some")
    recorded(folder / "some" / "recorded")
    (folder / "none").mkdir()
    without_example = {EXAMPLE_FOLDER: ""}
    with ExitStack() as servers:
        started = {
            name: servers.enter_context(served(folder / name, folder / f"{name}.log", environment=without_example))
            for name in ("some", "none")
        }
        yield {"folder": folder / "some"} | started


@pytest.fixture
def opened(browser, addresses):
    """opened(page, run, **options) -> a page that has come to rest; requests and console are checked at the end.

    page   its name in the address; "" is the address without one
    """
    pages, requests, problems = [], [], []

    def open_page(name, run=None, **options):
        page = browser.new_page(**({"viewport": {"width": 1280, "height": 900}} | options))
        pages.append(page)
        page.on("request", lambda request: requests.append(request.url))
        page.on("websocket", lambda socket: requests.append(socket.url))
        page.on("console", lambda message: problems.append(message) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(error))
        address = addresses["some" if run else "none"]
        page.goto(f"{address}/{name}" + (f"?{urlencode({'run': run})}" if run else ""))
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
    return path in {f"/{page.name}/_stcore/{what}" for page in LISTED for what in ("health", "host-config")}


def address_of(page):
    """(path, {key: values}) of the page's address."""
    where = urlparse(page.url)
    return where.path, parse_qs(where.query)


def main_text(page):
    return page.locator("[data-testid=stMain]").inner_text()


def shows(page, *sentences):
    """The main part of the page says these sentences, at once or after what is being drawn is there."""
    for sentence in sentences:
        expect(page.locator("[data-testid=stMain]")).to_contain_text(sentence, use_inner_text=True)


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


@pytest.mark.parametrize("name", ["overview", "lab"])  # every page: tests/pages
def test_without_runs_a_page_says_how_to_make_one(opened, name):
    page = opened(name)
    shows(page, "No runs yet", "workbench demo")


DAMAGED = [
    ("overview", "damaged", "is not valid JSON"),
    ("images", "older", "another version"),
    ("sensitivity", "reportless", "is missing"),
]


@pytest.mark.parametrize("name, run, sentence", DAMAGED)
def test_a_damaged_run_is_one_sentence_and_the_picker_still_works(opened, name, run, sentence):
    page = opened(name, run)
    shows(page, sentence)
    expect(page.locator("[data-testid=stMain] [data-testid=stAlert]")).to_have_count(1)
    pick_run(page, "finished")
    page.locator("[data-testid=stMain] h1").wait_for()
    settle(page)
    assert sentence not in main_text(page)
    page.wait_for_url("**run=finished*")


def pick_run(page, run):
    picker = page.locator(".st-key-run [data-baseweb=select], .st-key-run input").first
    picker.click()
    page.get_by_role("option", name=run, exact=True).click()


@pytest.mark.parametrize("name", ["overview", "neurons"])
def test_a_running_run_shows_progress_and_its_pictures(opened, name):
    page = opened(name, "running")
    text = main_text(page)
    assert "Run in progress" in text and "25 %" in text and "about 5 min" in text
    expect(page.locator("[data-testid=stMain] [data-testid=stImage] img")).to_have_count(3)
    assert sharpness(page, 0) < 15


def test_an_open_page_follows_a_run_to_its_end(opened, addresses):
    folder = running(addresses["folder"] / "followed")
    page = opened("overview", "followed")
    shows(page, "25 %")
    status(folder, "running", done=240.0)
    page.locator("[data-testid=stMain] [data-testid=stProgress]", has_text="50 %").wait_for()
    write_example(folder / "report")
    manifest(folder, [node("generate", "base", "target")])
    status(folder, "done", done=480.0)
    page.locator("[data-testid=stMain] h1", has_text="Does erasing").wait_for()
    settle(page)
    expect(page.locator("[data-testid=stPlotlyChart]")).to_have_count(1)


def test_a_page_of_a_stopped_run_notices_that_the_run_goes_on(opened, addresses):
    folder = stopped(addresses["folder"] / "resumed")
    page = opened("sensitivity", "resumed")
    shows(page, "This run is not finished", "the disk is full")
    status(folder, "running", done=360.0)
    page.locator("[data-testid=stMain] [data-testid=stProgress]", has_text="75 %").wait_for()
    expect(page.locator("[data-testid=stMain]")).not_to_contain_text("This run is not finished")
    shutil.rmtree(folder)
    page.locator("[data-testid=stMain] h1", has_text="No such run").wait_for()
    assert address_of(page) == ("/sensitivity", {"run": ["resumed"]})


TITLES = {page.name: page.title for page in LISTED} | {"": "Does erasing", "overview": "Does erasing", "neuron": "·"}
LINKED = [page for page in LISTED if not page.hidden]


@pytest.mark.parametrize("name", ["", *PAGES])
def test_every_address_of_a_page_opens_it_and_stays_and_none_scrolls_sideways(opened, name, tmp_path):
    page = opened(name, "finished")
    assert TITLES[name] in page.locator("[data-testid=stMain] h1").first.inner_text()
    expect(page.locator("[role=dialog]")).to_have_count(0)
    assert address_of(page) == (f"/{name}", {"run": ["finished"]})
    links = page.locator("[data-testid=stSidebar] [data-testid=stPageLink] a")
    assert links.all_inner_texts() == [one.title for one in LINKED]
    shown = page.locator("[data-testid=stMain] [data-testid=stPageLink] a").all_inner_texts()
    others = [one for one in LINKED if one.name != (name or LISTED[0].name)]
    assert [text.split("\n")[-1] for text in shown if ": " in text] == [f"{one.title}: {one.why}" for one in others]
    scrolls_sideways_in_no_look(page, tmp_path / (name or "root"))


def test_a_run_that_is_not_there_is_missing_and_the_address_keeps_its_name(opened):
    page = opened("images", "../../etc/<script>alert(1)</script>")
    shows(page, 'There is no run "../../etc/<script>alert(1)</script>"', "finished")
    expect(page.locator("[data-testid=stMetric], [data-testid=stImage]")).to_have_count(0)
    page.wait_for_timeout(3000)  # longer than the page takes to look anew
    assert address_of(page) == ("/images", {"run": ["../../etc/<script>alert(1)</script>"]})
    pick_run(page, "finished")
    page.wait_for_url("**run=finished*")
    page.locator("[data-testid=stMain] h1", has_text="Images").wait_for()


def test_the_picker_marks_runs_that_are_not_finished(opened):
    page = opened("overview", "finished")
    page.locator(".st-key-run [data-baseweb=select], .st-key-run input").first.click()
    page.get_by_role("option").first.wait_for()
    shown = page.get_by_role("option").all_inner_texts()
    assert {"finished", "stopped (stopped)", "torn (damaged)", "older (damaged)"} <= set(shown)
    assert "running (running)" in shown


def test_a_neuron_in_the_address_opens_its_card(opened, addresses):
    page = opened("neurons", "finished")
    shows(page, "No neuron is selected")
    field = page.locator(".st-key-selected input")
    wanted = field.get_attribute("placeholder").removeprefix("layer:number, such as ")
    field.fill(wanted)
    field.press("Enter")
    card = page.locator("[data-testid=stMain] h3", has_text=f"Neuron {wanted}")
    card.wait_for()
    link = page.url
    assert address_of(page)[1] == {"run": ["finished"], "selected": [wanted]}
    page.goto(link)
    card.wait_for()
    page.goto(f"{addresses['some']}/neurons?run=finished&selected=%3Cscript%3E")
    page.locator("[data-testid=stMain] [data-testid=stAlert]", has_text='No neuron is called "<script>"').wait_for()
    assert address_of(page)[1]["selected"] == ["<script>"]


def test_a_point_of_the_figure_opens_the_card_of_its_neuron(opened):
    page = opened("neurons", "finished")
    point = page.locator("[data-testid=stPlotlyChart] .scatterlayer .trace .points path").first
    point.scroll_into_view_if_needed()
    point.click(force=True)
    page.locator("[data-testid=stMain] h3", has_text="Neuron ").last.wait_for()
    page.wait_for_url("**selected=*")


def test_the_page_of_neurons_shows_figure_sets_table_and_says_whether_the_choice_is_stable(opened):
    page = opened("neurons", "finished")
    headings = page.locator("[data-testid=stMain] h3").all_inner_texts()
    for words in (
        "Which neurons",
        "Named neuron sets",
        "All neurons",
        "Is the choice of neurons stable?",
    ):
        assert any(words in heading for heading in headings), (words, headings)
    expect(page.locator("[data-testid=stPlotlyChart]")).to_have_count(2)
    assert page.locator("[data-testid=stDataFrame]").count() >= 1
    shows(page, "400 neurons, page 1 of", "Yes: the choice is stable")
    page.locator(".st-key-neurons-role").get_by_text("pruned", exact=True).click()
    page.wait_for_function("document.querySelector('[data-testid=stMain]').innerText.includes('80 neurons, page 1 of')")
    settle(page)


def test_the_page_of_clusters_shows_where_they_are_active_blurred(opened):
    page = opened("clusters", "finished")
    assert "Where in the image is a cluster active?" in page.locator("[data-testid=stMain] h3").all_inner_texts()
    alts = page.locator("[data-testid=stImage] img").evaluate_all("images => images.map(image => image.alt)")
    assert len(alts) == 2 and all("(blurred)" in alt for alt in alts) and sharpness(page, 0) < 15


def test_another_site_cannot_frame_the_pages(browser, addresses):
    page = browser.new_page()
    with page.expect_console_message(lambda message: "frame-ancestors" in message.text or "X-Frame-Options" in message.text):
        page.set_content(f'<iframe src="{addresses["some"]}/overview?run=finished" width="900" height="700"></iframe>')
    expect(page.frames[1].locator("[data-testid=stApp]")).to_have_count(0)
    page.close()


def test_the_overview_gives_answer_story_and_pictures_and_folds_the_rest(opened):
    page = opened("overview", "finished")
    text = main_text(page).replace("\u00a0", " ")
    assert "Without attack, esd shows heart in 4 % of its images (base model 97 %)" in text and "n = 180 images and 60 units" in text
    expect(page.locator("[data-testid=stPlotlyChart]")).to_have_count(1)
    alts = page.locator("[data-testid=stImage] img").evaluate_all("images => images.map(image => image.alt)")
    assert len(alts) == 5 and all("prompt:" in alt for alt in alts)
    page.locator("[data-testid=stExpander] summary", has_text="Numbers of this story").click()
    page.locator("[data-testid=stMetric]").last.wait_for()
    expect(page.locator("[data-testid=stMetric]")).to_have_count(4)
    assert main_text(page).count("95 % interval") >= 4


def test_the_address_reopens_a_story(opened):
    page = opened("overview", "finished")
    page.locator(".st-key-overview-story").get_by_text("uce", exact=True).click()
    page.wait_for_url("**overview-story=uce*")
    page.locator("[data-testid=stMain] h5", has_text="uce shows heart").wait_for()
    page.reload()
    page.locator("[data-testid=stMain] h5", has_text="uce shows heart").wait_for()


def test_a_cell_of_layer_and_call_opens_the_neurons_behind_it(opened):
    page = opened("sensitivity", "recorded")
    cells = page.locator("[data-testid=stDataFrame] canvas").first
    cells.scroll_into_view_if_needed()
    box = cells.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 40, box["y"] + 52)
    page.locator("[data-testid=stMain]", has_text="those that change most first").wait_for()
    shows(page, "at call 12")
    expect(page.locator("[data-testid=stDataFrame]")).to_have_count(2)


def test_a_figure_is_drawn_when_its_fold_is_opened(opened):
    page = opened("sensitivity", "finished")
    expect(page.locator("[data-testid=stPlotlyChart]")).to_have_count(1)
    page.locator("[data-testid=stExpander] summary", has_text="Effects of erasing").click()
    page.locator("[data-testid=stPlotlyChart]").nth(1).locator(".main-svg").first.wait_for()
    expect(page.locator("[data-testid=stPlotlyChart]")).to_have_count(2)


def test_the_links_at_the_end_keep_the_run(opened):
    page = opened("overview", "finished")
    page.locator("[data-testid=stMain] [data-testid=stPageLink] a", has_text="Sensitivity").click()
    page.wait_for_url("**/sensitivity*run=finished*")
    page.locator("[data-testid=stMain] h1", has_text="Sensitivity").wait_for()
    page.locator("[data-testid=stSidebar] [data-testid=stPageLink] a", has_text="Images").click()
    page.locator("[data-testid=stMain] h1", has_text="Images").wait_for()
    page.wait_for_url("**/images*run=finished*")
    page.go_back()
    page.locator("[data-testid=stMain] h1", has_text="Sensitivity").wait_for()
    page.go_back()
    page.locator("[data-testid=stMain] h1", has_text="Does erasing").wait_for()


def test_pictures_are_blurred_in_the_pixels_until_the_switch_is_turned_off(opened):
    page = opened("images", "finished")
    assert sharpness(page, 0) < 15
    page.locator(".st-key-blur label").first.click()
    page.wait_for_function("document.querySelector('[data-testid=stMain]').innerText.includes('Images are shown as drawn')")
    settle(page)
    assert sharpness(page, 0) > 40


def test_the_matrix_has_a_cell_for_every_picture_and_a_blend(opened):
    page = opened("images", "finished")
    shows(page, "esd-pruned", "Compare two conditions")
    expect(page.locator("[data-testid=stImage] img")).to_have_count(4 * 7 + 4)
    shows(page, "<script>alert(1)</script> a red heart")


def test_an_image_opens_large_and_closes_by_the_keyboard(opened):
    page = opened("images", "finished")
    page.locator("[data-testid=stMain] button", has_text="concept found").first.click()
    dialog = page.locator("[role=dialog]")
    dialog.locator("img").wait_for()
    assert dialog.locator("img").bounding_box()["width"] > 400 and "heart" in dialog.inner_text()
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")


def test_every_figure_has_an_alternative_text(opened):
    page = opened("sensitivity", "finished")
    texts = page.locator("[data-testid=stPlotlyChart]").evaluate_all(
        "charts => charts.map(chart => { const named = chart.matches('[aria-label], [alt]') ? chart"
        " : chart.querySelector('[aria-label], [alt]') || chart.closest('[aria-label]');"
        " return named ? (named.getAttribute('aria-label') || named.getAttribute('alt')) : ''; })"
    )
    assert len(texts) == 1
    assert all(len(text) > 40 for text in texts), texts


def test_the_command_that_made_the_run_is_shown(opened):
    page = opened("overview", "finished")
    page.locator(".st-key-command summary").click()
    page.locator(".st-key-command code").first.wait_for()
    text = page.locator(".st-key-command").inner_text()
    assert "workbench run analyses/emoji-heart.toml --set attack.steps=40" in text and "import workbench" in text


def test_a_downloaded_report_opens_and_asks_nothing_of_any_network(opened, browser, tmp_path):
    page = opened("report", "finished")
    got = {}
    for name in ("html", "zip"):
        with page.expect_download() as download:
            page.locator(f".st-key-report-get-{name} button").first.click()
        got[name] = tmp_path / download.value.suggested_filename
        download.value.save_as(got[name])
    assert zipfile.ZipFile(got["zip"]).testzip() is None
    report, asked, wrong = browser.new_page(), [], []
    report.on("request", lambda request: asked.append(request.url))
    report.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    report.goto(got["html"].as_uri(), timeout=120_000)
    report.locator("#verdict h2").wait_for()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == [] and wrong == []
    report.close()


def test_the_report_is_seen_in_the_page(opened):
    page = opened("report", "finished")
    page.get_by_text("Show the HTML report here").click()
    frame = page.frame_locator("[data-testid=stIFrame], iframe[srcdoc]").first
    frame.locator("#verdict h2").wait_for(timeout=120_000)
    assert frame.locator("#verdict h2").inner_text() == "Verdict"
