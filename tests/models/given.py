"""Checkpoints of a kind that people really have, made small from the tiny model's own tensors."""

import json

import torch
from safetensors.torch import save_file

from tests import tiny

BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"
RANK = 2


def unet():
    """The state dict of the tiny UNet."""
    return dict(tiny.pipeline().unet.state_dict())


def key_value(name):
    return ".attn2.to_k." in name or ".attn2.to_v." in name


def moved(tensors, chosen=key_value, seed=1):
    """The tensors, those chosen by name a little away from where they were."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: value + 0.1 * torch.randn(value.shape, generator=generator) if chosen(name) else value.clone()
        for name, value in tensors.items()
    }


def halves(tensors, rank=RANK):
    """{module: (down, up)} of low-rank adaptors for keys and values of cross-attention."""
    generator, found = torch.Generator().manual_seed(0), {}
    for name, value in tensors.items():
        if key_value(name):
            down, up = torch.randn(rank, value.shape[1], generator=generator), torch.randn(value.shape[0], rank, generator=generator)
            found[name.removesuffix(".weight")] = (0.1 * down, 0.1 * up)
    return found


def peft(adaptors, start=""):
    """Adaptors in PEFT's spelling."""
    found = {f"{start}{module}.lora_A.weight": down.clone() for module, (down, _) in adaptors.items()}
    return found | {f"{start}{module}.lora_B.weight": up.clone().contiguous() for module, (_, up) in adaptors.items()}


def peft_folder(path, adaptors, **config):
    """An adaptor folder as PEFT saves it."""
    path.mkdir(parents=True)
    save_file(peft(adaptors, "base_model.model."), path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "target_modules": ["to_k", "to_v"], **config}))
    return path


def sharded(path, tensors, n=3, suffix="safetensors"):
    """A UNet folder in n shards with their index."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"_class_name": "UNet2DConditionModel"}))
    names, places = sorted(tensors), {}
    for number in range(n):
        file = f"diffusion_pytorch_model-{number + 1:05d}-of-{n:05d}.{suffix}"
        part = {name: tensors[name].clone() for name in names[number::n]}
        save_file(part, path / file) if suffix == "safetensors" else torch.save(part, path / file)
        places |= dict.fromkeys(part, file)
    (path / f"diffusion_pytorch_model.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return path


def text_encoder(added=0, seed=3):
    """A text encoder's state in the spelling of published files, with token rows added at the end."""
    state = {
        f"text_model.{name.removeprefix('text_model.')}": value.clone() for name, value in tiny.pipeline().text_encoder.state_dict().items()
    }
    name = "text_model.embeddings.token_embedding.weight"
    rows = torch.randn(added, state[name].shape[1], generator=torch.Generator().manual_seed(seed))
    return state | {name: torch.cat([state[name], rows])}, rows
