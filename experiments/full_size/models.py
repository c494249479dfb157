"""Randomly initialised pipelines with the architecture of Stable Diffusion 1.4 and of SDXL base, in the files that published ones have.

build          a diffusers folder in float16 files
parts          its pipeline, narrow for tests: the same layers, channels divided
tokenizer      CLIP's own, from the list of merges that ships in Python packages
merges_file    where that list is
classifier     a small random ResNet of 1000 classes, the stand-in for resnet-50
"""

import gzip
import importlib.util
import json
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    ResNetConfig,
    ResNetForImageClassification,
)

from workbench.errors import ModelError

BASES = {"sd14": "CompVis/stable-diffusion-v1-4", "sdxl": "stabilityai/stable-diffusion-xl-base-1.0"}
MERGES = "bpe_simple_vocab_16e6.txt.gz"
N_MERGES = 49_152 - 256 - 2  # the file has more than CLIP uses
START, END = "<|startoftext|>", "<|endoftext|>"
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
NARROW = 10  # 320 channels become 32, the fewest that 32 groups divide


def merges_file(folder):
    """The path of CLIP's merges: of an installed package, or of the wheel of open_clip_torch, which pip gets into `folder`.

    Raises   ModelError when there is neither
    """
    for package in ("open_clip", "clip"):
        found = importlib.util.find_spec(package)
        if found and (path := Path(found.submodule_search_locations[0]) / MERGES).is_file():
            return path
    path = Path(folder) / MERGES
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), "open_clip_torch"]
        done = subprocess.run(words, capture_output=True, text=True)
        wheels = sorted(Path(folder).glob("open_clip_torch-*.whl"))
        if done.returncode or not wheels:
            raise ModelError(f"CLIP's tokenizer needs {MERGES}, and pip cannot get open_clip_torch: {done.stderr.strip()[-300:]}")
        with zipfile.ZipFile(wheels[-1]) as wheel:
            path.write_bytes(wheel.read(f"open_clip/{MERGES}"))
    return path


def letters():
    """The 256 characters that CLIP's tokenizer writes bytes with, in the order of its vocabulary: printable ones stand for themselves."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(256 - len(printable))]


def tokenizer(path, pad=END):
    """CLIPTokenizer of a gzipped file of merges, whose first line is a heading."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        merges = [tuple(line.split()) for line in file.read().split("\n")[1 : N_MERGES + 1] if line.strip()]
    tokens = [*letters(), *(one + "</w>" for one in letters()), *("".join(pair) for pair in merges), START, END]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=merges, model_max_length=77, pad_token=pad)


def unet_config(kind, size, narrow=False):
    """Settings of UNet2DConditionModel; size: latent positions along one side."""
    by = NARROW if narrow else 1
    shared = {"sample_size": size, "in_channels": 4, "out_channels": 4, "layers_per_block": 2, "norm_num_groups": 32}
    if kind == "sd14":
        return shared | {
            "block_out_channels": tuple(width // by for width in (320, 640, 1280, 1280)),
            "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
            "cross_attention_dim": text_width(768, narrow),
            "attention_head_dim": 8,
        }
    return shared | {
        "block_out_channels": tuple(width // by for width in (320, 640, 1280)),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (4, 8, 16) if narrow else (5, 10, 20),
        "cross_attention_dim": text_width(768, narrow) + text_width(1280, narrow),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256 // 8 if narrow else 256,
        "projection_class_embeddings_input_dim": text_width(1280, narrow) + 6 * (256 // 8 if narrow else 256),
    }


def vae_config(kind, size, narrow=False):
    """Settings of AutoencoderKL: 8 pixels for each latent position."""
    return {
        "block_out_channels": (32, 64, 96, 96) if narrow else (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "sample_size": 8 * size,
        "scaling_factor": 0.18215 if kind == "sd14" else 0.13025,
    }


def text_width(width, narrow=False):
    """Channels of a text encoder, a multiple of its heads."""
    return width // 16 if narrow else width


def text_config(width, n_layers, words, act, narrow=False):
    """Settings of CLIPTextModel: ViT-L/14's text encoder has 768 channels in 12 layers, OpenCLIP's bigG 1280 in 32."""
    channels = text_width(width, narrow)
    return CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=channels,
        intermediate_size=4 * channels,
        num_hidden_layers=n_layers,
        num_attention_heads=channels // 4 if narrow else width // 64,
        projection_dim=channels,
        hidden_act=act,
        max_position_embeddings=77,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )


@contextmanager
def _made_in(dtype):
    """While open, new modules have their weights in this format: a model of float16 files is never there in float32."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def parts(kind, size, merges, narrow=False, dtype=torch.float32, seed=0):
    """The pipeline: StableDiffusionPipeline with PNDM, or StableDiffusionXLPipeline with Euler, all weights random."""
    torch.manual_seed(seed)
    words = tokenizer(merges)
    with _made_in(dtype):
        unet = UNet2DConditionModel(**unet_config(kind, size, narrow))
        vae = AutoencoderKL(**vae_config(kind, size, narrow))
        first = CLIPTextModel(text_config(768, 12, words, "quick_gelu", narrow))
        second = CLIPTextModelWithProjection(text_config(1280, 32, words, "gelu", narrow)) if kind == "sdxl" else None
    for module in (unet, vae, first, *([second] if second else [])):
        module.to(dtype)  # what was made in float32 whatever the default
    if second is None:
        scheduler = PNDMScheduler(**NOISE, skip_prk_steps=True, set_alpha_to_one=False)
        return StableDiffusionPipeline(
            vae=vae,
            unet=unet,
            text_encoder=first,
            tokenizer=words,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    return StableDiffusionXLPipeline(
        vae=vae,
        unet=unet,
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=words,
        tokenizer_2=tokenizer(merges, pad="!"),
        scheduler=EulerDiscreteScheduler(**NOISE, timestep_spacing="leading"),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )


def build(kind, size, merges, folder, narrow=False):
    """Write the pipeline as float16 safetensors into a folder, which appears when it is whole."""
    folder = Path(folder)
    half = folder.with_name(f"{folder.name}.half")
    parts(kind, size, merges, narrow, torch.float16).save_pretrained(half, safe_serialization=True)
    half.rename(folder)


def classifier(folder, seed=0):
    """Write a ResNet of 1000 classes and two narrow stages, with the preprocessing of resnet-50."""
    folder = Path(folder)
    torch.manual_seed(seed)
    shape = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "layer_type": "basic"}
    ResNetForImageClassification(ResNetConfig(**shape, num_labels=1000)).save_pretrained(folder)
    about = {"do_resize": True, "do_normalize": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    about |= {"feature_extractor_type": "ConvNextFeatureExtractor", "crop_pct": 0.875, "resample": 3, "size": 224}
    (folder / "preprocessor_config.json").write_text(json.dumps(about) + "\n")


if __name__ == "__main__":
    which, side, where, out = sys.argv[1:]
    build(which, int(side), where, out)
