"""A report as one file: sections, images, size, model card, references, archive."""

import io
import json
import re
import tomllib
import zipfile

import pytest
from huggingface_hub import ModelCard

from tests.report.example import HOSTILE, example, write_example
from workbench.errors import MethodError, RunError
from workbench.methods import citations
from workbench.registry import VERBS, methods
from workbench.report import document as schema
from workbench.report.content import Report
from workbench.report.methods_text import bibliography, paragraph
from workbench.report.renderers.card import render_card
from workbench.report.renderers.exports import FORMATS, made
from workbench.report.renderers.options import Options, named
from workbench.report.section import found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_example(folder)
    return folder


@pytest.fixture(scope="module")
def document(folder):
    return schema.load(folder)


@pytest.fixture(scope="module")
def whole(document, folder):
    """The archive with everything."""
    return made("zip", document, folder)


@pytest.fixture(scope="module")
def archive(whole):
    return zipfile.ZipFile(io.BytesIO(whole.content))


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_report_gives_the_same_bytes(document, folder, format):
    one, two = made(format, document, folder), made(format, schema.load(folder), folder)
    assert one == two and one.content and one.name == FORMATS[format].file


def test_only_the_chosen_sections_are_shown_and_without_figures_there_is_no_plotly(document, folder):
    options = Options(named("caveats, neuron-choice,methods"), max_mb=1)
    page = made("html", document, folder, options).content.decode()
    assert re.findall(r'<section id="([\w-]+)">', page) == ["neuron-choice", "caveats", "methods"]
    assert "Plotly.newPlot" not in page and len(page) < 1_000_000
    words = made("md", document, folder, options).content.decode()
    titles = [found()[name].title for name in ("neuron_choice", "caveats", "methods")]
    assert re.findall(r"(?m)^## (.*)$", words) == titles


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sections": ("verdit",)}, 'no section "verdit". Did you mean "verdict"'),
        ({"sections": ()}, "at least one section"),
        ({"images": "thumbs"}, 'Did you mean "thumb"'),
        ({"max_mb": 0}, "above 0"),
        ({"max_mb": float("nan")}, "above 0"),
    ],
)
def test_a_wrong_choice_is_refused_with_what_is_possible(options, said):
    with pytest.raises(RunError, match=re.escape(said)):
        Options(**options)


def test_an_unknown_format_is_refused(document, folder):
    with pytest.raises(RunError, match='No report format "pdf"'):
        made("pdf", document, folder)


def test_without_images_no_image_is_in_any_file(document, folder):
    options = Options(images="none")
    page = made("html", document, folder, options)
    words = page.content.decode()
    assert '<img src="data:image' not in words and "Images were left out" in words
    assert page.left_out == ("All images were left out, as asked.",)
    assert "](images/" not in made("md", document, folder, options).content.decode()
    names = zipfile.ZipFile(io.BytesIO(made("zip", document, folder, options).content)).namelist()
    assert not [name for name in names if name.startswith("images/")]


def test_what_a_small_report_leaves_out_is_said(document, folder):
    whole = made("html", document, folder)
    limit = (len(made("html", document, folder, Options(images="none")).content) + len(whole.content)) / 2e6
    tight = made("html", document, folder, Options(max_mb=limit))
    assert whole.left_out == () and len(tight.content) <= limit * 1e6
    assert re.fullmatch(r"\d+ rows? of images (was|were) left out\.", tight.left_out[0])
    assert "left out</strong> to keep this file small" in tight.content.decode()


def test_pictures_can_take_the_place_of_files(document, folder):
    from PIL import Image

    path = document["images"][0]["path"]
    red = Image.new("RGB", (700, 300), "red")
    alone = named("images")
    pictures = made("zip", document, folder, Options(alone, images="thumb"), lambda one: red.copy() if one == path else None)
    with zipfile.ZipFile(io.BytesIO(pictures.content)) as archive:
        shown = Image.open(io.BytesIO(archive.read(path)))
        other = document["images"][1]["path"]
        assert shown.size == (256, 110) and shown.getpixel((5, 5))[0] == 255
        assert archive.read(other) == (folder / other).read_bytes()
    full = made("zip", document, folder, Options(alone, images="full"), lambda one: red.copy() if one == path else None)
    with zipfile.ZipFile(io.BytesIO(full.content)) as archive:
        assert Image.open(io.BytesIO(archive.read(path))).size == (700, 300)


def test_the_archive_has_everything_and_says_what_each_file_is(archive, document, folder):
    import hashlib

    names = set(archive.namelist())
    assert archive.testzip() is None
    assert {"report.html", "report.md", "report.json", "references.bib", "MODEL_CARD.md", "study.toml", "manifest.json"} <= names
    assert {f"tables/{table}.csv" for table in schema.to_write(document)} <= names
    assert {row["path"] for row in document["images"]} <= names and document["neuron_table"] in names
    about = json.loads(archive.read("manifest.json"))
    assert set(about["files"]) == names - {"manifest.json"} and about["left_out"] == []
    assert all(hashlib.sha256(archive.read(name)).hexdigest() == row["sha256"] for name, row in about["files"].items())
    assert archive.read("report.json") == (folder / "report.json").read_bytes()


def test_a_small_archive_keeps_numbers_before_images_and_says_so(document, folder, whole):
    bare = made("zip", document, folder, Options(images="none"))
    limit = (len(bare.content) - 20_000) / 1e6
    tight = made("zip", document, folder, Options(max_mb=limit))
    assert len(tight.content) <= limit * 1e6 < len(whole.content) and tight.left_out
    with zipfile.ZipFile(io.BytesIO(tight.content)) as archive:
        assert "report.json" in archive.namelist() and json.loads(archive.read("manifest.json"))["left_out"] == list(tight.left_out)
    with pytest.raises(RunError, match="without images and neurons it has"):
        made("zip", document, folder, Options(max_mb=0.1))


# the model card


def test_the_header_of_the_model_card_is_read_by_hugging_face_with_every_rate(document):
    card = ModelCard(render_card(document, "esd"))
    rates = [row for row in document["rates"] if row["variant"] == "esd" and row["rate"] is not None]
    kept = [row for row in document["retention"] if row["variant"] == "esd" and row["rate"] is not None]
    results = card.data.eval_results
    assert len(results) == len(rates) + len(kept) and {one.task_type for one in results} == {"text-to-image"}
    asked = next(one for one in results if one.dataset_type.endswith("/target") and one.metric_type == "success_rate")
    row = next(row for row in rates if row["prompt_set"] == "target")
    assert asked.metric_value == row["rate"] and asked.metric_args["low"] == row["low"] and asked.metric_args["n"] == row["n"]
    assert card.data.library_name == "diffusers" and "concept-erasure" in card.data.tags


def test_no_text_of_a_study_breaks_the_model_card():
    document = example()
    bad = f'x: [1]\n---\n"}}{HOSTILE}'
    document["study"].update(name=bad, title=bad)
    document["study"]["concept"].update(name=bad)
    for row in document["rates"]:
        row["detector"] = bad
    card = ModelCard(render_card(schema.with_added(document), "esd"))
    assert card.data.model_name == f"{bad}-esd" and "<script" not in card.content.partition("\n---\n")[2].partition("```")[0]


def test_a_model_card_of_a_variant_that_is_not_there_is_refused(document):
    with pytest.raises(RunError, match='no variant "esdd".* Did you mean "esd"'):
        render_card(document, "esdd")
    alone = document | {"models": [row for row in document["models"] if row["role"] == "base"]}
    with pytest.raises(RunError, match="no changed variant"):
        render_card(alone)


# methods as a text


def test_the_methods_text_names_models_attacks_detectors_and_cites_what_it_uses(document):
    report = Report(document)
    words = "\n".join(paragraph(report))
    for row in document["models"]:
        assert row["variant"] in words
    for table, column in (("attacks", "attack"), ("detectors", "version")):
        assert all(row[column] in words for row in document[table])
    cited = re.findall(r"\[([a-z]+\d{4}\w+)\]", words)
    assert list(dict.fromkeys(cited)) == re.findall(r"(?m)^@\w+\{(\S+),", bibliography(report))
    assert "wilson1927probable" in cited and "gandikota2023erasing" in cited
    assert str(document["study"]["n_units"]) in words and document["study"]["scheduler"] in words


def test_a_report_without_tables_has_a_methods_text(document):
    empty = document | {name: [] for name in schema.tables() if name != "models"} | {"neuron_table": None}
    assert paragraph(Report(empty)) and bibliography(Report(empty))


def test_a_study_that_is_no_toml_has_a_methods_text(document):
    words = paragraph(Report(document | {"study": document["study"] | {"text": "= no TOML ="}}))
    assert any("esd" in one for one in words)
    with pytest.raises(tomllib.TOMLDecodeError):
        tomllib.loads("= no TOML =")


def test_every_citation_of_a_method_is_known_and_every_entry_can_be_cited():
    for kind in VERBS:
        for one in methods(kind).values():
            assert len(citations.entries(one.citations)) == len(one.citations), one.name
    for key, entry in citations.known().items():
        assert entry.bibtex.startswith("@") and entry.bibtex.count("{") == entry.bibtex.count("}"), key
        assert re.search(r"\d{4}$", entry.short) and "{" not in entry.short, entry.short


def test_a_method_from_elsewhere_brings_its_own_bibtex_and_a_wrong_key_is_refused():
    mine = "@article{me2030mine,\n  author = {Me, A. and You, B.},\n  title = {Mine},\n  year = {2030}\n}"
    assert [(one.key, one.short) for one in citations.entries((mine,))] == [("me2030mine", "Me and You 2030")]
    with pytest.raises(MethodError, match="Did you mean"):
        citations.entries(("gandikota2023erasin",))
    with pytest.raises(MethodError, match="needs a key, an author and a year"):
        citations.entries(("@article{x, title = {y}}",))
