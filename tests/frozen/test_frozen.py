"""A finished run of 2026-11-30 still opens, keeps its results and gives the same report, whatever was moved or renamed since.

`make.py` made what lies here. A key or a number may only change where a defect forces it; then the changelog says which.
"""

import json
import re
import shutil
import tarfile

import pytest

import workbench
from tests.frozen import make
from workbench.execution.execute import Watcher

VOLATILE = ("reproduce", "timings")  # when and by which command it was written
# words of 2026-11-30 and what is said now: nothing else of a text may differ
REWORDED = {
    '"half A"': '"selection half"',
    '"half B"': '"evaluation half"',
    ",half A,": ",selection half,",
    ",half B,": ",evaluation half,",
    "half B": "the evaluation half",
    "against the plain prompt": "against the prompt without attack",
    "overlap with the set chosen anew (IoU)": "overlap with the set chosen again (IoU)",
    "the set chosen anew overlaps it": "the set chosen again overlaps it",
    "also cuts weights that feed": "also prunes weights that feed",
    "where they fall silent, part of it is the cut itself": "part of their deactivation is a direct effect of the pruning",
    "Too few units for words about the neurons chosen for ink (3 a half; words take 8); under embedding_pgd (optimised) the "
    "images of erased show the concept at a rate of 0.00, control 0.00, without attack 0.00: too few units. Intervals are "
    "over units and over 2": (
        "Too few units for a verdict on the neurons chosen for ink (3 per half, at least 8 needed); under embedding_pgd "
        "(optimised), there are too few units to say whether the concept returns in the images of erased (rate 0.00, control "
        "0.00, without attack 0.00). Intervals cover units and 2"
    ),
    "All intervals hold for": "Intervals cover only",
    " is lost; under the attack the activity is": " of the activity is lost; under the attack it is",
    "to include other seeds": "to cover more seeds",
    "3 units a half; words take 8": "3 units per half; a verdict needs 8",
    "With prompts without the concept they drift": "On prompts without the concept they drift",
    "a fall by more than 0.1 is not excluded, so their activity above that without the concept counts": (
        "a fall of more than 0.1 is not excluded, so the outcome rests on the activity with the concept minus that without it"
    ),
    "After erasing something else, in sham,": "In sham, where something else was erased,",
    "where the base model is 1: this is how far erasing anything moves them (too few units).": (
        "where the base model is 1 (how far erasing anything moves them): too few units."
    ),
    " beside base, images": " compared with base, images",
    " beside erased, images": " compared with erased, images",
    "difference of rates, prompts without it": "difference of rates, prompts without the concept",
    "prompts without it 0.00": "prompts without the concept 0.00",
    "what was not reactivated here may be reactivated by an attack that was not tried": (
        "an attack that was not tried may reactivate what was not reactivated here"
    ),
    "A static attack (random_tokens, from_file) has other seeds as its control. On the base model's trajectory seeds play no "
    "part, so there its control is the prompt without attack: what such an attack adds to the activity is any change of "
    "wording, not a search.": (
        "The control of a static attack (random_tokens, from_file) is the prompt without attack with other seeds. Activity on the"
        " base model's trajectory does not depend on seeds, so there the attack's effect is that of any change of wording, not of"
        " a search."
    ),
    "is both stable and grouped; 2, the most stable, was taken": "is both stable and grouped; the most stable, 2, is used",
    "cuts through a cloud without groups come back as well": "splits of a cloud without groups recur as often",
    "With 6 units an attack": "With 6 units, an attack",
    "to be found with power": "to be detected with power",
    "reads and lose their end, the longest 1 tokens of it. Say in shorter words what matters, or put it first": (
        "reads and are truncated, by up to 1 tokens. Shorten them, or put first what matters"
    ),
    "Prompts that say the concept in a sentence, with an anchor that leaves it out, erase more of it: a CSV with the columns "
    "prompt and anchor.": (
        "Training pairs erase more: a CSV with the columns prompt (a sentence with the concept) and anchor (the same without it)."
    ),
    "the base model is what the others are compared with": "the other variants are compared with the base model",
    "concepts are drawn right at": "concepts are drawn as asked at",
    "the first rate is 0, there is nothing to cut": "the first rate is 0, so it cannot fall",
    "even a cut to 0 would be found": "even a reduction to 0 would be detected",
    "pruned neurons say nothing about themselves; read the set watch": (
        "pruned neurons are no evidence about themselves; see the watched neurons"
    ),
    "one is made of the other, or both of the same set, so that their overlap is no news": (
        "one is made from the other, or both from the same set, so their overlap is expected"
    ),
    "and a scale takes 5": "but a scale needs 5",
    "Take more units, or another score": "Use more units or another score",
    "give units several rows that differ in their seed": "give each unit several rows with different seeds",
    "the prompts call the concept by one of its names, or by none": "the prompts use only one name of the concept, or none",
    "cannot be told from 0": "is not distinguishable from 0",
}
CONFIRMED = re.compile(r"of its neurons (\d+%) are confirmed on the evaluation half, of (\w+) sets (\d+%)")
CONFIRMED_NOW = r"\1 of its neurons are confirmed on the evaluation half, and \3 of \2 sets"
PER_CENT = re.compile(r"(?<=\d)%")  # "83%" then, "83 %" now
CAVEAT_ON_SEEDS = " Intervals cover only "  # was the end of the headline, is the first caveat
TOLERANCE = 1e-9  # sums are made in another order on other machines


@pytest.fixture(scope="module")
def thawed(tmp_path_factory):
    """The folder with model, study and finished run."""
    folder = tmp_path_factory.mktemp("thawed")
    with tarfile.open(make.HERE / "run.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "frozen"


@pytest.fixture(scope="module")
def before(thawed):
    """(report.json, {table: CSV}) as they were when the run was finished."""
    report = thawed / "run" / "report"
    return contents(report)


def contents(report):
    """(report.json, {table: CSV}) of a report folder, in the words of now: results that are kept have the words they were made with."""

    def read(path):
        text = path.read_bytes().decode()
        for before, now in REWORDED.items():
            text = text.replace(before, now)
        return PER_CENT.sub(" %", CONFIRMED.sub(CONFIRMED_NOW, text))

    document = json.loads(read(report / "report.json"))
    verdict = document["verdict"]
    verdict["headline"], found, caveat = verdict["headline"].partition(CAVEAT_ON_SEEDS)
    if found:
        verdict["caveats"].insert(0, found.strip() + " " + caveat)
    return document, {path.name: read(path) for path in (report / "tables").iterdir()}


def again(folder, *without):
    """({stage} computed, report.json, {table: CSV}) of running the study once more without the report and the results of some stages."""
    report = folder / "run" / "report"
    for gone in (report, *(folder / "run" / "nodes" / stage for stage in ("report", *without))):
        shutil.rmtree(gone)
    done = set()
    watcher = Watcher(node=lambda node, *_: done.add(node.stage))
    workbench.run(workbench.load_study(folder / "study.toml"), folder / "run", watcher=watcher)
    return done, *contents(report)


def without_volatile(document):
    return {name: value for name, value in document.items() if name not in VOLATILE}


def test_bundled_studies_keep_the_keys_of_their_nodes():
    assert make.keys() == json.loads((make.HERE / "keys.json").read_text())


def test_every_table_of_the_report_has_rows(before):
    document, tables = before
    assert [name for name, rows in document.items() if isinstance(rows, list) and not rows] == [] and len(tables) > 40


def test_the_finished_run_is_kept_and_its_report_is_the_same_to_the_byte(thawed, before):
    computed, document, tables = again(thawed)
    assert computed == set()
    assert json.dumps(without_volatile(document), sort_keys=True) == json.dumps(without_volatile(before[0]), sort_keys=True)
    for name, content in before[1].items():
        assert name == "timings.csv" or tables[name] == content, name
    assert set(tables) == set(before[1])


def test_measuring_again_from_its_recordings_gives_the_same_numbers(thawed, before):
    computed, document, _ = again(thawed, "measure")
    assert computed == {"measure"}
    assert without_volatile(document) == close_to(without_volatile(before[0]))


def close_to(value):
    """The same with every number within TOLERANCE."""
    if isinstance(value, dict):
        return {name: close_to(one) for name, one in value.items()}
    if isinstance(value, list):
        return [close_to(one) for one in value]
    return pytest.approx(value, rel=TOLERANCE, abs=TOLERANCE) if isinstance(value, float) else value
