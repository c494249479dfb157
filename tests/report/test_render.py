import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from tests.report.example import HOSTILE, example, write_example
from workbench.errors import RunError
from workbench.report import document as schema
from workbench.report.content import Report
from workbench.report.images import matrix
from workbench.report.renderers.csv_files import from_csv
from workbench.report.renderers.html import render_html
from workbench.report.renderers.markdown import render_markdown
from workbench.report.renderers.render import neurons, render
from workbench.report.sections.neuron_choice import sentence
from workbench.report.sections.neurons import reactivation_figure, top_neurons


class Page(HTMLParser):
    """Every tag with its attributes, the text outside script and style, scripts by themselves."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.words, self.inside = [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside = tag if tag in ("script", "style") else None
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside is None:
            self.words.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_example(folder)
    render(folder)
    return folder


@pytest.fixture(scope="module")
def text(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_nothing_in_the_page_points_outside(page):
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset", "formaction"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("#", "data:")), (tag, name, value[:80])
        assert tag not in ("iframe", "object", "embed", "base", "form")
        assert not any(name.startswith("on") for name in attributes)
        assert "url(" not in (attributes.get("style") or "")


def test_the_policy_allows_nothing_outside_and_comes_before_any_script(page):
    names = [tag for tag, _ in page.tags]
    place, policy = next(
        (place, attributes["content"])
        for place, (_, attributes) in enumerate(page.tags)
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert place < names.index("script") and place < names.index("style")
    assert policy.startswith("default-src 'none'; ")
    assert "http" not in policy and "*" not in policy and "unsafe-eval" not in policy


def test_share_button_and_logo_are_off_in_every_figure(text):
    drawn = re.findall(r"Plotly\.newPlot\(\s+\"(figure-[a-z-]+-\d+)\"", text)
    assert len(drawn) == len(set(drawn)) == 26
    assert len(re.findall(r'"showSendToCloud": ?false', text)) == len(drawn)
    assert len(re.findall(r'"displaylogo": ?false', text)) == len(drawn)


def test_plotly_is_there_exactly_once(page):
    assert sum(len(script) > 1_000_000 for script in page.scripts) == 1


def test_rendering_twice_gives_the_same_bytes(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    before = {path: path.read_bytes() for path in files}
    render(folder)
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == files
    assert [path.name for path in files if path.read_bytes() != before[path]] == []


def test_hostile_prompts_are_text_everywhere(folder, text, page):
    assert HOSTILE not in text
    assert "&lt;script&gt;alert(1)" in text
    assert not any("alert(1)" in script for script in page.scripts)
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    assert "<script" not in markdown


def test_every_hostile_field_is_escaped(tmp_path):
    bad = "</script><script>alert(1)</script><img src=https://x.example/a.png>"
    document = write_example(tmp_path)
    files = {"path", "drawn", "read_on", "overlay"}
    document["study"].update(title=bad, question=bad, text=bad, model_note=bad)
    document["study"]["concept"].update(name=bad, names=[bad])
    document["verdict"].update(headline=bad, reasons=[bad], caveats=[bad])
    document["verdict"]["words"][0].update(word=bad, sentence=bad)
    document["reproduce"].update(command=bad, versions={bad: bad})
    for table in schema.tables():
        for row in document[table]:
            for column in schema.tables()[table].columns:
                if column.type == "text" and row[column.name] is not None and column.name not in files:
                    row[column.name] = f"{bad}{row[column.name]}"
    schema.check(document)
    page = Page(render_html(document, tmp_path))
    assert not any("x.example" in str(attributes.get("src")) for _, attributes in page.tags)
    assert not any(script.strip() == "alert(1)" for script in page.scripts)
    outside = re.sub(r"^(`{3,})\w+\n.*?\n\1$", "", render_markdown(document), flags=re.MULTILINE | re.DOTALL)
    assert "Reproduce" in outside and "<script" not in outside and "<img" not in outside


def test_nulls_are_a_dash_with_their_reason_never_a_zero(tmp_path):
    document = write_example(tmp_path)
    for row in document["rates"]:
        if row["variant"] == "esd" and row["prompt_set"] == "target":
            row.update(n=None, successes=None, rate=None, low=None, high=None)
            row["reason"] = "the detector could not be loaded"
    schema.write(document, tmp_path)
    html = render_html(document, tmp_path)
    row = at_a_glance(html)[("esd", "without attack")]
    assert row[0] == "— the detector could not be loaded" and "0 %" not in row[0]
    assert "None" not in " ".join(Page(html).words) and "null" not in " ".join(Page(html).words)
    assert "nan" not in " ".join(Page(html).words).lower().split()
    assert "— the detector could not be loaded" in render_markdown(document)


def test_headline_numbers_intervals_and_n_are_in_the_page(page):
    words = " ".join(" ".join(page.words).split())
    assert "Without attack, esd shows heart in 4 % of its images (base model 97 %)" in words
    assert "The neurons that carry heart are deactivated" in words
    assert "4 % (2 to 8 %)" in words and "n = 180 images, 60 units" in words and "0.71 (0.65 to 0.77)" in words
    assert "no evidence about Stable Diffusion" in words


def at_a_glance(html):
    """{(variant, condition): the other cells} of the verdict's table."""
    table = re.search(r'<table id="table-at-a-glance">.*?</table>', html, flags=re.DOTALL)[0]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL) for row in table.split("<tr>")[2:]]
    return {(variant, condition): rest for variant, condition, *rest in rows}


def boards(html):
    """{heading: (class of its mark, text of its mark)} of the verdict's findings."""
    found = re.findall(r'<h3>([^<]*?)\s*<span class="word ([a-z]*)">([^<]*)</span>', html, flags=re.DOTALL)
    return {name.strip(): (looks, word) for name, looks, word in found}


def test_the_verdict_is_one_table_with_rate_activity_and_outcome(text):
    rows = at_a_glance(text)
    assert list(rows) == [
        ("base", "without attack"),
        ("esd", "without attack"),
        ("esd", "attack unlearndiffatk"),
        ("esd-pruned", "without attack"),
        ("esd-pruned", "attack unlearndiffatk"),
        ("uce", "without attack"),
        ("uce", "attack unlearndiffatk"),
    ]
    assert rows[("esd", "attack unlearndiffatk")] == ["66 % (58 to 72 %)", "5 % (3 to 9 %)", "0.71 (0.65 to 0.77)", "—", "reactivated"]
    assert rows[("esd-pruned", "without attack")][2] == "— no valid set"
    verdict = text[text.index('<section id="verdict">') :].split("</section>")[0]
    open_part = verdict.split("<details><summary>Evidence")[0]
    assert 'class="word' not in open_part and "What limits this answer" in open_part and verdict.count('class="word') == 6


def test_every_finding_is_folded_below_the_verdict_decided_ones_first(folder, text):
    found = boards(text)
    assert found["esd"] == ("", "deactivated") and found["esd, unlearndiffatk (optimised)"] == ("bad", "reactivated")
    assert found["esd-pruned"] == ("open", "undecided") and found["esd-pruned beside esd, images under unlearndiffatk"] == (
        "",
        "concept in fewer images",
    )
    assert [looks == "open" for looks, _ in found.values()] == [False] * 4 + [True] * 2
    assert all(word["sentence"] in text for word in example()["verdict"]["words"])
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    assert "At a glance" in markdown and "concept in fewer images" in markdown


def test_an_older_verdict_renders_with_its_own_words_in_the_same_looks(folder, tmp_path):
    document = write_example(tmp_path)
    keep = {"sentence": "It is so.", "evidence": []}
    document["verdict"]["words"] = [
        {"subject": "esd", "word": "not silenced"} | keep,
        {"subject": "uce", "word": "silenced"} | keep,
        {"subject": "esd, unlearndiffatk (optimised)", "word": "reactivated"} | keep,
    ]
    (tmp_path / "report.json").write_text(json.dumps(document))
    render(tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    found = boards(html)
    assert found["esd"] == ("bad", "not silenced") and found["uce"] == ("", "silenced")
    assert found["esd, unlearndiffatk (optimised)"] == ("bad", "reactivated")
    assert re.search(r'<p class="headline">(.*?)</p>', html)[1].startswith("The neurons that carry heart")


def test_detectors_thresholds_budgets_and_distances_are_in_every_report(folder, page):
    words = " ".join(" ".join(page.words).split())
    markdown = " ".join((folder / "report.md").read_text(encoding="utf-8").split())
    for found in (words, markdown.replace("\\", "")):
        assert "emoji-judge ba9876543210" in found and "no image without the concept was made" in found
        assert "0.5 (used)" in found and "11.7 % (7.8 to 17.2 %)" in found
        assert "65.6 %" in found and "58.4 to 72.1 %" in found and "this search made no detector query" in found
        assert "noise floor" in found and "0.0141 to 0.0250" in found and "−0.0011 to 0.0023" in found
        assert "0.0132 to 0.0251" in found and "farther" in found
    assert {"budget.csv", "detectors.csv", "sweep.csv", "quality.csv"} <= {path.name for path in (folder / "tables").iterdir()}


def test_every_report_says_in_one_sentence_whether_the_choice_of_neurons_is_stable(folder, page):
    words = " ".join(" ".join(page.words).split())
    markdown = " ".join((folder / "report.md").read_text(encoding="utf-8").replace("\\", "").split())
    for found in (words, markdown):
        assert (
            "Is the choice of neurons stable?" in found and "Yes: the choice is stable. Of 160 concept neurons, 140 are confirmed" in found
        )
        assert "Two choices on random halves of the units overlap by 0.68 (0.61 to 0.75 in 95 % of 100 splits; by chance 0.02)" in found
        assert "attack ring_a_bell" in found and "every unit has one seed" in found
    assert {"selection.csv", "stability.csv"} <= {path.name for path in (folder / "tables").iterdir()}


@pytest.mark.parametrize(
    ("held", "again", "word"),
    [
        ({}, {}, "Yes: "),
        ({"confirmed": 70}, {}, "In part: "),
        ({}, {"iou": 0.3, "low": 0.2}, "In part: "),
        ({"p_random": 0.2}, {}, "No: "),
        ({}, {"iou": 0.05, "low": 0.01}, "No: "),
        ({}, {"iou": None, "low": None, "reason": "nothing is chosen"}, "In part: "),
        (
            {"same_sign": None, "reason": "too few units."},
            {},
            "It cannot be told whether the choice holds on the evaluation half: too few",
        ),
    ],
)
def test_the_word_about_the_choice_follows_its_rule(held, again, word):
    document = example()
    document["selection"][0].update(held)
    document["stability"][1].update(again)
    assert sentence(Report(document)).startswith(word)
    assert sentence(Report(document | {"selection": []})) is None


def test_neurons_chosen_by_agreement_are_listed_by_it():
    some = [
        {"layer": "a", "index": i, "score": float(i), "agreement_a": 1 - i / 5, "agreement_b": 0.0, "confirmed": i == 1} for i in range(4)
    ]
    table = top_neurons(Report(example(), some))
    assert "agreement of scores" in table.title and [row[1] for row in table.rows] == ["0", "1", "2", "3"]
    assert [row[table.head.index("Confirmed")] for row in table.rows] == ["no", "yes", "no", "no"]


@pytest.mark.parametrize("unit", ["multiples of the layer's mean |a|", "standard errors of the difference"])
def test_methods_table_and_figures_give_the_score_in_the_unit_it_declares(folder, unit):
    document = example() | {"images": []}
    document["study"]["score"] = {"rule": "the score", "name": "the score", "unit": unit, "what": "Something: how much it is."}
    text = " ".join(" ".join(Page(render_html(document, folder, neurons(document, folder))).words).split())
    assert f"chosen by the score (in {unit})" in text and f"Scores in {unit}." in text
    assert "in standard deviations of prompts without the concept" not in text
    title = reactivation_figure(neurons(document, folder), "esd", unit=unit).layout.xaxis.title.text
    assert title == f"score in the base model, evaluation half ({unit})"


def test_a_report_that_does_not_say_the_unit_of_its_score_claims_none(folder):
    document = example() | {"images": []}
    document["study"]["score"] = None
    text = " ".join(" ".join(Page(render_html(document, folder, neurons(document, folder))).words).split())
    assert "Scores in the score's own unit." in text and "in standard deviations of prompts" not in text
    assert "(the score's own unit)" in reactivation_figure(neurons(document, folder), "esd").layout.xaxis.title.text


def test_an_older_report_renders_without_the_added_tables(tmp_path):
    document = write_example(tmp_path)
    for table in schema.tables().values():
        if table.since:
            del document[table.name]
    (tmp_path / "report.json").write_text(json.dumps(document))
    render(tmp_path)
    ids = {attributes.get("id") for _, attributes in Page((tmp_path / "report.html").read_text(encoding="utf-8")).tags}
    assert "table-rates" in ids and not ids & {"table-detectors", "table-sweep", "table-budget", "table-quality"}


def test_the_note_about_the_model_is_shown_only_when_set(folder):
    document = example() | {"images": []}
    document["study"]["model_note"] = "A note of its own."
    assert "A note of its own." in render_html(document, folder)
    del document["study"]["model_note"]
    html = render_html(document, folder)
    assert "Please note." not in html and "no evidence about" not in html


def test_thresholds_of_the_study_reach_the_figure_and_the_methods(folder):
    document = example() | {"images": []}
    document["study"]["thresholds"] = [0.6, 0.35]
    rows = neurons(document, folder)
    html = " ".join(render_html(document, folder, rows).split())
    assert "D &gt; 0.6 and as" in html and "have D above 0.6" in html


def test_every_entry_of_the_contents_has_its_section_and_every_figure_its_words(page):
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    links = [a["href"][1:] for tag, a in page.tags if tag == "a"]
    sections = [a["id"] for tag, a in page.tags if tag == "section"]
    assert links[: len(sections)] == sections and set(links) == set(sections) and len(sections) == 16
    plots = [a for _, a in page.tags if a.get("role") == "img"]
    assert len(plots) == 26 and all(len(a["aria-label"]) > 40 for a in plots)
    assert all(a["alt"] and a["src"].startswith("data:") for t, a in page.tags if t == "img")


def test_numbers_over_runs_stand_with_how_many_runs_and_units(page, folder):
    said = " ".join(page.words)
    assert "Over repeated runs (seeds)" in said
    (line,) = [one for one in (folder / "report.md").read_text().splitlines() if "0.31" in one and "0.12 to 0.50" in one]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:4] == ["effect", "Reactivation: attack minus its control", "esd", "attack unlearndiffatk"]
    assert cells[-7:-1] == ["90", "3", "2", "0.31", "0.12 to 0.50", "0.008"]


def test_sections_without_data_are_left_out(tmp_path):
    document = example()
    for table in schema.tables():
        if table != "models":
            document[table] = []
    document["neuron_table"] = None
    page = Page(render_html(document, tmp_path))
    sections = [a["id"] for tag, a in page.tags if tag == "section"]
    assert sections == ["verdict", "compared", "caveats", "methods", "reproduce"]
    assert "not part of this study" in " ".join(page.words)
    assert "not part of this study" in render_markdown(document)


def test_rows_of_images_are_left_out_to_keep_the_budget(tmp_path):
    document = write_example(tmp_path, n_image_units=40)
    whole = render_html(document, tmp_path)
    assert "left out" not in whole and len(whole.encode()) < 10_000_000
    bare = render_html(document | {"images": []}, tmp_path)
    room = (len(whole.encode()) - len(bare.encode())) / 2
    limit = (len(bare.encode()) + room) / 1_000_000
    tight = render_html(document, tmp_path, max_mb=limit)
    assert len(tight.encode()) <= limit * 1_000_000
    left_out = int(re.search(r"<strong>(\d+) rows were left out", tight)[1])
    rows = tight.count('<div class="prompt">')
    assert left_out + rows == whole.count('<div class="prompt">') and rows > 5


def test_an_impossible_budget_says_why(folder):
    with pytest.raises(RunError, match=r"at most 1 MB.*plotly\.js.*max_mb"):
        render_html(example(), folder, max_mb=1)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("images/absent.png", "is not in"),
        ("../outside.png", "lies outside"),
        ("/etc/hostname", "lies outside"),
        ("report.json", "cannot be put into the report"),
    ],
)
def test_unfit_images_are_refused(folder, path, message):
    document = example()
    document["images"][0]["path"] = path
    with pytest.raises(RunError, match=message):
        render_html(document, folder)


def test_large_images_are_scaled_down(folder):
    from PIL import Image

    from workbench.report.images import data_uri

    Image.effect_noise((900, 700), 80).save(folder / "images" / "large.png")
    uri = data_uri(folder, "images/large.png")
    (folder / "images" / "large.png").unlink()
    assert uri.startswith("data:image/webp;base64,") and len(uri) < 60_000


def test_manifest_lists_every_file_with_its_digest(folder):
    manifest = json.loads((folder / "manifest.json").read_text())["files"]
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert set(manifest) == files - {"manifest.json"}
    for name, entry in manifest.items():
        assert entry["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()


def test_csv_files_hold_the_tables_of_the_document(folder):
    document = schema.load(folder)
    for table in schema.tables():
        text = (folder / "tables" / f"{table}.csv").read_bytes().decode("utf-8")
        assert from_csv(text, table) == document[table]


def test_markdown_tables_have_equal_numbers_of_cells(folder):
    lines = (folder / "report.md").read_text(encoding="utf-8").splitlines()
    width = None
    for line in lines:
        if not line.startswith("|"):
            width = None
            continue
        cells = len(re.findall(r"(?<!\\)\|", line))
        assert width in (None, cells), line
        width = cells


def test_a_fence_is_longer_than_the_backticks_of_the_study(tmp_path):
    document = example()
    document["study"]["text"] = "````\n# not a heading\n````"
    assert "`````toml\n````" in render_markdown(document)


def test_only_the_asked_formats_are_written(tmp_path):
    write_example(tmp_path)
    assert [path.name for path in render(tmp_path, formats=("md",))] == [
        "report.md",
        "manifest.json",
    ]
    assert not (tmp_path / "report.html").exists()
    with pytest.raises(RunError, match='as "htm".*Did you mean "html"'):
        render(tmp_path, formats=("htm",))


def test_a_named_but_absent_neuron_table_is_an_error(folder):
    document = schema.load(folder)
    assert len(neurons(document, folder)) == 400
    for name in ("other.parquet", "../neurons.parquet"):
        with pytest.raises(RunError, match="names the neuron table"):
            neurons(document | {"neuron_table": name}, folder)
    with pytest.raises(RunError, match="no readable Parquet"):
        neurons(document | {"neuron_table": "report.json"}, folder)


def test_an_image_of_another_seed_stands_in_the_row_of_its_unit_and_retained_images_are_as_asked():
    document = example()
    target = next(row for row in document["images"] if row["attack"] is None and row["prompt_set"] == "target")
    other = target | {"attack": "random_tokens", "control": True, "provenance": "static", "seed": target["seed"] + 1000, "prompt_set": "c"}
    near = target | {"prompt_set": "near", "success": True}
    blocks = {block["title"]: block for block in matrix([target, other, near], Report(document).variants)}
    (row,) = blocks["Prompts with the concept"]["rows"]
    assert row["seed"] == target["seed"] and {shot["seed"] for cell in row["cells"] for shot in cell} == {target["seed"], other["seed"]}
    kept = blocks["Related concepts, which must stay"]
    assert kept["yes"] == "as asked" and not kept["alarm"]
