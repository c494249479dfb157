"""A tiny random Stable Diffusion pipeline with the real architecture and file formats; built in a second."""

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WORDS = [
    "a",
    "an",
    "emoji",
    "of",
    "in",
    "style",
    "ink",
    "lineart",
    "owl",
    "cat",
    "house",
    "church",
    "noto",
    "fluent",
    "black",
    "outline",
    "water",
    "colour",
    "picture",
]
WORDS += ["mountain", "bridge", "planet", "window", "yellow", "garden", "silver", "orange"]


def tokenizer():
    """A CLIPTokenizer in which each word is one token."""
    letters = sorted({letter for word in WORDS for letter in word} | set(",.0123456789"))
    tokens, merges = letters + [letter + "</w>" for letter in letters], []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            pair = (parts[0], parts[1])
            if pair not in merges:
                merges.append(pair)
            parts = [pair[0] + pair[1], *parts[2:]]
            if parts[0] not in tokens:
                tokens.append(parts[0])
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={t: i for i, t in enumerate(tokens)}, merges=merges, model_max_length=16)


def autoencoder(**more):
    """AutoencoderKL, 16 x 16 pixels to 8 x 8 latents."""
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        sample_size=16,
        **more,
    )


def pipeline(seed=0):
    """StableDiffusionPipeline, 8 x 8 latents, 64 x 64 pixels would be too dear: 16 x 16."""
    torch.manual_seed(seed)
    words = tokenizer()
    unet = UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    vae = autoencoder()
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=16,
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
        )
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    return StableDiffusionPipeline(
        vae=vae,
        unet=unet,
        text_encoder=text,
        tokenizer=words,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
