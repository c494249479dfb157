"""Learned embeddings: read without running code, written for the attack from_file; that attack with every import."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.study.imported import log_run, record
from workbench.errors import PromptError, StudyError
from workbench.methods.attacks import Context
from workbench.registry import method
from workbench.study import imports
from workbench.study.imports.embeddings import load_vectors
from workbench.study.prompts import read_prompts

ATTACK = method("attacks", "from_file")


@pytest.fixture
def targets(tmp_path):
    (tmp_path / "t.csv").write_text("unit,prompt,seed\na,owl in ink style,1\nb,cat in ink style,2\n")
    return read_prompts(tmp_path / "t.csv", "target", "target")


def bring(path, made="transferred", against="SD 1.4"):
    note = imports.write(imports.recognise(path), path, path.parent / "out", made, against, force=True)
    return note, Path(note["file"])


def save(path, content):
    save_file(content, path) if path.suffix == ".safetensors" else torch.save(content, path)
    return path


@pytest.mark.parametrize("name", ["learned_embeds.safetensors", "learned_embeds.bin", "learned_embeds-steps-50.bin"])
def test_embeddings_come_back_bit_for_bit_with_their_tokens(tmp_path, name):
    given = {"<church>": torch.randn(2, 32), "<ink>": torch.randn(2, 32)}
    note, out = bring(save(tmp_path / name, given))
    places, array = load_vectors(out)
    assert array.shape == (2, 2, 32) and note["n"] == 2 and note["n_channels"] == 32 and out.name == "out.safetensors"
    assert all(torch.equal(array[places[token]], given[token]) for token in given)
    assert imports.read_about(out)["provenance"] == "transferred"


def test_one_vector_half_precision_and_the_web_interface_layout_are_read(tmp_path):
    vector = torch.randn(32)
    found = imports.recognise(save(tmp_path / "a.bin", {"<church>": vector.half().requires_grad_()}))
    assert found.vectors["<church>"].shape == (1, 32) and torch.equal(found.vectors["<church>"][0], vector.half().float())
    found = imports.recognise(save(tmp_path / "a.pt", {"string_to_param": {"*": vector[None]}, "name": "church"}))
    assert torch.equal(found.vectors["church"], vector[None])


class Harmful:
    """Unpickling this would run code."""

    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


def test_a_pickle_that_runs_code_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"<church>": Harmful()}, tmp_path / "a.bin")
    (tmp_path / "b.bin").write_bytes(pickle.dumps(Harmful()))
    for name in ("a.bin", "b.bin"):
        with pytest.raises(PromptError, match="holds more than arrays, which is not opened"):
            imports.recognise(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"unet.weight": torch.zeros(4, 4, 3, 3)}, "Is it a checkpoint"),
        ({"<a>": torch.zeros(90, 8)}, "more than a prompt has room for"),
        ({"<a>": torch.zeros(1, 8), "<b>": torch.zeros(1, 12)}, "different shapes .*1 x 8, 1 x 12"),
        ({"<a>": torch.full((1, 8), float("nan"))}, "not finite"),
        ({"<a>": torch.zeros(2, 8, dtype=torch.int64)}, "no learned embeddings"),
        ({"<little boy>": torch.zeros(1, 8)}, "names a minor"),
        ({}, "it is empty"),
        (torch.zeros(2, 3, 4), r"holds a bare array \(2, 3, 4\)"),
        (torch.zeros(3, dtype=torch.int64), "no vectors"),
        ([1], "holds a list"),
        ({"string_to_param": {"*": 7}, "name": "x"}, "no learned embeddings"),
        ({"string_to_param": 7, "name": "x"}, "no embedding of the A1111 web interface"),
        ({"string_to_param": {"*": torch.zeros(1, 8)}, "name": ["x"]}, "no embedding of the A1111 web interface"),
    ],
)
def test_what_is_no_embedding_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "a.bin")
    with pytest.raises(PromptError, match=message):
        imports.recognise(tmp_path / "a.bin")


@pytest.mark.parametrize("name", ["a.bin", "a.safetensors"])
def test_a_damaged_embedding_file_is_told(tmp_path, name):
    (tmp_path / name).write_bytes(b"no arrays here")
    with pytest.raises(PromptError, match="a.bin is no file of embeddings|a.safetensors is damaged"):
        imports.recognise(tmp_path / name)


def test_an_embedding_stands_before_every_prompt_and_its_control_has_its_norms(model, targets, tmp_path):
    vector = torch.randn(2, 32)
    _, out = bring(save(tmp_path / "learned_embeds.safetensors", {"<church>": vector}))
    context, parameters = Context(["ink"], folder=tmp_path), ATTACK.parameters(file=out.name)
    made = ATTACK.call(model, targets, parameters, context)
    assert made.prompts == targets.prompts and made.seeds == targets.seeds
    assert torch.equal(made.prefix, torch.stack([vector, vector]))
    control = ATTACK.control(model, targets, made, parameters, context)
    assert control.control and torch.allclose(control.prefix.norm(dim=-1), made.prefix.norm(dim=-1), rtol=1e-4)
    assert not torch.allclose(control.prefix, made.prefix)


def test_several_embeddings_are_chosen_by_token_or_belong_to_units(model, targets, tmp_path):
    given = {"a": torch.randn(1, 32), "b": torch.randn(1, 32), "c": torch.randn(1, 32)}
    _, out = bring(save(tmp_path / "e.bin", given))
    context = Context([], folder=tmp_path)
    made = ATTACK.call(model, targets, ATTACK.parameters(file=out.name), context)
    assert torch.equal(made.prefix, torch.stack([given["a"], given["b"]]))
    made = ATTACK.call(model, targets, ATTACK.parameters(file=out.name, token="c"), context)
    assert torch.equal(made.prefix[1], given["c"])
    with pytest.raises(PromptError, match='no embedding "d"'):
        ATTACK.call(model, targets, ATTACK.parameters(file=out.name, token="d"), context)
    _, out = bring(save(tmp_path / "e.bin", {"<x>": given["a"], "<y>": given["b"]}))
    with pytest.raises(PromptError, match="Choose one with the parameter token: <x>, <y>"):
        ATTACK.call(model, targets, ATTACK.parameters(file=out.name), context)


@pytest.mark.parametrize(("shape", "message"), [((1, 8), "8 channels, the text encoder of tiny takes 32"), ((14, 32), "no word would")])
def test_vectors_that_do_not_fit_the_model_are_refused(model, targets, tmp_path, shape, message):
    _, out = bring(save(tmp_path / "e.bin", {"<x>": torch.zeros(shape)}))
    with pytest.raises(PromptError, match=message):
        ATTACK.call(model, targets, ATTACK.parameters(file=out.name), Context([], folder=tmp_path))


def test_embeddings_that_were_not_imported_are_refused(model, targets, tmp_path):
    save(tmp_path / "raw.safetensors", {"<x>": torch.zeros(1, 32)})
    with pytest.raises(PromptError, match="Import it first: workbench import-prompts"):
        ATTACK.call(model, targets, ATTACK.parameters(file="raw.safetensors"), Context([], folder=tmp_path))


def test_an_imported_log_meets_its_targets_by_the_original_text_not_the_index(model, targets, tmp_path):
    root = tmp_path / "logs"
    log_run(root, 0, [record("cat in ink style", False), record("zq cat in ink style", True)])
    log_run(root, 1, [record("Owl in  ink style", False), record("xv owl in ink style", False)])
    _, out = bring(root, "optimised", "erased")
    made = ATTACK.call(model, targets, ATTACK.parameters(file=out.name), Context([], folder=tmp_path))
    assert made.prompts == ["xv owl in ink style", "zq cat in ink style"] and made.seeds == [1, 2]
    log_run(tmp_path / "others", 0, [record("a church", False), record("zq a church", True)])
    _, out = bring(tmp_path / "others", "optimised", "erased")
    with pytest.raises(PromptError, match="made from other prompts: its column `original` has none for 2 units"):
        ATTACK.call(model, targets, ATTACK.parameters(file=out.name), Context([], folder=tmp_path))


def test_imported_pairs_are_no_attack(model, targets, tmp_path):
    (tmp_path / "p.csv").write_text("sensitive prompt,normal prompt\nowl in ink,owl\n")
    _, out = bring(tmp_path / "p.csv", None, None)
    with pytest.raises(PromptError, match="a list of pairs, no attack"):
        ATTACK.call(model, targets, ATTACK.parameters(file=out.name), Context([], folder=tmp_path))


def test_a_token_without_embeddings_is_refused(model, targets, tmp_path):
    with pytest.raises(PromptError, match="holds prompts, no embeddings"):
        ATTACK.call(model, targets, ATTACK.parameters(file="t.csv", token="x"), Context([], folder=tmp_path))


@pytest.mark.parametrize(
    ("made", "against", "told"),
    [("static", None, None), ("optimised", "erased", "erased"), ("transferred", "erased", "erased (another model)")],
)
def test_the_attack_knows_what_its_file_was_made_against(tmp_path, made, against, told):
    (tmp_path / "s.csv").write_text("prompt\nowl\n")
    _, out = bring(tmp_path / "s.csv", made, against)
    parameters = ATTACK.parameters(file=out.name)
    assert ATTACK.made_against(parameters, tmp_path) == told
    assert ATTACK.made_against(ATTACK.parameters(file="s.csv"), tmp_path) is None
    before = ATTACK.files(parameters, tmp_path)
    out.write_text(out.read_text() + "9,9,cat,0\n")
    assert list(before) == [out.name] and ATTACK.files(parameters, tmp_path) != before
    with pytest.raises(StudyError, match="was not found"):
        ATTACK.files(ATTACK.parameters(file="none.csv"), tmp_path)
