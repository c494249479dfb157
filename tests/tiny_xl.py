"""A tiny random SDXL pipeline with the real classes: two tokenizers, two CLIP text encoders, a UNet told pooled text and sizes."""

import json

import torch
from diffusers import DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from tests import tiny

WIDTHS, POOLED = (32, 48), 24


def tokenizers():
    """The tokenizer of tests.tiny twice; the second pads with "," as SDXL's second does with "!"."""
    first = tiny.tokenizer()
    merges = [tuple(pair) for pair in json.loads(first.backend_tokenizer.to_str())["model"]["merges"]]
    second = CLIPTokenizer(vocab=first.get_vocab(), merges=merges, model_max_length=first.model_max_length, pad_token=",")
    return first, second


def xl_pipeline(seed=0, **scheduler):
    """StableDiffusionXLPipeline of 8 x 8 latents and 16 x 16 pixels; `scheduler` are settings of its DDIM."""
    torch.manual_seed(seed)
    first, second = tokenizers()
    unet = UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2),
        attention_head_dim=(2, 4),
        cross_attention_dim=sum(WIDTHS),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=POOLED + 6 * 8,
        norm_num_groups=8,
    )
    vae = tiny.autoencoder(scaling_factor=0.13025)
    encoders = []
    for kind, width, words in zip((CLIPTextModel, CLIPTextModelWithProjection), WIDTHS, (first, second), strict=True):
        config = CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=3,
            num_attention_heads=4,
            projection_dim=POOLED,
            hidden_act="quick_gelu" if kind is CLIPTextModel else "gelu",
            max_position_embeddings=16,
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
        )
        encoders.append(kind(config))
    settings = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False, "steps_offset": 1}
    return StableDiffusionXLPipeline(
        vae=vae,
        unet=unet,
        text_encoder=encoders[0],
        text_encoder_2=encoders[1],
        tokenizer=first,
        tokenizer_2=second,
        scheduler=DDIMScheduler(**settings | {"set_alpha_to_one": False} | scheduler),
        add_watermarker=False,
    )
