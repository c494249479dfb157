"""The page Report, and the files it makes: blurred unless asked for, no torch, the same in a terminal."""

import io
import json
import re
import shlex
import subprocess
import sys
import zipfile

import pytest
from PIL import Image

from tests.pages.example_runs import finished
from workbench.errors import RunError
from workbench.report import document as schema
from workbench.report.renderers.exports import FORMATS
from workbench.report.renderers.options import Options
from workbench.report.section import found
from workbench.ui import picture_files, report_files, run_list


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("runs") / "finished")


def command(app):
    return next(code.value for code in app.code if code.value.startswith("workbench report"))


def pictures(made):
    with zipfile.ZipFile(io.BytesIO(made.content)) as archive:
        document = json.loads(archive.read("report.json"))
        return document, {row["path"]: Image.open(io.BytesIO(archive.read(row["path"]))).convert("RGB") for row in document["images"]}


def test_the_page_offers_every_format_and_the_command_that_makes_the_same(opened):
    app = opened("report", "finished")
    assert len(app.get("download_button")) == len(FORMATS) and not app.error
    assert command(app).endswith("finished --format html")
    app.multiselect(key="report-sections").set_value(["verdict", "methods"]).run()
    app.segmented_control(key="report-images").set_value("none").run()
    app.number_input(key="report-mb").set_value(3.0).run()
    assert not app.exception
    assert command(app).endswith("--format html --sections verdict,methods --images none --max-mb 3")
    assert app.query_params["report-sections"] in ("verdict,methods", ["verdict,methods"])


def test_sections_in_the_address_are_chosen_and_unknown_ones_left_out(opened):
    app = opened("report", "finished", **{"report-sections": "methods,nothing,verdict", "report-images": "full"})
    assert app.multiselect(key="report-sections").value == ["verdict", "methods"]
    assert app.segmented_control(key="report-images").value == "full"
    assert app.multiselect(key="report-sections").options == [section.title for section in found().values()]


def test_the_preview_says_how_large_it_is_or_why_there_is_none(opened):
    app = opened("report", "finished", **{"report-sections": "caveats,methods"})
    app.toggle(key="report-preview").set_value(True).run()
    assert not app.exception and len(app.get("iframe")) == 1
    assert any(re.match(r"0\.\d MB\. Nothing was left out\.", caption.value.replace("\\", "")) for caption in app.caption)
    app.multiselect(key="report-sections").set_value([]).run()
    app.number_input(key="report-mb").set_value(1.0).run()
    assert not app.exception and "At most 1 MB".lower() in app.error[0].value.replace("\\", "").lower()


def test_clear_images_are_never_in_the_address(opened):
    assert opened("report", "finished", **{"report-blur": "false"}).toggle(key="report-blur").value is True
    app = opened("report", "finished")
    app.toggle(key="report-blur").set_value(False).run()
    assert "report-blur" not in app.query_params and command(app).endswith("--reveal")


def test_files_are_blurred_unless_they_are_to_be_clear(run):
    state, options = run_list.look(run), Options(("images",))
    hidden, blurred = pictures(report_files.made(state, "zip", options))
    shown, clear = pictures(report_files.made(state, "zip", options, reveal=True))
    delicate = [row for row in hidden["images"] if picture_files.delicate(row)]
    assert delicate and all(row["blurred"] for row in delicate)
    by_path = {row["path"]: row for row in shown["images"]}
    blurred_before = {row["path"] for row in state.document["images"] if row["blurred"]}
    known = [row for row in delicate if row["path"] in blurred_before and not by_path[row["path"]]["blurred"]]
    assert {(row["variant"], row["prompt_set"]) for row in known} == {("base", "target")}  # the run keeps only these
    for row in known:
        own = picture_files.clear(state, row["variant"], row["prompt_set"], row["unit"], row["id"])
        assert clear[row["path"]].tobytes() == own.tobytes() != blurred[row["path"]].tobytes()
    assert any("blurred all the same" in sentence for sentence in report_files.made(state, "zip", options, reveal=True).left_out)


def test_a_run_that_was_written_clear_gives_blurred_files(tmp_path):
    run = finished(tmp_path / "clear")
    document = schema.load(run / "report")
    for row in document["images"]:
        row["blurred"] = False
        Image.new("RGB", (64, 64), "white").save(run / "report" / row["path"])
    half = Image.new("RGB", (64, 64), "white")
    half.paste("black", (0, 0, 32, 64))
    first = next(row for row in document["images"] if row["prompt_set"] == "target")
    half.save(run / "report" / first["path"])
    schema.write(document, run / "report")
    files, drawn = pictures(report_files.made(run_list.look(run), "zip", Options(("images",))))
    assert all(row["blurred"] == picture_files.delicate(row | {"blurred": False}) for row in files["images"])
    assert drawn[first["path"]].getpixel((31, 30)) not in ((0, 0, 0), (255, 255, 255))


def test_the_command_line_writes_the_same_bytes_as_the_page(run, tmp_path):
    state, options = run_list.look(run), Options(("caveats", "methods"), "none", 3)
    line = shlex.split(report_files.command(state, options, False))
    out = tmp_path / "report.html"
    done = subprocess.run([sys.executable, "-P", "-m", "workbench.cli", *line[1:], "--out", str(out)], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == str(out), done.stderr
    assert out.read_bytes() == report_files.made(state, "html", options).content
    wrong = subprocess.run(
        [sys.executable, "-P", "-m", "workbench.cli", "report", str(run), "--images", "big"], capture_output=True, text=True
    )
    assert wrong.returncode == 2 and "Possible: full, none, thumb" in " ".join(wrong.stderr.split())


def test_a_model_card_in_the_report_folder_is_in_its_manifest(tmp_path):
    run = finished(tmp_path / "one")
    path, left_out = report_files.write(run, "card", Options(variant="uce"), False)
    assert path == run / "report" / "MODEL_CARD.md" and left_out == ()
    assert "MODEL_CARD.md" in json.loads((run / "report" / "manifest.json").read_text())["files"]
    with pytest.raises(RunError, match="is missing"):
        (run / "report" / "report.json").unlink()
        report_files.write(run, "card", Options(), False)


def test_no_file_needs_torch(run):
    code = (
        "import sys\nfrom pathlib import Path\nfrom workbench.ui import report_files, run_list, compared_runs\n"
        "from workbench.report.renderers.options import Options\n"
        f"state = run_list.look({str(run)!r})\n"
        "for name in ('html', 'md', 'json', 'csv', 'card', 'bib', 'zip'):\n    assert report_files.made(state, name, Options()).content\n"
        "assert not {'torch', 'streamlit'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
