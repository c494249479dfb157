"""Text encoders with token rows added: an attack's learned embedding, offered as one; STEREO's files."""

import pytest
import torch

from tests.models import given
from workbench.errors import ModelError
from workbench.models import formats
from workbench.registry import method
from workbench.study.imports.embeddings import read_embeddings

ROWS = "text_encoder.embeddings.token_embedding.weight"


def test_own_rows_are_compared_and_the_added_ones_kept_apart(still, tmp_path):
    state, rows = given.text_encoder(added=2)
    torch.save(state, tmp_path / "ci_attack_text_encoder_iteration_1.pt")
    found = formats.read(tmp_path / "ci_attack_text_encoder_iteration_1.pt", still)
    assert found.complete == ["text_encoder"] and found.shapes == [] and torch.equal(found.added["text_encoder"], rows)
    assert "It adds 2 token rows to the text encoder: a learned embedding." in found.notes[0]
    with pytest.raises(ModelError, match="only adds 2 token rows.*an attack and no erased model.*--embeddings.*import-prompts"):
        formats.check(found, still)
    state["text_model.final_layer_norm.weight"] = state["text_model.final_layer_norm.weight"] + 1
    torch.save(state, tmp_path / "erased.pt")
    found = formats.read(tmp_path / "erased.pt", still)
    formats.check(found, still)
    assert len(found.changed(still)) == 1


def test_fewer_rows_or_another_width_is_another_base(still, tmp_path):
    state, _ = given.text_encoder()
    name = next(name for name in state if name.endswith("token_embedding.weight"))
    for cut in (state[name][:-1], torch.cat([state[name], state[name]], dim=1)):
        torch.save(state | {name: cut.clone()}, tmp_path / "x.pt")
        with pytest.raises(ModelError, match="for another base"):
            formats.check(formats.read(tmp_path / "x.pt", still), still)


@pytest.mark.parametrize("saved", [{"0": "<first>", "10": "<last>", "2": "<mid>"}, ["<first>", "<mid>", "<last>"], None, 3, {"a": 1}])
def test_the_added_rows_come_out_as_embeddings_under_their_words(still, own, tmp_path, saved):
    state, rows = given.text_encoder(added=3)
    whole = {f"unet.{name}": value for name, value in given.moved(own).items()}
    whole |= {f"text_encoder.{name}": value for name, value in state.items()} | {"vae.decoder.conv_in.weight": torch.ones(2)}
    torch.save({"model_state_dict": whole, "saved_tokens": saved}, tmp_path / "ste_stage_model.pt")
    found = formats.read(tmp_path / "ste_stage_model.pt", still)
    formats.check(found, still)
    assert found.peeled == ["model_state_dict"] and found.complete == ["unet", "text_encoder"] and found.ignored["VAE"] == 1
    assert len(found.changed(still)) == 8
    names = ["added-1", "added-2", "added-3"] if saved in (None, 3, {"a": 1}) else ["<first>", "<mid>", "<last>"]
    vectors = formats.learned_embeddings(found)
    assert list(vectors) == names and all(torch.equal(vector[0], row) for vector, row in zip(vectors.values(), rows, strict=True))
    from workbench.storage import write_arrays

    write_arrays(tmp_path / "tokens.safetensors", vectors)
    read = read_embeddings(tmp_path / "tokens.safetensors").vectors
    assert {name: torch.as_tensor(value).tolist() for name, value in read.items()} == {n: v.tolist() for n, v in vectors.items()}


def test_files_of_stereo_without_weights_and_plain_ones(still, own, tmp_path):
    torch.save({"saved_tokens": {"0": "<a>"}}, tmp_path / "ste_stage_model.pt")
    with pytest.raises(ModelError, match="none fits, e.g. no tensors at all"):
        formats.check(formats.read(tmp_path / "ste_stage_model.pt", still), still)
    for name in ("erased_unet_iteration_2.pt", "final_reo_unet.pt"):
        torch.save(given.moved(own), tmp_path / name)
        found = formats.read(tmp_path / name, still)
        formats.check(found, still)
        assert found.complete == ["unet"] and len(found.changed(still)) == 8
    with pytest.raises(ModelError, match="adds no token rows"):
        formats.learned_embeddings(found)


def test_a_variant_of_an_encoder_with_added_rows_has_the_models_own_rows(still, tmp_path):
    state, _ = given.text_encoder(added=1)
    name = next(name for name in state if name.endswith("token_embedding.weight"))
    state[name][0] += 1
    torch.save(state, tmp_path / "x.pt")
    one = method("erasers", "from_checkpoint")
    made = one.call(still, [], one.parameters(path=str(tmp_path / "x.pt")))
    assert list(made) == [ROWS] and made[ROWS].shape == still.parameters()[ROWS].shape
