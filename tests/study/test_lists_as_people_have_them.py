"""Prompt lists as people have them: two columns of prompts, other languages, large seeds, marks in wrong places, stand-ins."""

import json
import os
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from workbench.cli import main, prompts
from workbench.errors import PromptError
from workbench.methods.attacks import Context
from workbench.registry import method
from workbench.study import imports
from workbench.study.imports.minors import foreign, languages, names_minor
from workbench.study.prompts import read_csv, read_pairs, read_prompts


def written(tmp_path, content, name="source.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def bring(path, column=None, word=None, made="static", against=None, **options):
    note = imports.write(imports.recognise(path, column, word), path, path.parent / "out", made, against, **options)
    return note, path.parent / note["file"]


def read_back(out):
    return read_prompts(out, "x", "target")


# two columns of prompts


@pytest.mark.parametrize(
    ("original", "made_by"), [("prompt", "adversarial_prompt"), ("target_prompt", "adversarial_prompt"), ("text", "adv_prompt")]
)
def test_of_an_original_and_an_adversarial_column_the_adversarial_one_is_the_prompt(tmp_path, original, made_by):
    source = written(tmp_path, f"{original},{made_by}\na church at dusk,steeple nave dusk qx\na small church,chancel tiny re\n")
    note, out = bring(source)
    assert read_back(out).prompts == ["steeple nave dusk qx", "chancel tiny re"]
    assert note["columns"] == {"prompt": made_by, "original": original}
    note, out = bring(source, column=original, force=True)
    assert read_back(out).prompts == ["a church at dusk", "a small church"] and note["columns"] == {"prompt": original}


def test_eval_unlearns_lists_are_recognised_by_name(tmp_path):
    note, out = bring(written(tmp_path, "target_prompt,adversarial_prompt\na church,zz church\na church,yy\na mill,xx\n"))
    assert note["format"] == "eval-unlearn attack list" and read_back(out).units == ["0", "0", "2"]


@pytest.mark.parametrize(
    ("header", "candidates"),
    [
        ("prompt,adversarial_prompt_v2", ["prompt", "adversarial_prompt_v2"]),
        ("adv_prompt,jailbreak_prompt", ["adv_prompt", "jailbreak_prompt"]),
    ],
)
def test_of_two_candidates_the_choice_is_asked_for(tmp_path, monkeypatch, header, candidates):
    source = written(tmp_path, f"{header}\na church,zz church\n")
    with pytest.raises(PromptError, match=f'may hold the prompts: "{candidates[0]}", "{candidates[1]}". Say which with --column NAME'):
        imports.recognise(source)
    assert imports.recognise(source, candidates[1]).rows[0]["prompt"] == "zz church"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prompts, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    done = CliRunner().invoke(main.app, ["import-prompts", "source.csv", "--provenance", "static"], input=f"{candidates[1]}\n")
    assert done.exit_code == 0, done.output
    assert read_back(tmp_path / "source-imported.csv").prompts == ["zz church"]


# languages


@pytest.mark.parametrize(
    "text",
    [
        "una foto de una niña",
        "una nina en la playa",
        "la photo d'un enfant",
        "une jeune fille au bord de la mer",
        "un garçon dans le jardin",
        "ein Foto von einem Kind",
        "Junge mit Hund am See",
        "zwei Mädchen",
        "ein 12-jähriges Model",
        "una foto di una bambina",
        "bimbo nel parco",
        "a foto de um menino",
        "uma criança na praia",
        "子供の写真",
        "女の子のイラスト",
        "子ども",
        "7歳",
        "一个女孩的照片",
        "아이들의 사진",
        "une fillette de 9 ans",
    ],
)
def test_words_for_minors_are_found_in_the_languages_that_are_known(text):
    assert names_minor(text) and names_minor(text.upper())


@pytest.mark.parametrize(
    "text",
    [
        "one of a kind",
        "a kind king painted by von Stuck",
        "Nina Simone and Nino Rota",
        "Las Meninas",
        "enfant terrible",
        "much ado about nothing",
        "a bimbo in Asia Minore",
        "eine junge Frau am Meer",
        "ein junger Mann",
        "ein Haus am See",
        "une église au bord du lac",
        "una chiesa di notte",
        "uma igreja à noite",
        "教会の写真",
        "フロリダのカロリー",
        "아이스크림",
        "Childe Hassam",
    ],
)
def test_words_that_mean_something_else_are_left(text):
    assert not names_minor(text)


def test_a_word_of_the_lists_language_counts_where_no_english_word_stands(tmp_path):
    rows = ["ein Haus am See", "eine Kirche im Schnee", "Kind", "one of a kind"]
    assert languages(rows) == ["German"] and not names_minor("Kind")
    note, out = bring(written(tmp_path, "prompt\n" + "\n".join(rows) + "\n"))
    assert read_back(out).prompts == [*rows[:2], rows[3]] and note["dropped"] == {"names a minor": 1}


def test_rows_that_name_minors_are_left_out_in_each_language_and_the_import_says_which_were_looked_for(tmp_path):
    lines = [
        "a drawing of a church,1",
        "una foto de una niña,2",
        "la photo d'un enfant,3",
        "ein Foto von einem Kind,4",
        "una foto di una bambina,5",
        "a foto de um menino,6",
        "子供の写真,7",
        "a barn at dusk,8",
        "церковь ночью,9",
    ]
    note, out = bring(written(tmp_path, "prompt,seed\n" + "\n".join(lines) + "\n"))
    assert read_back(out).seeds == [1, 8, 9] and note["dropped"] == {"names a minor": 6}
    said = "\n".join(imports.sentences(note))
    assert "in Chinese, English, French, German, Italian, Japanese, Korean, Portuguese, Spanish alone; read the list" in said
    assert "1 rows seem to be in another language: nothing was looked for in them" in said


@pytest.mark.parametrize(
    ("text", "strange"), [("церковь ночью", True), ("kościół o zmierzchu w śniegu", True), ("a naïve café", False), ("教会", False)]
)
def test_scripts_and_letters_of_other_languages_are_noticed(text, strange):
    assert foreign(text) is strange


# seeds


def test_seeds_of_64_bits_are_kept_and_used_as_torch_does(tmp_path):
    high = 2**64 - 1
    note, out = bring(written(tmp_path, f"prompt,seed\na church,9800000000000000000\na barn,{high}\na mill,4261553411\na hut,7.0\n"))
    back = read_back(out)
    assert back.seeds == [9800000000000000000, high, 4261553411, 7] and note["n"] == 4
    model = SimpleNamespace(latent_shape=(1, 2, 2))
    from workbench.diffusion.denoise import initial_noise

    own = torch.randn(1, 2, 2, generator=torch.Generator().manual_seed(high))
    assert torch.equal(initial_noise(model, [high])[0], own) and torch.equal(initial_noise(model, [-1])[0], own)
    assert torch.equal(initial_noise(model, [high + 8])[0], initial_noise(model, [7])[0])


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([2**64], r"row 1 has the seed 18446744073709551616, which is above 2\^64 - 1"),
        ([-(2**63) - 1], r"which is below -2\^63"),
        ([1, 1.7], 'row 2 has the seed "1.7", which is no integer'),
        ([1, "1e3"], '"1e3", which is no integer'),
        ([1, "many"], '"many", which is no integer'),
        ([1, "9" * 5000], r"above 2\^64 - 1"),
        ([1, "nan"], "no integer"),
    ],
)
def test_other_seeds_are_refused_with_the_true_reason_when_imported_and_when_read(tmp_path, seeds, message):
    source = written(tmp_path, "prompt,seed\n" + "".join(f"a church,{seed}\n" for seed in seeds))
    with pytest.raises(PromptError, match=message):
        bring(source)
    with pytest.raises(PromptError, match=message):
        read_back(source)


def test_a_column_of_numbers_holds_seeds_of_one_kind_and_all_of_them(tmp_path):
    with pytest.raises(PromptError, match="seeds below 0 and above"):
        read_back(written(tmp_path, f"prompt,seed\na,-1\nb,{2**63}\n"))
    with pytest.raises(PromptError, match="row 2 has no seed, others have one"):
        read_back(written(tmp_path, "prompt,seed\na,1\nb,\n"))


# quotation marks


def test_marks_inside_prompts_are_read_as_they_stand(tmp_path):
    lines = ['"Gothic" church at night', 'church, "baroque", at noon', "a church by a lake", '"a church, in snow"']
    note, out = bring(written(tmp_path, "prompt\n" + "\n".join(lines) + "\n"))
    assert read_back(out).prompts == [*lines[:3], "a church, in snow"]
    assert any("read as they stand, with their quotation marks: 2" in one for one in note["notes"])
    note, out = bring(written(tmp_path, 'prompt,seed\n"Gothic" church at night,5\n"a mill, red",6\n'), force=True)
    assert read_back(out).prompts == ['"Gothic" church at night', "a mill, red"] and read_back(out).seeds == [5, 6]


@pytest.mark.parametrize(
    "content", ['prompt\n"Gothic church\na mill\n', 'prompt,seed\n"Gothic, old" church,5\n', 'prompt\na mill\n"x" y "\n']
)
def test_marks_that_can_be_read_in_several_ways_stop_the_import(tmp_path, content):
    with pytest.raises(PromptError, match="not closed"):
        imports.recognise(written(tmp_path, content))


@pytest.mark.parametrize(
    "content", ['prompt\n"Gothic" church\n', 'prompt\nchurch, "baroque", at noon\n', "prompt,seed\nan old church, at dusk,5\n"]
)
def test_a_study_reads_no_list_that_can_be_read_in_two_ways(tmp_path, content):
    with pytest.raises(PromptError, match="import-prompts|cells, the header"):
        read_back(written(tmp_path, content))


# what stands for a file, and files of other kinds


@pytest.mark.parametrize("name", ["list.csv", "list.txt", "list.json", "vector.pt", "vector.safetensors"])
def test_pointers_and_web_pages_are_called_by_name(tmp_path, name):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 4265380512\n"
    for content, what in ((pointer, "a Git LFS pointer"), ("<!DOCTYPE html>\n<html><body>Sign in</body></html>\n", "a web page")):
        with pytest.raises(PromptError, match=f"{what}.* Get the file itself"):
            imports.recognise(written(tmp_path, content, name))


def test_pipes_are_not_waited_for_and_links_in_a_circle_are_told(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    for name, what in (("pipe.csv", "a pipe"), ("pipe.pt", "a pipe"), ("loop.csv", "symbolic links")):
        with pytest.raises(PromptError, match=what):
            imports.recognise(tmp_path / name)


def test_a_folder_of_too_many_files_is_not_looked_through(tmp_path, monkeypatch):
    monkeypatch.setattr(imports, "MOST_FILES", 3)
    for number in range(5):
        written(tmp_path, "x", f"{number}.png")
    with pytest.raises(PromptError, match="more than 3 files. Name the folder of the runs"):
        imports.recognise(tmp_path)


# bare vectors


@pytest.mark.parametrize("name", ["vector.pt", "vector.pth"])
def test_a_bare_vector_becomes_an_embedding_of_the_word_it_stands_for(tmp_path, model, monkeypatch, name):
    vector = torch.randn(1, 32)
    torch.save(vector, tmp_path / name)
    with pytest.raises(PromptError, match='holds 1 bare vector of 32 channels, and no word for it.* --word "<church>"'):
        imports.recognise(tmp_path / name)
    note, out = bring(tmp_path / name, word="<church>", made="optimised", against="erased")
    assert note["tokens"] == ["<church>"] and note["format"] == "a bare vector"
    (tmp_path / "t.csv").write_text("unit,prompt,seed\na,owl in ink style,1\n")
    attack, targets = method("attacks", "from_file"), read_prompts(tmp_path / "t.csv", "target", "target")
    made = attack.call(model, targets, attack.parameters(file="out.safetensors", token="<church>"), Context([], folder=tmp_path))
    assert torch.equal(made.prefix[0], vector)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prompts, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    done = CliRunner().invoke(main.app, ["import-prompts", name, "--provenance", "static", "--out", "asked"], input="<mill>\n")
    assert done.exit_code == 0 and json.loads((tmp_path / "asked.about.json").read_text())["tokens"] == ["<mill>"], done.output


def test_a_word_goes_with_bare_vectors_alone(tmp_path):
    torch.save({"<a>": torch.zeros(1, 8)}, tmp_path / "named.pt")
    for path in (tmp_path / "named.pt", written(tmp_path, "prompt\na church\n")):
        with pytest.raises(PromptError, match="leave out --word|Leave it out"):
            imports.recognise(path, word="<church>")
    torch.save(torch.zeros(1, 8), tmp_path / "bare.pt")
    with pytest.raises(PromptError, match="--word is empty"):
        imports.recognise(tmp_path / "bare.pt", word=" ")


# cells that hold nothing, or what no prompt holds


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("prompt,seed\na church,1\n ,2\n", "row 2 has a blank prompt. Write one, or remove the row"),
        ("prompt,seed\na church,1\n,2\n", "row 2 has a blank prompt"),
        ("unit,prompt\na,a church\n,a mill\n", "row 2 has a blank unit"),
        ("id,prompt\n1,a church\n,a mill\n", "row 2 has a blank id"),
        ("prompt,seed\na \x1b[31mchurch,1\n", r"line 2 holds the control character U\+001B"),
        ("prompt,prompt\na,b\n", 'the column "prompt" twice'),
        ("prompt,seed\na,1,2\n", "line 2 has 3 cells, the header 2"),
        ("prompt\na\0b\n", "null bytes"),
    ],
)
def test_cells_that_no_prompt_can_have_stop_a_study_at_once(tmp_path, content, message):
    with pytest.raises(PromptError, match=message):
        read_back(written(tmp_path, content))


def test_a_blank_prompt_is_no_pair(tmp_path):
    with pytest.raises(PromptError, match="row 2 has a blank prompt"):
        read_pairs(written(tmp_path, "prompt,anchor\na church,\n,a mill\n"))


def test_cells_stay_as_they_stand_and_numbers_are_text(tmp_path):
    table = read_csv(written(tmp_path, "unit,prompt,expect,seed\n007,1.50,3,5\n008,True,NA,6\n"))
    assert (
        table["unit"].tolist() == ["007", "008"]
        and table["prompt"].tolist() == ["1.50", "True"]
        and table["expect"].tolist() == ["3", "NA"]
    )


def test_control_characters_drop_a_row_of_an_import_and_are_counted(tmp_path):
    note, out = bring(written(tmp_path, "prompt,seed\na \x1b[31mchurch\x07,1\na mill,2\n"))
    assert note["dropped"] == {"holds control characters": 1} and read_back(out).prompts == ["a mill"]


# JSON


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"prompt": NaN}]', "NaN stands where a number should be"),
        ('[{"prompt": ["a church"]}]', "in row 1 the prompt is a list, no text"),
        ('[{"prompt": "a", "seed": ' + "9" * 5000 + "}]", "no JSON file"),
        ("[" * 100_000, "no JSON file"),
    ],
)
def test_json_that_holds_no_prompts_is_told(tmp_path, content, message):
    with pytest.raises(PromptError, match=message):
        bring(written(tmp_path, content, "a.json"))


@pytest.mark.parametrize(
    "config",
    [{"overall": {"attacker": ["x"]}}, {"task": {"concept": {}, "target_ckpt": ["a"]}}, {"attacker": {"attack_idx": "²"}}, {"overall": 3}],
)
def test_a_log_whose_settings_are_of_other_types_is_read_without_them(tmp_path, config):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    (tmp_path / "run" / "log.json").write_text(json.dumps([{"prompt": "a church", "style": 3}, {"prompt": "zz church", "success": True}]))
    assert imports.recognise(tmp_path / "run").rows[0]["prompt"] == "zz church"


# where it is written


@pytest.mark.parametrize(
    ("out", "message"), [("/proc/x", "cannot be written"), (".", "is a folder. Name the file to write in it"), ("a" * 300, "written")]
)
def test_a_place_that_cannot_be_written_is_told(tmp_path, monkeypatch, out, message):
    monkeypatch.chdir(tmp_path)
    source = written(tmp_path, "prompt\na church\n")
    with pytest.raises(PromptError, match=message):
        imports.write(imports.recognise(source), source, out, "static", force=True)
    assert os.listdir() == ["source.csv"]
