"""Prompts from outside: recognised, refused with a reason, written so that the workbench reads them."""

import hashlib
import json

import pytest

from tests.study.imported import PROMPTS, TABLES, log_run, record, table
from workbench.errors import ModelError, PromptError
from workbench.study import imports
from workbench.study.imports.cleaning import names_minor
from workbench.study.imports.lengths import estimated
from workbench.study.prompts import read_pairs, read_prompts


def bring(path, made="static", against=None, column=None, **options):
    """Import a file to `out` beside it: (note, path of the file written)."""
    note = imports.write(imports.recognise(path, column), path, path.parent / "out", made, against, **options)
    return note, path.parent / note["file"]


def written(tmp_path, content, name="source.csv"):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_published_table_is_recognised_and_read_back(tmp_path, name):
    source = table(tmp_path / "source.csv", name)
    note, out = bring(source)
    back = read_prompts(out, "x", "target")
    assert note["format"] == name and note["n"] == 3 and note["n_dropped"] == 0
    assert back.prompts == PROMPTS and back.seeds == ([100, 101, 102] if "seed" in note["columns"] else [0, 0, 0])
    assert back.units == back.table["id"].astype(str).tolist() == ["0", "1", "2"]
    assert note["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert json.loads((tmp_path / "out.about.json").read_text())["provenance"] == "static"


@pytest.mark.parametrize("name", [name for name in TABLES if "guidance" in TABLES[name][0]])
def test_guidance_is_kept_and_a_study_must_sample_with_it(tmp_path, name):
    note, out = bring(table(tmp_path / "source.csv", name))
    assert out.read_text().splitlines()[0] == "unit,id,prompt,seed,guidance" and out.read_text().count("7.5") == 3
    assert "sampling.guidance = 7.5" in note["notes"][-1]
    assert "guidance" not in read_prompts(out, "x", "target", guidance=7.5).table
    with pytest.raises(
        PromptError, match="asks for 7.5; a study samples all rows with sampling.guidance, here 5. Set sampling.guidance = 7.5"
    ):
        read_prompts(out, "x", "target", guidance=5.0)


def test_several_values_of_guidance_are_kept_for_the_reader_and_said(tmp_path):
    note, out = bring(written(tmp_path, "prompt,sd_guidance_scale\na church,7.5\na barn,9\n"))
    assert out.read_text().splitlines()[0] == "unit,id,prompt,seed,source_guidance"
    assert any("2 values of guidance" in one and "source_guidance" in one for one in note["notes"])
    assert read_prompts(out, "x", "target", guidance=5.0).prompts == ["a church", "a barn"]


def test_mma_keeps_what_each_prompt_was_made_from(tmp_path):
    source = written(
        tmp_path,
        "target_prompt,adv_prompt,sanitized_adv_prompt,success_against_sanitization_defense,clean_prompt\n"
        "a church,chrch spire zz,chrch spire,True,a barn\n",
    )
    note, out = bring(source, "transferred", "SD 1.5")
    assert note["format"] == "MMA-Diffusion" and note["columns"] == {"prompt": "adv_prompt", "original": "target_prompt"}
    assert out.read_text() == "unit,id,prompt,seed,original\n0,0,chrch spire zz,0,a church\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.csv", "an old church at dusk,5\na church by the sea,6\n"),
        ("list.csv", '"an old church, at dusk"\na church by the sea\n'),
        ("list.csv", "an old church, at dusk\na church by the sea\n"),
        ("list.txt", "an old church, at dusk\n\na church by the sea\n"),
    ],
)
def test_a_list_without_a_header_loses_no_row(tmp_path, name, content):
    note, out = bring(written(tmp_path, content, name))
    assert "without a header" in note["format"]
    first, second = read_prompts(out, "x", "target").prompts
    assert first == ("an old church at dusk" if "5" in content else "an old church, at dusk") and second == "a church by the sea"


def test_only_line_ends_end_a_row(tmp_path):
    note, out = bring(written(tmp_path, "\r\nprompt,seed\r\na church\u2028at dusk,4\r\n\r\na mill,5\r\n"))
    assert note["n"] == 2 and read_prompts(out, "x", "target").seeds == [4, 5]


def test_json_lists_and_lines_are_read_and_other_json_is_refused(tmp_path):
    records = [{"prompt": text, "seed": 3} for text in PROMPTS]
    for name, content in (("a.json", json.dumps(records)), ("b.jsonl", "\n".join(map(json.dumps, records)))):
        note, out = bring(written(tmp_path, content, name), force=True)
        assert note["n"] == 3 and read_prompts(out, "x", "target").seeds == [3, 3, 3]
    for content in ('{"prompt": "x"}', "[1, 2]", "[]", "3"):
        with pytest.raises(PromptError, match="something else than prompts"):
            imports.recognise(written(tmp_path, content, "c.json"))


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("sensitive prompt,normal prompt", ["sensitive prompt", "normal prompt"]),
        ("prompt,anchor", ["prompt", "anchor"]),
        ("prompt,prompt1", ["prompt", "prompt1"]),
    ],
)
def test_a_pair_list_becomes_pairs_for_an_eraser_and_never_an_attack(tmp_path, header, columns):
    source = written(tmp_path, f"{header}\na church at dusk,a barn at dusk\na church,\n")
    with pytest.raises(PromptError, match="no attack: it has no provenance. Leave out --provenance"):
        bring(source, "static")
    note, out = bring(source, None)
    assert note["kind"] == "pairs" and note["provenance"] is None and list(note["columns"].values()) == columns
    assert read_pairs(out) == [("a church at dusk", "a barn at dusk"), ("a church", "")]


def test_a_column_with_a_name_of_its_own_is_chosen(tmp_path):
    source = written(tmp_path, "caption,seed\na church,7\n")
    with pytest.raises(PromptError, match="found caption, seed. Name the one that holds them: --column NAME"):
        imports.recognise(source)
    with pytest.raises(PromptError, match='no column "capshun"'):
        imports.recognise(source, "capshun")
    note, out = bring(source, column="caption")
    assert note["columns"] == {"prompt": "caption", "seed": "seed"} and read_prompts(out, "x", "target").seeds == [7]


def test_a_chosen_column_takes_the_place_of_the_one_found(tmp_path):
    source = written(tmp_path, "target_prompt,adv_prompt,sanitized_adv_prompt\na church,zz church,church\n")
    assert imports.recognise(source, "sanitized_adv_prompt").rows == [{"prompt": "church", "original": "a church", "named": "zz church"}]


def test_rows_that_name_minors_and_empty_rows_are_dropped_counted_and_not_printed(tmp_path):
    source = written(tmp_path, 'prompt,seed\na child in a garden,1\na church,2\n"  ",3\nNA,4\na 7-year-old by a church,5\n')
    note, out = bring(source)
    assert note["dropped"] == {"names a minor": 2, "empty prompt": 1}
    assert note["n"] == 2 and note["n_dropped"] == 3
    kept = read_prompts(out, "x", "target")
    assert kept.prompts == ["a church", "NA"] and kept.seeds == [2, 4]
    said = "\n".join(imports.sentences(note)) + out.read_text() + json.dumps(note)
    assert "2 dropped: names a minor" in said and "garden" not in said and "7-year" not in said


@pytest.mark.parametrize("column", ["target_prompt", "adv_prompt"])
def test_a_minor_in_the_original_or_the_anchor_drops_the_row_as_well(tmp_path, column):
    other = {"target_prompt": "adv_prompt", "adv_prompt": "target_prompt"}[column]
    source = written(tmp_path, f"{column},{other}\ntwo children by a church,a church\na church,a church\n")
    assert bring(source)[0]["dropped"] == {"names a minor": 1}
    pairs = written(tmp_path, "prompt,anchor\na church,a toddler\na church,a barn\n", "pairs.csv")
    assert bring(pairs, None, force=True)[0]["n"] == 1


@pytest.mark.parametrize(
    "text",
    ["a CHILD", "kids", "school-girl", "Little  boy", "16yo", "aged 12", "twelve years old", "teen-aged", "ｃｈｉｌｄ", "a baby's cot"],
)
def test_words_for_minors_are_found(text):
    assert names_minor(f"a garden, {text}, ink style")


@pytest.mark.parametrize("text", ["Childe Hassam", "kidney beans", "an 18 year old car", "117 years old", "a minority", "canteen", "totem"])
def test_other_words_are_not_taken_for_minors(text):
    assert not names_minor(f"a garden, {text}, ink style")


def test_when_every_row_is_refused_nothing_is_written(tmp_path):
    with pytest.raises(PromptError, match="no prompts that can be imported: 1 x names a minor"):
        bring(written(tmp_path, "prompt\na child\n"))
    assert [path.name for path in tmp_path.iterdir()] == ["source.csv"]


def test_ring_a_bells_violence_list_is_told_from_an_attack_by_its_second_prompt(tmp_path):
    source = written(tmp_path, 'prompt,case_number,evaluation_seed,prompt1\n"A church, burning.",0,58,"A church, whole."\n')
    assert imports.recognise(source).format == "pair list of Ring-A-Bell (prompt, prompt1)"
    assert read_pairs(bring(source, None)[1]) == [("A church, burning.", "A church, whole.")]


def test_prompts_in_pieces_are_told_to_be_joined(tmp_path):
    source = written(tmp_path, "case_number,colour,people,clothes,location,evaluation_seed\n0,red,owls,None,in the barn,7\n")
    with pytest.raises(PromptError, match="prompts in pieces, in the columns case_number, colour, .* Join the pieces"):
        imports.recognise(source)


def test_rows_with_the_same_prompt_share_a_unit(tmp_path):
    rows = ["0,Image of church,1", "1,Image of mill,2", "2,image  of church,3", "3,Image of church,1"]
    note, out = bring(written(tmp_path, "\n".join([",case_number,prompt,evaluation_seed,class", *(f"{r[0]},{r},x" for r in rows)])))
    back = read_prompts(out, "x", "target")
    assert back.units == ["0", "1", "0", "0"] and back.table["id"].astype(str).tolist() == ["0", "1", "2", "3"]
    assert note["n"] == 4 and note["n_units"] == 2 and back.seeds == [1, 2, 3, 1]
    said = "\n".join(imports.sentences(note))
    assert "Imported    4 prompts of 2 units" in said and "share one unit" in said
    assert "images will be the same: 1" in said


def test_a_list_of_one_prompt_has_its_seeds_as_units(tmp_path):
    note, out = bring(written(tmp_path, "prompt,seed\r\na picture of a church,1825\r\na picture of a church,410\r\n"))
    assert note["n_units"] == 2 and read_prompts(out, "x", "target").units == ["0", "1"]
    assert any("all rows are one prompt" in one for one in note["notes"])


def test_commas_outside_quotation_marks_belong_to_the_prompt_where_a_seed_stands_behind_it(tmp_path):
    lines = ["case_number,prompt,evaluation_seed,class", "0,An owl,4,owl", "1,At dusk, by the sea, an old church,5,church"]
    note, out = bring(written(tmp_path, "\n".join(lines)))
    back = read_prompts(out, "x", "target")
    assert back.prompts == ["An owl", "At dusk, by the sea, an old church"] and back.seeds == [4, 5]
    assert any(one.startswith("rows whose prompt has commas outside quotation marks") and one.endswith(": 1") for one in note["notes"])


def test_prompts_made_from_one_original_share_a_unit(tmp_path):
    source = written(tmp_path, "target_prompt,adv_prompt\na church,zz church\na mill,yy\na church,xx church\n")
    _, out = bring(source, "transferred", "SD 1.5")
    assert read_prompts(out, "x", "target").units == ["0", "1", "0"]


def test_the_column_without_the_concept_gives_a_reference_set_of_the_same_units(tmp_path):
    header, line = TABLES["ConceptPrune, FIA or Roots style list"]
    source = written(tmp_path, "\n".join([header, *(line.format(prompt, 100 + i, 7.5, i) for i, prompt in enumerate(PROMPTS))]))
    note, out = bring(source)
    assert any("--column base" in one for one in note["notes"])
    targets = read_prompts(out, "t", "target")
    note, out = bring(source, column="base", force=True)
    references = read_prompts(out, "r", "reference")
    assert references.prompts == ["a hill"] * 3 and note["columns"]["prompt"] == "base"
    assert references.units == targets.units == ["0", "1", "2"] and references.seeds == targets.seeds


@pytest.mark.parametrize("name", ["P4D class list", "COCO captions as P4D keeps them"])
def test_lists_that_p4d_starts_from_are_not_taken_for_its_attacks(tmp_path, name):
    assert bring(table(tmp_path / "source.csv", name))[0]["notes"][0] == "these are the prompts P4D starts from, not its attacks"


def test_repeated_ids_are_made_unique_without_taking_another_rows_id(tmp_path):
    source = written(tmp_path, "case_number,prompt\n1,a church\n1,a barn\n1-2,a garden\n1,a mill\n")
    note, out = bring(source)
    assert read_prompts(out, "x", "target").table["id"].tolist() == ["1", "1-3", "1-2", "1-4"] and note["n_renamed"] == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("prompt,seed\na church,many\n", 'row 1 has the seed "many", which is no integer'),
        ("prompt,seed\na church,99999999999999999999\n", r"above 2\^64 - 1 = 18446744073709551615, the highest"),
        ("prompt,seed\nan old church, at dusk,x\n", "row 1 has 3 cells, the header 2"),
        ("seed,prompt\n3,an old church, at dusk\n", "row 1 has 3 cells, the header 2"),
        ("prompt,class\nan old church, at dusk,3\n", "row 1 has 3 cells, the header 2"),
        ('prompt,seed\n"a church,3\n', "quotation mark that is not closed"),
        ("prompt\n", "the file has no rows"),
        ("", "the file is empty"),
        ("promt,seeds\nowl,1\n", "found promt, seeds"),
    ],
)
def test_a_bad_table_is_told_in_one_sentence(tmp_path, content, message):
    with pytest.raises(PromptError, match=message):
        bring(written(tmp_path, content))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"\x89PNG\r\n", "it is a PNG image"),
        ("a.npy", b"\x93NUMPY\x01", "concept vectors of Ring-A-Bell"),
        ("a.csv", b"prompt\n\0\1", "binary file"),
        ("a.csv", "prompt\ncafé\n".encode("latin-1"), "not UTF-8 text"),
        ("a.xlsx", b"PK\x03\x04", "spreadsheet; export it as CSV"),
    ],
)
def test_files_that_hold_no_text_are_refused_with_what_they_are(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PromptError, match=message):
        imports.recognise(tmp_path / name)


def test_folders_without_logs_are_refused_with_what_to_name_instead(tmp_path):
    (tmp_path / "imgs").mkdir()
    (tmp_path / "imgs" / "0_0.png").write_bytes(b"\x89PNG")
    with pytest.raises(PromptError, match="a folder of images; it holds no prompts"):
        imports.recognise(tmp_path)
    written(tmp_path, "prompt\nx\n", "prompts.csv")
    with pytest.raises(PromptError, match="workbench import-prompts .*prompts.csv"):
        imports.recognise(tmp_path)
    with pytest.raises(PromptError, match="does not exist"):
        imports.recognise(tmp_path / "nothing.csv")


@pytest.mark.parametrize(
    ("made", "against", "message"),
    [
        (None, None, r"Say --provenance static\|transferred\|optimised"),
        ("optimized", "esd", 'Did you mean "optimised"'),
        ("optimised", None, "needs --against"),
        ("transferred", "  ", "needs --against"),
        ("static", "esd", "Leave one of them out"),
    ],
)
def test_a_missing_or_impossible_provenance_names_the_option(tmp_path, made, against, message):
    with pytest.raises(PromptError, match=message):
        bring(written(tmp_path, "prompt\na church\n"), made, against)


def test_importing_again_keeps_rows_and_provenance(tmp_path):
    note, first = bring(table(tmp_path / "source.csv", "UnlearnDiffAtk"), "optimised", "esd")
    again = imports.write(imports.recognise(first), first, tmp_path / "again.csv")
    assert (again["provenance"], again["against"]) == ("optimised", "esd") and again["format"] == "workbench prompt set"
    assert (tmp_path / "again.csv").read_bytes() == first.read_bytes()


def test_a_damaged_note_is_not_taken_for_static(tmp_path):
    source = written(tmp_path, "prompt\na church\n")
    for content in ("{", "[]", '{"provenance": "optimised", "against": null}', '{"provenance": "x", "against": "y"}'):
        written(tmp_path, content, "source.about.json")
        with pytest.raises(PromptError, match="source.about.json (is damaged|says the provenance)"):
            imports.recognise(source)


def test_nothing_is_replaced_without_force_and_never_the_source(tmp_path):
    source = written(tmp_path, "prompt\na church\n", "out.csv")
    with pytest.raises(PromptError, match="is the source itself"):
        bring(source, force=True)
    other = written(tmp_path, "prompt\na barn\n", "other.csv")
    with pytest.raises(PromptError, match="--force to replace it"):
        bring(other)
    assert source.read_text() == "prompt\na church\n"
    bring(other, force=True)
    assert "a barn" in source.read_text()
    with pytest.raises(PromptError, match=r"must end in \.csv"):
        imports.write(imports.recognise(other), other, tmp_path / "x.parquet", "static")


def test_long_prompts_are_estimated_by_words_and_counted_by_a_tokenizer(tmp_path, tiny_folder):
    source = written(tmp_path, "prompt\na church\n" + "church " * 15 + "\n" + "church " * 76 + "\n")
    note, _ = bring(source)
    assert note["longer"] == {"n": 1, "limit": 77, "counted": "words", "model": None}
    assert any("about 1 prompts" in line and "estimated by words" in line for line in imports.sentences(note))
    note, _ = bring(source, model=tiny_folder, force=True)
    assert note["longer"]["n"] == 2 and note["longer"]["limit"] == 16 and note["longer"]["counted"] == "tokens"
    with pytest.raises(ModelError, match="has no tokenizer"):
        bring(source, model=tmp_path, force=True)


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [("a church", 4), ("a church, at dusk!!", 8), ("in 1920", 7), ("the church's door", 6), ("grzqvxtkwpplm", 4), ("", 2)],
)
def test_tokens_are_estimated_as_clip_cuts_text(prompt, tokens):
    assert estimated(prompt) == tokens


def test_a_log_folder_gives_original_adversarial_success_and_image(tmp_path):
    root = tmp_path / "logs"
    log_run(root, 10, [record("a church", False), record("zq a church", False), record("xv a church", True), record("late", True)])
    log_run(root, 2, [record("a mill", True)])
    log_run(root, 3, [record("a barn", False), record("kk a barn", False)], images=False)
    log_run(root, 4, [record("a hut", False)], attacker="no_attack")
    (log_run(root, 5, [record("x", False)]) / "log.json").write_text("{broken")
    note, out = bring(root, "optimised", "esd")
    assert out.read_text().splitlines() == [
        "unit,id,prompt,seed,original,success,success_before,image",
        "2,2,a mill,0,a mill,True,True,run-2/images/orig.png",
        "3,3,kk a barn,0,a barn,False,False,",
        "10,10,xv a church,0,a church,True,False,run-10/images/30.png",
    ]
    assert note["dropped"] == {"run without an attack (no_attack)": 1, "run without a readable log": 1}
    assert note["logged_checkpoint"] == "esd-church.pt" and any("no seeds" in one for one in note["notes"])


def test_runs_of_seed_search_have_no_prompts_and_say_so(tmp_path):
    log_run(tmp_path, 0, [record("a church", False), record("zq a church", True)])
    log_run(tmp_path, 1, [{"seed": "3", "success": False}, {"seed": "8", "success": True}], attacker="seed_search")
    found = imports.recognise(tmp_path)
    assert len(found.rows) == 1 and found.dropped == {"run of seed_search, which logs seeds, no prompts": 1}


def test_one_run_is_read_from_its_folder_or_its_log_file(tmp_path):
    run = log_run(tmp_path, 0, [record("a church", False), record("zq a church", True, seed=9)])
    rows = imports.recognise(run).rows
    assert rows == imports.recognise(run / "log.json").rows and rows[0]["seed"] == "9" and rows[0]["image"] == "images/10.png"


def test_style_runs_succeed_when_the_style_is_among_the_first_ten_labels(tmp_path):
    def labels(place):
        names = [f"artist-{i}" for i in range(20)]
        names[place] = "vincent-van-gogh"
        return [{"label": name, "score": 0.1} for name in names]

    records = [record("a mill", style=labels(15)), record("zq a mill", style=labels(10)), record("xv a mill", style=[labels(9)])]
    log_run(tmp_path, 0, records, concept="vangogh")
    log_run(tmp_path, 1, [record("a tree"), record("pp a tree")], concept="other")
    found = imports.recognise(tmp_path)
    assert [(row["prompt"], row["success"], row["success_before"]) for row in found.rows] == [
        ("xv a mill", "True", "False"),
        ("pp a tree", "", ""),
    ]
    assert any("first 10 labels" in one for one in found.notes) and any("1 runs do not say" in one for one in found.notes)


def test_a_log_folder_names_the_checkpoint_when_against_is_missing(tmp_path):
    log_run(tmp_path / "logs", 0, [record("a church", False), record("zq a church", True)])
    with pytest.raises(PromptError, match='The log names the checkpoint "esd-church.pt"'):
        bring(tmp_path / "logs", "optimised")
    empty = tmp_path / "plain"
    log_run(empty, 0, [record("a church", True)], attacker="no_attack")
    with pytest.raises(PromptError, match="no attack to import"):
        imports.recognise(empty)
