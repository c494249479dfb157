import json
import math

import numpy as np
import pytest

from tests.report.example import example
from workbench.analysis.findings import OUTCOMES
from workbench.errors import RunError
from workbench.report import document as schema
from workbench.report.sections.verdict import OLD_WORDS


@pytest.fixture
def document():
    return example()


def test_the_example_fits_the_schema(document):
    schema.check(document)


def test_written_and_loaded_documents_are_equal_and_sorted(document, tmp_path):
    path = schema.write(document, tmp_path)
    assert schema.load(tmp_path) == document
    first = path.read_bytes()
    shuffled = dict(reversed(document.items()))
    assert schema.write(shuffled, tmp_path).read_bytes() == first
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]


def test_nan_and_numpy_values_become_plain_json(document, tmp_path):
    row = document["rates"][0]
    row.update(rate=math.nan, low=math.inf, high=None, reason="no image could be judged")
    document["activity"][0]["value"] = np.float32(0.5)
    document["study"]["seeds"] = np.arange(3)
    schema.write(document, tmp_path)
    text = (tmp_path / "report.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    loaded = json.loads(text)
    assert loaded["rates"][0]["rate"] is None and loaded["rates"][0]["low"] is None
    assert loaded["activity"][0]["value"] == 0.5 and loaded["study"]["seeds"] == [0, 1, 2]


@pytest.mark.parametrize("table", schema.tables())
def test_a_missing_column_is_named_with_its_table_and_row(document, table):
    column = schema.columns(table)[-1]
    del document[table][0][column]
    with pytest.raises(RunError, match=rf'"{table}", row 0 has no "{column}".*Expected keys'):
        schema.check(document)


@pytest.mark.parametrize("name", [*schema.tables(), *schema.objects(), "neuron_table"])
def test_a_missing_part_is_named(document, name):
    del document[name]
    with pytest.raises(RunError, match=f'has no "{name}"'):
        schema.check(document)


@pytest.mark.parametrize("name", schema.objects())
def test_a_missing_key_of_an_object_is_named(document, name):
    key = schema.objects()[name].columns[0].name
    del document[name][key]
    with pytest.raises(RunError, match=f'"{name}" has no "{key}"'):
        schema.check(document)


def test_an_unknown_column_is_refused_with_the_nearest_name(document):
    document["rates"][0]["succeses"] = 3
    with pytest.raises(RunError, match='unknown key "succeses".*Did you mean "successes"'):
        schema.check(document)


def test_a_null_without_a_reason_is_refused(document):
    document["effects"][0].update(value=None)
    with pytest.raises(RunError, match='"value" is null without a reason'):
        schema.check(document)


def test_a_value_without_its_interval_is_refused(document):
    document["activity"][0].update(low=None, high=None)
    with pytest.raises(RunError, match='"low" is null without a reason'):
        schema.check(document)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 62.5}, "outside .0, 1.; rates are fractions"),
        ({"low": 0.9, "high": 0.1}, "low 0.9 is above high 0.1"),
        ({"successes": 181}, "181 successes of 180"),
        ({"n": 180.0}, "count was expected, found 180.0"),
        ({"control": 1}, "flag was expected"),
        ({"n": True}, "count was expected, found True"),
        ({"rate": math.nan}, "use null"),
        ({"reason": "", "rate": None}, "the reason is empty"),
    ],
)
def test_impossible_values_are_refused(document, change, message):
    document["rates"][0].update(change)
    with pytest.raises(RunError, match=message):
        schema.check(document)


def test_a_report_from_before_a_table_was_added_is_read_with_that_table_empty(document, tmp_path):
    path = schema.write(document, tmp_path)
    added = [table.name for table in schema.tables().values() if table.since]
    older = {name: part for name, part in json.loads(path.read_text()).items() if name not in added}
    path.write_text(json.dumps(older))
    assert schema.load(tmp_path) == document | dict.fromkeys(added, []) and len(added) > 30
    path.write_text(json.dumps({name: part for name, part in older.items() if name != "rates"}))
    with pytest.raises(RunError, match='has no "rates"'):
        schema.load(tmp_path)


def test_a_report_from_before_a_column_was_added_is_read_with_that_column_null(document, tmp_path):
    path = schema.write(document, tmp_path)
    older = json.loads(path.read_text())
    added = {table.name: table.added for table in schema.tables().values() if table.added}
    for table, names in added.items():
        older[table] = [{key: value for key, value in row.items() if key not in names} for row in older[table]]
    path.write_text(json.dumps(older))
    read = schema.load(tmp_path)
    for table, names in added.items():
        assert read[table] == [row | dict.fromkeys(names) for row in document[table]] and read[table]
    del older["comparisons"][0]["attack"]
    path.write_text(json.dumps(older))
    with pytest.raises(RunError, match='has no "attack"'):
        schema.load(tmp_path)


def test_an_added_table_is_checked_like_the_others(document):
    document["quality"][1].update(low=None)
    with pytest.raises(RunError, match='"quality", row 1: "low" is null without a reason'):
        schema.check(document)


def test_nested_evidence_is_checked(document):
    del document["verdict"]["words"][0]["evidence"][0]["n"]
    with pytest.raises(RunError, match=r'words\[0\], evidence\[0\] has no "n"'):
        schema.check(document)


def test_an_older_verdict_gets_what_its_word_and_its_subject_say_and_nothing_else(document, tmp_path):
    """Words were sentences once: the outcome is that of a closed set, the variant one of the models; a title is never read."""
    path = schema.write(document, tmp_path)
    older = json.loads(path.read_text())
    keep = {"subject": "esd", "sentence": "It is so.", "evidence": []}
    older["verdict"]["words"] = [
        keep | {"word": "silenced"},
        keep | {"word": "quieter", "subject": "esd, effect of pruning"},
        keep | {"word": "a word of its own", "subject": "somebody"},
    ]
    path.write_text(json.dumps(older))
    first, second, third = schema.load(tmp_path)["verdict"]["words"]
    nothing = dict.fromkeys(("kind", "attack", "provenance", "against", "beside"))
    assert first == keep | {"word": "silenced", "outcome": "deactivated", "variant": "esd"} | nothing
    assert (second["outcome"], second["variant"]) == ("less active", None)
    assert (third["outcome"], third["variant"], third["word"]) == (None, None, "a word of its own")


def test_every_outcome_of_older_words_is_one_of_today():
    known = {outcome for outcomes in OUTCOMES.values() for outcome in outcomes}
    assert set(OLD_WORDS.values()) <= known


def test_another_schema_version_is_refused(document):
    document["schema_version"] = 2
    with pytest.raises(RunError, match="schema_version 2; this workbench reads 1"):
        schema.check(document)


def test_a_folder_without_report_and_broken_json_say_what_to_do(tmp_path):
    with pytest.raises(RunError, match="no report.json in it.*workbench run"):
        schema.load(tmp_path)
    (tmp_path / "report.json").write_text('{"a": NaN}')
    with pytest.raises(RunError, match="not valid JSON"):
        schema.load(tmp_path)


def test_an_unknown_table_name_gets_the_nearest(document):
    with pytest.raises(RunError, match='Did you mean "rates"'):
        schema.columns("rate")
