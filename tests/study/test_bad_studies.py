"""Studies that cannot be meant: each is told in one sentence before anything is loaded."""

import types
import typing

import annotated_types
import pytest
from pydantic import BaseModel

from workbench import registry
from workbench.errors import StudyError
from workbench.resources import study_files
from workbench.study import fields
from workbench.study.study import Study, load_study

INK = study_files()["emoji-ink-style"].read_text()


def study(tmp_path, text=INK, old="", new="", encoding="utf-8"):
    assert old in text
    path = tmp_path / "study.toml"
    path.write_bytes(text.replace(old, new).encode(encoding))
    return path


def refused(path, message):
    with pytest.raises(StudyError, match=message) as told:
        load_study(path)
    assert len(str(told.value)) < 700 and "\n" not in str(told.value)


def numbers(annotation, metadata=()):
    """[(type, bounds)] of every number that a field's type lets in."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        inner, *more = typing.get_args(annotation)
        return numbers(inner, [*metadata, *(m for one in more for m in getattr(one, "metadata", [one]))])
    if origin in (typing.Union, types.UnionType):
        return [found for one in typing.get_args(annotation) for found in numbers(one, metadata)]
    if origin in (list, tuple, dict):
        return [found for one in typing.get_args(annotation) if one is not ... for found in numbers(one)]
    return [(annotation, metadata)] if annotation in (int, float) else []


def tables(annotation):
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for one in typing.get_args(annotation):
        yield from tables(one)


def all_tables(model):
    yield model
    for field in model.model_fields.values():
        for inner in tables(field.annotation):
            yield from all_tables(inner)


METHODS = [(kind, name) for kind in registry.VERBS for name in registry.methods(kind)]
# bounded by a check of their own, which says what the number means
CHECKED = {("Record", "window"), ("Cluster", "k"), ("image_classifier", "labels")}


@pytest.mark.parametrize(("kind", "name"), [("study", "Study"), *METHODS])
def test_every_number_of_a_study_and_of_every_method_has_a_lowest_and_a_highest_value(kind, name):
    found = all_tables(Study) if kind == "study" else [registry.method(kind, name).parameters]
    unbounded = []
    for table in found:
        for field, about in table.model_fields.items():
            if {(table.__name__, field), (name, field)} & CHECKED:
                continue
            for _, bounds in numbers(about.annotation, about.metadata):
                low = any(isinstance(one, annotated_types.Ge | annotated_types.Gt) for one in bounds)
                high = any(isinstance(one, annotated_types.Le | annotated_types.Lt) for one in bounds)
                unbounded += [] if low and high else [f"{table.__name__}.{field}"]
    assert unbounded == []


def test_a_mark_of_utf8_and_windows_line_ends_are_accepted(tmp_path):
    assert load_study(study(tmp_path, "\ufeff" + INK.replace("\n", "\r\n"))).name == "emoji-ink-style"


@pytest.mark.parametrize(("encoding", "message"), [("utf-16", "text in UTF-16"), ("latin-1", "looks like Latin-1 or Windows-1252")])
def test_another_encoding_is_named_with_the_cure(tmp_path, encoding, message):
    refused(study(tmp_path, old="Is the ink style", new="Is the café style", encoding=encoding), message)


def test_a_folder_a_pipe_and_a_device_are_no_studies(tmp_path):
    import os

    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.toml").write_text(INK)
    refused(tmp_path / "folder", "is a folder. Name the study file in it. Possible: mine.toml")
    os.mkfifo(tmp_path / "pipe.toml")
    refused(tmp_path / "pipe.toml", "not a regular file|not a file")
    refused("/dev/zero", "not a regular file|not a file")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = " + "[" * 3000 + "]" * 3000, "too deep"),
        ("[concept]\nx = " + "[" * 20 + "]" * 20, "more than 12 deep"),
        ("[" + ".".join("a" * 20) + "]\nx = 1", "more than 12 deep"),
        ("x = " + "9" * 5000, "not valid TOML: .*4300"),
        ("x = " + "9" * 60, "a finite number of at most 63 bits is needed, found a number of 200 bits"),
        ("name = 2020-01-01", "Put it into quotation marks if it is text"),
        ("x = [" + "1," * 1001 + "]", "1,001 entries, more than the limit of 1,000"),
        ("\n".join(f"k{n} = 1" for n in range(1001)), "1,001 entries"),
        ('x = "' + "y" * 10_001 + '"', "10,001 letters, more than the limit of 10,000"),
        ('title = "\\u0000"', r"title: it contains the control character U\+0000"),
        ('title = "\\u001b[31m"', r"the control character U\+001B"),
        ("#" + "x" * 2**20, "more than 1 MB"),
    ],
)
def test_endless_deep_and_unprintable_studies_are_refused_at_once(tmp_path, text, message):
    refused(study(tmp_path, text), message)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps = 10\nguidance", "steps = 1000000000000000000\nguidance", "sampling.steps: Input should be less than or equal to 1000"),
        ("guidance = 5.0", "guidance = inf", "sampling.guidance: a finite number of at most 63 bits is needed"),
        ("guidance = 5.0", "guidance = nan", "sampling.guidance: a finite number of at most 63 bits is needed"),
        ("guidance = 5.0", "guidance = 1e6", "sampling.guidance: Input should be less than or equal to 100"),
        ("batch = 20", "batch = 1000000000", "sampling.batch: Input should be less than or equal to 4096"),
        ("n_resamples = 1000", "n_resamples = 1000000000000", "n_resamples: Input should be less than or equal to 100000"),
        ("n_random = 199", "n_random = 1000000000", "n_random: Input should be less than or equal to 10000"),
        ("limit = 40", "limit = 4000000000", "prompts.limit: Input should be less than or equal to 1000000"),
        ("calls = [1, 4, 7]", "calls = []", "record.calls: List should have at least 1 item"),
        ("calls = [1, 4, 7]", "calls = [-1]", "record.calls.0: Input should be greater than or equal to 0"),
        ('sites = ["ff", "update"]', "sites = []", "record.sites: List should have at least 1 item"),
        ('sites = ["ff", "update"]', 'sites = ["ff", "ff"]', 'record.sites: "ff" is listed twice. Keep one'),
        ("[record]\n", "[record]\ntrajectories = []\n", "record.trajectories: List should have at least 1 item"),
        ("[choose]\n", "[choose]\nseed = -1\n", "choose.seed: Input should be greater than or equal to 0"),
        ("iterations = 50", "iterations = 1000000000000000", "variant erased: iterations: Input should be less than or equal to 1000000"),
        ("learning_rate = 1e-3", "learning_rate = inf", "a finite number of at most 63 bits is needed"),
        ('names = ["ink", "lineart"]', 'names = ["ink", ""]', "concept.names.1: it is empty. Write a value, or remove the key"),
        ('names = ["ink", "lineart"]', 'names = ["ink", " "]', "concept.names.1: it is empty"),
        ('labels = ["style:ink"]', 'labels = [""]', "detectors.labels.0: it is empty"),
        ('name = "ink"', 'name = ""', "concept.name: it is empty"),
        ('base = "emoji"', 'base = ""', "model.base: it is empty"),
        ('near = "prompts/emoji-ink-near.csv"', 'near = ""', "prompts.near: it is empty"),
        ('pairs = "prompts/emoji-twemoji-erase.csv"', 'pairs = ""', "variants.2.pairs: it is empty"),
        ('name = "emoji-ink-style"', f'name = "{"a" * 300}"', "name: String should have at most 100 characters"),
        ('name = "sham"', f'name = "{"a" * 300}"', "variants.2.name: String should have at most 100 characters"),
        ('against = ["erased", "pruned"]', 'against = ["erased", "erased"]', 'attacks.0.against: "erased" is listed twice'),
        ('judge = { method = "emoji"', 'judge = { method = ["emoji"]', r"detectors.judge: No detector is called \"\['emoji'\]\""),
        ('score = "contrast"', 'score = ["contrast"]', "choose.score: Input should be a valid string"),
        ("[record]\n", '[quality]\nnoise_floor = ["seed", "seed"]\n[record]\n', 'noise_floor: "seed" is listed twice'),
    ],
)
def test_a_value_that_cannot_be_meant_names_its_place_and_what_is_possible(tmp_path, old, new, message):
    refused(study(tmp_path, old=old, new=new), message)


def test_a_path_that_is_empty_is_told_of_every_method(tmp_path):
    erased = 'method = "from_checkpoint"\nparameters = { path = "" }\n'
    lines = 'method = "esd"\nparameters = { iterations = 50, eta = 0.4, learning_rate = 1e-3, steps = 10 }\n'
    refused(study(tmp_path, old=lines, new=erased), "variant erased: path: it is empty")


def sets(*lines):
    return INK + "".join(f'\n[[sets]]\nname = "{name}"\n{rest}\n' for name, rest in lines)


def test_long_chains_of_sets_are_read_and_endless_ones_refused(tmp_path):
    chain = [("s0", 'union = ["concept", "suppressed"]'), *((f"s{n}", f'union = ["concept", "s{n - 1}"]') for n in range(1, 150))]
    assert len(load_study(study(tmp_path, sets(*chain))).sets) == 150
    refused(study(tmp_path, sets(*chain[:1], *((f"s{n}", f'union = ["concept", "s{n - 1}"]') for n in range(1, 2000)))), "1,000|200 items")
    doubled = [("a0", 'union = ["concept", "suppressed"]'), ("b0", 'union = ["suppressed", "concept"]')]
    for n in range(1, 60):
        doubled += [(f"{one}{n}", f'union = ["a{n - 1}", "b{n - 1}"]') for one in "ab"]
    refused(study(tmp_path, sets(*doubled)), "made of sets that are made of sets, more than 1,000 when written out")
    refused(study(tmp_path, sets(("a", 'union = ["b", "concept"]'), ("b", 'union = ["a", "concept"]'))), "a circle")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("variants.-1.name=x", '"-1" is not a position in the list. Possible: 0 to 2'),
        ("variants.9.name=x", '"9" is not a position in the list'),
        ("variants.x=1", '"x" is not a position in the list'),
        ("sampling.steps=8\nsampling.guidance=2", "more than one assignment. Give --set once for each"),
        ("sampling.steps=8\n[x]\ny=1", "more than one assignment"),
        ("sampling.steps.x=8", "does not exist in the study"),
        ("sampling.steps=" + "9" * 5000, "sampling.steps: Unable to parse"),
        ("concept.names=[]", "at least 1 item"),
    ],
)
def test_an_assignment_that_does_not_fit_is_told(assignment, message):
    with pytest.raises(StudyError, match=message) as told:
        load_study("emoji-ink-style").with_values([assignment])
    assert len(str(told.value)) < 600


def test_a_bare_word_is_a_string_and_a_comment_is_none_of_it():
    changed = load_study("emoji-ink-style").with_values(["title=my study", "sampling.steps=8 # fewer"])
    assert changed.title == "my study" and changed.sampling.steps == 8


def test_control_characters_are_told_from_letters_line_ends_and_tabs():
    assert fields.control_character("a\tb\nc\r\u202e\u200bé") is None
    assert [fields.control_character(one) for one in ("\0", "a\x1b", "\x7f", "\x85")] == ["U+0000", "U+001B", "U+007F", "U+0085"]
