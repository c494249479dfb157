"""The published JSON Schema of report.json holds for every report of the tests, and refuses what the check refuses."""

import copy
import json

import pytest
from jsonschema import Draft202012Validator

from docs import write as docs
from tests.frozen import make
from tests.report.example import example
from workbench.report import document as schema
from workbench.report.json_schema import json_schema


@pytest.fixture(scope="module")
def validator():
    Draft202012Validator.check_schema(json_schema())
    return Draft202012Validator(json_schema())


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    import tarfile

    folder = tmp_path_factory.mktemp("thawed")
    with tarfile.open(make.HERE / "run.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "frozen" / "run" / "report"


def wrong(validator, document):
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message[:80]}" for error in validator.iter_errors(document)]


def test_the_published_file_is_the_schema_of_the_code():
    assert json.loads((docs.ROOT / docs.REFERENCE / "report.schema.json").read_text(encoding="utf-8")) == json_schema()


def test_the_example_report_fits(validator, tmp_path):
    schema.write(example(), tmp_path)
    assert wrong(validator, json.loads((tmp_path / "report.json").read_text())) == []


def test_the_report_of_a_real_run_fits_once_it_is_read(validator, frozen):
    assert wrong(validator, schema.load(frozen)) == []


def test_an_empty_report_fits(validator):
    document = example() | {name: [] for name in schema.tables()} | {"neuron_table": None}
    schema.check(document)
    assert wrong(validator, document) == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda d: d.pop("rates"), ""),
        (lambda d: d["rates"][0].pop("rate"), "rates/0"),
        (lambda d: d["rates"][0].update(rate=1.5), "rates/0/rate"),
        (lambda d: d["rates"][0].update(rate="high"), "rates/0/rate"),
        (lambda d: d["rates"][0].update(new=1), "rates/0"),
        (lambda d: d["models"][0].update(variant=None), "models/0/variant"),
        (lambda d: d.update(schema_version=2), "schema_version"),
        (lambda d: d["verdict"]["words"][0].pop("word"), "verdict/words/0"),
        (lambda d: d["reproduce"].update(seeds=3), "reproduce/seeds"),
    ],
)
def test_what_the_check_refuses_the_schema_refuses_too(validator, change, where):
    document = copy.deepcopy(schema.with_added(example()))
    change(document)
    with pytest.raises(Exception, match="report.json"):
        schema.check(document)
    assert [line.partition(":")[0] for line in wrong(validator, document)] == [where]


def test_every_table_and_object_has_its_part():
    parts = json_schema()["properties"]
    assert set(parts) == {"schema_version", "neuron_table", *schema.tables(), *schema.objects()}
    for name, table in schema.tables().items():
        assert list(parts[name]["items"]["properties"]) == table.names
