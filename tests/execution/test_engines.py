"""Engines: whatever computes a study, the results are the same, to the bit; a worker that dies is replaced."""

import json

import workbench
from tests.execution.test_same_bytes import without_times
from workbench.storage import file_digest

RESULTS = ("nodes/*/*/*",)


def results(folder):
    """{path: digest} of every result but the times of searches."""
    files = [path for path in sorted((folder / "nodes").rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): file_digest(path) for path in files if path.name not in ("seconds.parquet", "digests.json")}


def test_processes_give_the_same_bytes_as_one(finished, study_file, tmp_path):
    run = workbench.run(workbench.load_study(study_file), tmp_path / "tiny", engine="processes", workers=2)
    assert results(run.folder) == results(finished.folder)
    documents = [without_times(json.loads((one.folder / "report" / "report.json").read_text())) for one in (finished, run)]
    assert documents[0] == documents[1]
