"""Two runs of one study give the same report, byte for byte, but for times and places."""

import json
import re
import shutil

import workbench
from workbench.report.renderers import render

TIMES = {"started", "finished", "wall_seconds", "peak_memory_mb", "command", "seconds"}


def without_times(value):
    """A document with its times and the command set to the same everywhere."""
    if isinstance(value, dict):
        return {
            name: (None if inner is None else type(inner)()) if name in TIMES else without_times(inner) for name, inner in value.items()
        }
    return [without_times(one) for one in value] if isinstance(value, list) else value


def test_two_runs_of_a_study_give_the_same_bytes_but_for_times(finished, study_file, tmp_path):
    again = workbench.run(workbench.load_study(study_file), tmp_path / "tiny")
    reports = [run.folder / "report" for run in (finished, again)]
    documents = [without_times(json.loads((report / "report.json").read_text())) for report in reports]
    for name in documents[0]:
        assert documents[0][name] == documents[1][name], name
    files = [
        {
            path.relative_to(report).as_posix(): path
            for path in report.rglob("*")
            if path.suffix in (".png", ".webp", ".parquet", ".safetensors")
        }
        for report in reports
    ]
    assert set(files[0]) == set(files[1]) and files[0]
    assert [name for name in files[0] if files[0][name].read_bytes() != files[1][name].read_bytes()] == []
    pages = []
    for number, (report, document) in enumerate(zip(reports, documents, strict=True)):
        place = tmp_path / f"report-{number}"
        shutil.copytree(report, place)
        (place / "report.json").write_text(json.dumps(document))
        render.render(place, ("html", "md", "csv"))
        pages.append({path.name: path.read_bytes() for path in place.rglob("*") if path.suffix in (".html", ".md", ".csv")})
    assert [name for name in pages[0] if pages[0][name] != pages[1][name]] == []
    assert re.search(rb"figure-[a-z-]+-\d", pages[0]["report.html"])
