"""What a variant is trained on is not measured: refused by the plan, or left out where the study says so."""

import pytest
from typer.testing import CliRunner

import workbench
from workbench.cli.main import app
from workbench.errors import MethodError, StudyError
from workbench.execution import execute
from workbench.execution import plan as planning
from workbench.registry import methods
from workbench.resources import study_files

PAIRS = 'owl in water style,an owl\n"cat, ink",a cat\nhouse in fluent style,a house\n'


@pytest.fixture
def study(study_file):
    """study(pairs, retain, set to …) -> the tiny study with these erasing pairs and retained prompts."""

    def write(pairs=PAIRS, retain=None, method="esd", more="", assignments=()):
        (study_file.parent / "pairs.csv").write_text("prompt,anchor\n" + pairs)
        text = study_file.read_text().replace(
            "[detectors]", 'erase = "pairs.csv"\n' + ('retain = "kept.csv"\n' if retain else "") + "[detectors]", 1
        )
        if retain:
            (study_file.parent / "kept.csv").write_text("prompt\n" + retain)
        start, end = text.index("[[variants]]"), text.index("[record]")
        variant = f'[[variants]]\nname = "erased"\nmethod = "{method}"\n{more}\n'
        path = study_file.parent / "training.toml"
        path.write_text(text[:start] + variant + text[end:])
        one = workbench.load_study(path)
        return one.with_values(list(assignments)) if assignments else one

    return write


def build(one):
    return planning.build(one, "model", 10)


LEAVE_OUT = ['prompts.trained_and_measured="leave out"']


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("owl in ink style,an owl\n", 'the prompt "owl in ink style" \\(set target\\)'),
        (" Owl  in INK style,an owl\n", 'the prompt " Owl  in INK style" \\(set target\\)'),
        ("owl in water style,owl in noto style\n", 'the anchor "owl in noto style" \\(set reference\\)'),
        ("owl in water style,owl in fluent style\n", 'the anchor "owl in fluent style" \\(set near\\)'),
    ],
)
def test_a_pair_that_is_measured_is_refused(study, pairs, message):
    with pytest.raises(
        StudyError, match=f'variant "erased" learns from prompts that are measured too \\(1 of 3 erasing pairs\\), e.g. {message}'
    ):
        build(study(PAIRS.replace("house in fluent style,a house\n", pairs)))
    with pytest.raises(StudyError, match='set prompts.trained_and_measured = "leave out": then it learns from the other 2 of 3 pairs'):
        build(study(PAIRS.replace("house in fluent style,a house\n", pairs)))


def test_pairs_that_are_not_measured_are_learned_from_as_they_are(study):
    plan = build(study(PAIRS.replace("fluent", "water")))
    assert plan.notes == [] and len(plan.node("erase:erased").parameters["pairs"]) == 3


def test_they_are_left_out_where_the_study_says_so_and_the_dry_run_tells(study, study_file):
    plan = build(study(assignments=LEAVE_OUT))
    assert plan.node("erase:erased").parameters["pairs"] == [("owl in water style", "an owl"), ("cat, ink", "a cat")]
    said = "erased: 1 of 3 erasing pairs are measured, and left out of its training."
    assert plan.notes == [said]
    shown = CliRunner().invoke(app, ["run", str(study_file.parent / "training.toml"), "--dry-run", "--set", *LEAVE_OUT])
    assert shown.exit_code == 0 and said in shown.output.splitlines()
    refused = CliRunner().invoke(app, ["run", str(study_file.parent / "training.toml"), "--dry-run"])
    assert refused.exit_code != 0 and isinstance(refused.exception, StudyError)
    with pytest.raises(
        StudyError, match="and nothing else. What a variant was trained on .* Take them out of pairs.csv or of the measured set.$"
    ):
        build(study("owl in ink style,an owl\n", assignments=LEAVE_OUT))


def test_only_what_an_eraser_learns_from_counts(study):
    anchors = "owl in water style,owl in fluent style\n"
    for method, more in (("esd", 'parameters = { form = "concept" }'), ("cad", ""), ("wanda", ""), ("magnitude", ""), ("random_mask", "")):
        assert build(study(anchors, method=method, more=more)).notes == []
    for method, more in (
        ("esd", 'parameters = { form = "erase_from" }'),
        ("ac", ""),
        ("conceptprune", ""),
        ("fia", ""),
        ("learned_mask", ""),
    ):
        with pytest.raises(StudyError, match='the anchor "owl in fluent style"'):
            build(study(anchors, method=method, more=more))
    both = "owl in ink style,owl in fluent style\n"
    assert build(study(both, method="magnitude")).node("erase:erased").parameters["pairs"] == [("owl in ink style", "owl in fluent style")]
    shown = methods("erasers")["relearn"]
    assert shown.learns_from(shown.parameters()) == ("prompt",)
    assert shown.learns_from(shown.parameters(shows="anchor")) == ("anchor",)
    assert methods("erasers")["from_checkpoint"].learns_from(None) == ()


def test_rows_beyond_the_limit_are_not_measured(study):
    pairs = PAIRS.replace("house in fluent style", "mountain in ink style")  # the fifth of six units
    with pytest.raises(StudyError, match="mountain in ink style"):
        build(study(pairs))
    assert build(study(pairs, assignments=["prompts.limit=4"])).notes == []


def test_the_bare_name_may_not_be_a_target(study_file):
    text = study_file.read_text()
    path = study_file.parent / "bare.toml"
    path.write_text(text.replace('names = ["ink"]', 'names = ["ink", "OWL in ink style"]'))
    with pytest.raises(StudyError, match="These are the bare names: give pairs in prompts.erase"):
        build(workbench.load_study(path))


def test_retained_prompts_may_not_be_measured_in_any_set(study):
    free = PAIRS.replace("fluent", "water")
    for prompt, name in (("owl in noto style", "reference"), ("owl in fluent style", "near"), ("owl in ink style", "target")):
        kept = f"a cat\n{prompt}\n"
        with pytest.raises(StudyError, match=f'the measured sets have 1 prompts in common, e.g. "{prompt}" \\(set {name}\\)'):
            build(study(free, kept, "learned_mask"))
        left = build(study(free, kept, "learned_mask", assignments=LEAVE_OUT))
        assert left.node("erase:erased").parameters["retained"] == ["a cat"]
    with pytest.raises(StudyError, match="All 1 prompts of prompts.retain are measured too"):
        build(study(free, "owl in noto style\n", "learned_mask", assignments=LEAVE_OUT))


@pytest.mark.parametrize("name", sorted(name for name in study_files() if name.startswith("emoji-")))
def test_the_bundled_studies_measure_nothing_they_train_on(name):
    one = workbench.load_study(name)
    whole = one.model_copy(update={"prompts": one.prompts.model_copy(update={"limit": None})})
    assert build(whole).notes == []


def test_pairs_that_an_eraser_cannot_use_are_told_before_it_runs(study):
    free = PAIRS.replace("fluent", "water")
    with pytest.raises(MethodError, match="says none of the concepts ink, lineart"):
        execute.prepare(study(free, method="fia", more='parameters = { concepts = ["ink", "lineart"] }'))
    with pytest.raises(MethodError, match="Give the prompt to erase from"):
        execute.prepare(study("owl in water style,\n", more='parameters = { form = "erase_from" }'))
