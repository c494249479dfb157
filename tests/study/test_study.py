"""What a study file may say, and how bad ones are told."""

import pytest

from workbench.errors import PromptError, StudyError
from workbench.resources import study_files
from workbench.study.prompts import PromptSet, paired, read_pairs, read_prompts
from workbench.study.study import load_study

INK = study_files()["emoji-ink-style"]


def changed(tmp_path, old, new):
    text = INK.read_text()
    assert old in text
    path = tmp_path / "study.toml"
    path.write_text(text.replace(old, new))
    return path


@pytest.mark.parametrize("name", sorted(study_files()))
def test_every_bundled_study_loads_and_is_named_like_its_file(name):
    """Prompts for Stable Diffusion are the user's own imports, and not shipped."""
    assert load_study(name, files=not name.startswith("sd14-")).name == name


def test_a_study_of_prompts_that_are_not_shipped_says_which_it_needs():
    with pytest.raises(StudyError, match="sd14-nudity-target.csv.* was not found. Looked for"):
        load_study("sd14-nudity")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('method = "esd"\npara', 'method = "edd"\npara', 'Did you mean "esd"'),
        ("iterations = 50", "iteration = 50", 'Did you mean "iterations"'),
        ('parent = "erased"', 'parent = "eraser"', 'Did you mean "erased"'),
        ('against = ["erased", "pruned"]', 'against = ["prune"]', 'Did you mean "pruned"'),
        ('against = ["erased", "pruned"]', "against = []", "Name it with `against`"),
        ("steps = 10\nguidance", "steps = 1\nguidance", "greater than or equal to 2"),
        ("[sampling]\n", "[sampling]\nguidence = 2\n", 'Did you mean "guidance"'),
        ('name = "sham"', 'name = "pruned"', 'two variants are called "pruned"'),
        ('score = "contrast"', 'score = "contrasts"', 'Did you mean "contrast"'),
        ("emoji-ink-target.csv", "emoji-ink-tarket.csv", "was not found. Looked for"),
        ("schema_version = 1", "schema_version = ", "not valid TOML"),
        ('names = ["ink", "lineart"]', "names = []", "at least 1 item"),
    ],
)
def test_a_bad_study_is_told_in_one_sentence_with_the_nearest_right_thing(tmp_path, old, new, message):
    with pytest.raises(StudyError, match="(?s)" + __import__("re").escape(message)):
        load_study(changed(tmp_path, old, new))


def test_an_unknown_study_offers_the_nearest():
    with pytest.raises(StudyError, match='Did you mean "emoji-ink-style"'):
        load_study("emoji-ink-stile")


def test_values_set_on_the_command_line_are_checked_like_the_file():
    study = load_study("emoji-ink-style").with_values(["sampling.steps=8", "variants.0.parameters.iterations=3"])
    assert study.sampling.steps == 8 and study.variants[0].parameters["iterations"] == 3
    for bad in ("sampling.stebs=8", "steps", "variants.9.name=x"):
        with pytest.raises(StudyError):
            load_study("emoji-ink-style").with_values([bad])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("promt\nowl\n", 'no column "prompt"; found promt. Rename'),
        ("prompt\n", "has no prompts"),
        ("prompt,seed\nowl,many\n", "no integer"),
        ("prompt,id\nowl,1\ncat,1\n", "twice"),
        ("", "no CSV"),
    ],
)
def test_a_bad_prompt_file_is_told_in_one_sentence(tmp_path, content, message):
    path = tmp_path / "p.csv"
    path.write_text(content)
    with pytest.raises(PromptError, match=message):
        read_prompts(path, "target", "target")


def test_words_that_csv_readers_take_for_nothing_stay_words(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("prompt,unit,seed,anchor\nNA,a,1,null\nNone,nan,2,NA\nnull,c,,x\n,,,\n")
    with pytest.raises(PromptError, match="row 3 has no seed, others have one"):
        read_prompts(path, "target", "target")
    path.write_text(path.read_text().replace("c,,x", "c,3,x"))
    found = read_prompts(path, "target", "target")
    assert found.prompts == ["NA", "None", "null"] and found.units == ["a", "nan", "c"] and found.seeds == [1, 2, 3]
    path.write_text("prompt,anchor\nNA,null\nchurch,\n")
    assert read_pairs(path) == [("NA", "null"), ("church", "")]


def test_retained_prompts_must_say_what_they_expect(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("prompt\nowl\n")
    with pytest.raises(PromptError, match="expect"):
        read_prompts(path, "near", "retained")


def test_pairs_need_both_columns(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("prompt\nowl\n")
    with pytest.raises(PromptError, match='no column "anchor"'):
        read_pairs(path)


def test_sets_must_cover_the_same_units(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("prompt,unit\nowl,a\ncat,b\n")
    one = read_prompts(path, "target", "target")
    with pytest.raises(PromptError, match='no prompt for 1 units of "target"'):
        paired([one, one.rows(0, 1)])
    with pytest.raises(PromptError, match='In the unit "b" the set "target" has 2 prompts'):
        paired([one, one.picked([0, 1, 1])])


def test_provenance_depends_on_the_variant_the_set_meets():
    made = PromptSet("pgd", "adversarial", None, attack="embedding_pgd", against="erased")
    assert made.provenance("erased") == "optimised" and made.provenance("pruned") == "transferred"
    assert PromptSet("rt", "adversarial", None, attack="random_tokens").provenance("erased") == "static"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ('variant = "erazed"\nattack = "random_tokens"\ndefinition = "asr"', 'Did you mean "erased"'),
        ('variant = "erased"\nattack = "random_token"\ndefinition = "asr"', 'Did you mean "random_tokens"'),
        ('variant = "erased"\ndefinition = "asr"', "asr needs `attack`"),
        ('variant = "erased"\nattack = "random_tokens"\ndefinition = "success_rate"', "success_rate takes no `attack`"),
    ],
)
def test_a_known_rate_is_of_something_in_the_study(tmp_path, given, message):
    ends = "low = 0.1\nhigh = 0.3\nsource = 'a board'\n"
    with pytest.raises(StudyError, match=message):
        load_study(changed(tmp_path, "[record]\n", f"[[expect]]\n{given}\n{ends}[record]\n"))
    with pytest.raises(StudyError, match="low 0.4 is above high 0.3"):
        right = 'variant = "erased"\ndefinition = "success_rate"\n'
        load_study(changed(tmp_path, "[record]\n", f"[[expect]]\n{right}{ends.replace('0.1', '0.4')}[record]\n"))


def test_what_a_study_may_say_newly_leaves_older_studies_as_they_were():
    dump = load_study("emoji-ink-style").model_dump(mode="json")
    assert "expect" not in dump and "retain" not in dump["prompts"] and "like" not in dump["variants"][0]
