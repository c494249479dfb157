"""Which pipelines are refused, and what is said."""

import json
import shutil

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, UNet2DModel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from tests import tiny, tiny_xl
from workbench.errors import ModelError
from workbench.models import kinds, load
from workbench.models.load import from_pipeline


def refused(pipeline, words):
    with pytest.raises(ModelError, match=words) as caught:
        from_pipeline(pipeline, "mine")
    assert str(caught.value).startswith('The pipeline "mine" (StableDiffusion') and str(caught.value).endswith(kinds.POSSIBLE)


@pytest.fixture
def one():
    return tiny.pipeline()


@pytest.fixture
def two():
    return tiny_xl.xl_pipeline()


def test_both_kinds_pass(one, two):
    kinds.check(one, "one")
    kinds.check(two, "two")


def test_a_missing_part_is_named(one):
    one.vae = None
    refused(one, "has no vae")


def test_another_unet_and_another_text_encoder_are_refused(one):
    own, one.unet = (
        one.unet,
        UNet2DModel(block_out_channels=(8, 8), down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, norm_num_groups=4),
    )
    refused(one, "has a UNet2DModel as UNet")
    one.unet, one.text_encoder = (
        own,
        CLIPTextModelWithProjection(CLIPTextConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)),
    )
    refused(one, "has a CLIPTextModelWithProjection as text encoder")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"in_channels": 9}, "9 input channels for latents of 4: it edits images"),
        ({"num_class_embeds": 10}, "needs more than text .num_class_embeds = 10"),
        ({"time_cond_proj_dim": 256}, "needs more than text .time_cond_proj_dim = 256"),
        ({"addition_embed_type": "text_image"}, "addition_embed_type = text_image"),
        ({"addition_embed_type": "text_time"}, "no second CLIP text encoder"),
    ],
)
def test_a_unet_that_needs_more_than_text_is_refused(one, setting, words):
    one.unet.register_to_config(**setting)
    refused(one, words)


def test_noise_must_be_told_from_what_the_unet_predicts(one):
    one.scheduler = DDIMScheduler(prediction_type="sample")
    refused(one, "DDIMScheduler with prediction_type = sample: epsilon or v_prediction is needed")
    one.scheduler = FlowMatchEulerDiscreteScheduler()
    refused(one, "FlowMatchEulerDiscreteScheduler")


def test_shifted_latents_are_refused(two):
    two.vae.register_to_config(latents_mean=[0.0] * 4)
    refused(two, "latents are shifted")


def test_two_text_encoders_must_belong_together(two):
    own, words = two.tokenizer_2, two.tokenizer.get_vocab()
    swapped = {token: len(words) - 3 - place if place < len(words) - 2 else place for token, place in words.items()}
    two.tokenizer_2 = CLIPTokenizer(vocab=swapped, merges=[], model_max_length=16)
    refused(two, "two tokenizers of different vocabulary or length")
    two.tokenizer_2 = own
    own.model_max_length = 20
    refused(two, "two tokenizers of different vocabulary or length")
    own.model_max_length = 16
    two.unet.register_to_config(projection_class_embeddings_input_dim=24 + 5 * 8)
    refused(two, "as the SDXL refiner")
    two.unet.register_to_config(cross_attention_dim=48)
    refused(two, "80 channels together for a UNet that takes 48")
    two.unet.register_to_config(addition_embed_type=None)
    refused(two, "addition_embed_type = None")


def test_a_folder_of_another_kind_is_refused_before_its_weights_are_read(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "other", ignore=shutil.ignore_patterns("*.safetensors"))
    index = json.loads((folder / "model_index.json").read_text())
    for change, words in (({"unet": None}, "has no unet"), ({"text_encoder": [None, None]}, "has no text_encoder")):
        changed = {name: value for name, value in (index | change).items() if value is not None}
        (folder / "model_index.json").write_text(json.dumps(changed | {"_class_name": "FluxPipeline"}))
        with pytest.raises(ModelError, match=rf"\(FluxPipeline\) {words}. Stable Diffusion 1.x and 2.x"):
            load.load(str(folder))


def test_the_vae_of_two_text_encoders_stays_whole_in_half_precision(one, two):
    assert from_pipeline(two, "two", dtype=torch.float16).vae.dtype == torch.float32
    two.vae.register_to_config(force_upcast=False)
    assert from_pipeline(two, "two", dtype=torch.float16).vae.dtype == torch.float16
    assert from_pipeline(one, "one", dtype=torch.float16).vae.dtype == torch.float16


def test_padding_other_than_the_end_token_is_kept_behind_vectors(one):
    """As in Stable Diffusion 2.x, whose tokenizer pads with "!"."""
    from workbench.models import text

    one.tokenizer = tiny_xl.tokenizers()[1]
    model = from_pipeline(one, "pads")
    vectors = text.token_vectors(model)[text.words(model, "yellow garden")][None]
    assert torch.allclose(text.encode(model, ["owl"], vectors), text.encode(model, ["yellow garden owl"]), atol=1e-6)
