"""Maps over images: what is hidden cannot be seen, what is even has no colour, the line is where the number says it is."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from tests.report.example import HOSTILE, example, write_example
from workbench.report import document as schema
from workbench.report import region_cards, region_pictures
from workbench.report.content import Report
from workbench.report.images import COARSE
from workbench.report.region_pictures import overlay, place, scale, small, webp
from workbench.report.renderers import html, markdown

CELL = 4
SIZE = COARSE * CELL


def picture(seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8))


def hill(y, x, size=16, height=4.0):
    at = (np.arange(size) + 0.5) / size
    return height * np.exp(-((at[:, None] - y) ** 2 + (at[None] - x) ** 2) / 0.02)


def swapped(array):
    """The same means over each cell of the coarse grid, other details: every cell upside down."""
    cells = array.reshape(COARSE, CELL, COARSE, CELL, -1)
    return cells[:, ::-1].reshape(array.shape)


def pixels(image):
    return np.asarray(image.convert("RGB"), int)


def test_a_hidden_overlay_is_the_same_for_all_pictures_and_maps_that_a_blurred_picture_does_not_tell_apart():
    shown, level = picture(), np.random.default_rng(1).random((SIZE, SIZE)) * 3
    other, moved = Image.fromarray(swapped(np.asarray(shown))), swapped(level)
    hidden = pixels(overlay(shown, level, 3, hide=True))
    assert np.abs(hidden - pixels(overlay(other, level, 3, hide=True))).max() <= 2
    assert np.abs(hidden - pixels(overlay(shown, moved, 3, hide=True))).max() <= 2
    assert np.abs(pixels(overlay(shown, level, 3)) - pixels(overlay(other, level, 3))).max() > 50


def test_a_map_that_is_the_same_everywhere_has_no_colour_and_a_peak_has():
    even = pixels(overlay(picture(), np.ones((8, 8)), 3))
    assert (even == even[..., :1]).all()
    peak = pixels(overlay(Image.new("RGB", (64, 64), "white"), hill(0.3, 0.7), 4.0))
    y, x = int(0.3 * region_pictures.SIDE), int(0.7 * region_pictures.SIDE)
    assert peak[y, x, 0] > peak[y, x, 2] + 60 and np.ptp(peak[-5, 5]) == 0


@pytest.mark.parametrize("paper", ["white", "black"])
def test_heat_differs_from_grey_by_lightness_too_and_the_line_is_seen_on_any_picture(paper):
    red, green, blue = region_pictures.HEAT.T
    light = 0.299 * red + 0.587 * green + 0.114 * blue
    assert (np.diff(light) < -20).all()
    shown = pixels(overlay(Image.new("RGB", (64, 64), paper), hill(0.5, 0.5), 4.0))
    assert (shown == 0).all(-1).any() and (shown == 255).all(-1).any()


def test_the_line_encloses_a_tenth_of_the_picture():
    line = (pixels(overlay(Image.new("RGB", (64, 64), "white"), hill(0.5, 0.5), 4.0)) == 0).all(-1)
    rows, columns = np.flatnonzero(line.any(1)), np.flatnonzero(line.any(0))
    disc = np.pi / 4 * (np.ptp(rows) + 1) * (np.ptp(columns) + 1) / line.size
    assert disc == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(
    ("level", "words"),
    [
        (hill(0.2, 0.2), "upper left"),
        (hill(0.5, 0.5), "centre"),
        (hill(0.85, 0.5), "bottom"),
        (hill(0.5, 0.9), "right"),
        (hill(0.1, 0.1) + hill(0.9, 0.9), "several places"),
    ],
)
def test_where_it_lies_is_said_in_words(level, words):
    assert place(level) == words


def test_all_maps_share_one_scale_that_does_not_blow_up_noise():
    assert scale([np.ones((8, 8)), np.full((8, 8), 1.1)]) == region_pictures.LEAST_TOP and scale([]) == region_pictures.LEAST_TOP
    assert scale([np.ones((8, 8)), np.full((8, 8), 5.0)]) == 5


def test_pictures_are_small_and_keep_their_shape():
    assert small(Image.new("L", (512, 256))).size == (region_pictures.SIDE, region_pictures.SIDE // 2)
    assert overlay(Image.new("RGB", (32, 64)), np.ones((8, 4)), 2).size == (region_pictures.SIDE // 2, region_pictures.SIDE)
    raw = webp(overlay(picture(), hill(0.5, 0.5), 4.0, hide=True))
    assert len(raw) < 10_000 and Image.open(io.BytesIO(raw)).format == "WEBP"


def test_a_card_says_how_sure_it_is_and_why_a_picture_is_missing():
    first, attacked, silent = region_cards.cards(Report(example()))
    assert "31.0 % of its activity in its most active tenth (outlined, at the upper left)" in first["words"]
    assert (
        "an even map has 10.0 %" in first["words"]
        and "199 random sets 10.0 to 20.0 %, p = 0.005" in first["words"]
        and "n = 1" in first["words"]
    )
    assert [shot["words"] for shot in first["shots"]] == ["drawn and recorded", "activity map"]
    assert [shot["words"] for shot in attacked["shots"]] == ["drawn", "base image, recorded", "activity map"]
    assert "no random sets: too few other neurons" in attacked["words"]
    assert silent["shots"] == [] and silent["words"] == "— every neuron is 0" and silent["reason"] == "every neuron is 0"
    assert all(shot["alt"] and "blurred" in shot["alt"] for shot in first["shots"] + attacked["shots"])


def test_the_reports_show_every_picture_with_its_words_and_no_prompt_as_markup(tmp_path):
    document = write_example(tmp_path)
    page = html.render_html(document, tmp_path)
    part = page[page.index("Where clusters are active in the image") : page.index('<section id="ablation">')]
    sources = re.findall(r'<img src="(data:image/webp;base64,[^"]+)" alt="([^"]+)"', part)
    assert len(sources) == 5 and sum(len(uri) for uri, _ in sources) < 60_000
    assert any("where cluster 1 is active in esd, attack unlearndiffatk: 20.0 %" in alt for _, alt in sources)
    assert HOSTILE not in page and "&lt;script&gt;alert(1)" in part and "Images are blurred, and maps are as coarse" in part
    words = markdown.render_markdown(document)
    assert words.count("](images/region-") == 5 and HOSTILE not in words and "](images/region-1.webp)" in words


def test_pictures_that_do_not_fit_are_counted_those_of_the_first_units_stay(tmp_path, monkeypatch):
    document = write_example(tmp_path)
    first = document["cluster_regions"][0]
    many = [first | {"rank": rank, "cluster": cluster} for cluster in (0, 1) for rank in (1, 2, 3)]
    document["cluster_regions"] = many
    every, pixels, left_out, used = region_cards.fitting(Report(document), tmp_path)
    assert len(every) == 6 and left_out == 0 and len(pixels) == 2
    shown, _, left_out, less = region_cards.fitting(Report(document), tmp_path, used // 2)
    assert [card["row"]["rank"] for card in shown] == [1, 2, 1] and left_out == 3 and less <= used // 2
    monkeypatch.setattr(region_cards, "ROOM", used // 2)
    assert "3 sets of pictures were left out" in html.render_html(document, tmp_path)


def test_reports_from_before_there_were_pictures_still_open(tmp_path):
    document = write_example(tmp_path)
    for row in document["cluster_regions"]:
        for name in ("drawn", "read_on", "overlay", "blurred", "place", "top", "picture_reason"):
            del row[name]
    document = schema.with_added(document)
    schema.check(document)
    assert "data:image/webp" not in html.render_html(document, tmp_path).split("Where clusters are active in the image")[1]
