"""A diffusers pipeline written as one file in the original spelling, the way Stable Diffusion 1.x and SDXL were published.

The map of the UNet is that of the published files; `middle_block`, the VAE and the text encoders follow the same published files.
"""

import torch
from safetensors.torch import save_file

UNET_OUTSIDE = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def save(pipeline, path):
    """Write UNet, VAE and text encoder, or the two of SDXL."""
    tensors = {f"model.diffusion_model.{key}": value for key, value in unet(pipeline.unet).items()}
    tensors |= {f"first_stage_model.{key}": value for key, value in vae(pipeline.vae).items()}
    first = pipeline.text_encoder.state_dict()
    if getattr(pipeline, "text_encoder_2", None) is None:
        tensors |= {f"cond_stage_model.transformer.text_model.{key}": value for key, value in first.items()}
    else:
        tensors |= {f"conditioner.embedders.0.transformer.text_model.{key}": value for key, value in first.items()}
        tensors |= {f"conditioner.embedders.1.model.{key}": value for key, value in open_clip(pipeline.text_encoder_2).items()}
    save_file({key: value.contiguous().clone() for key, value in tensors.items()}, path)


def _renamed(leaf, names):
    for own, other in names.items():
        if leaf.startswith(own + "."):
            return other + leaf[len(own) :]
    return leaf


def unet(module):
    """{original key without prefix: tensor} of a UNet2DConditionModel."""
    per_block, found = module.config.layers_per_block + 1, {}
    for key, value in module.state_dict().items():
        parts = key.split(".")
        if parts[0] in ("down_blocks", "up_blocks"):
            block, kind, layer, leaf = int(parts[1]), parts[2], int(parts[3]), ".".join(parts[4:])
            down = parts[0] == "down_blocks"
            stage = "input_blocks" if down else "output_blocks"
            place = per_block * block + layer + down
            if kind == "downsamplers":
                key = f"{stage}.{per_block * (block + 1)}.0.op.{parts[-1]}"
            elif kind == "upsamplers":
                child = 2 if hasattr(module.up_blocks[block], "attentions") else 1
                key = f"{stage}.{per_block * block + per_block - 1}.{child}.conv.{parts[-1]}"
            elif kind == "resnets":
                key = f"{stage}.{place}.0.{_renamed(leaf, UNET_RESNET)}"
            else:
                key = f"{stage}.{place}.1.{leaf}"
        elif parts[0] == "mid_block":
            leaf = ".".join(parts[3:])
            key = (
                f"middle_block.1.{leaf}" if parts[1] == "attentions" else f"middle_block.{2 * int(parts[2])}.{_renamed(leaf, UNET_RESNET)}"
            )
        else:
            key = _renamed(key, UNET_OUTSIDE)
        found[key] = value
    return found


def vae(module):
    """{original key without prefix: tensor} of an AutoencoderKL; its decoder counts blocks from the end."""
    found, last = {}, len(module.config.block_out_channels) - 1
    for key, value in module.state_dict().items():
        key = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        side, _, rest = key.partition(".")
        parts = rest.split(".")
        if parts[0] == "down_blocks":
            kind = "downsample" if parts[2] == "downsamplers" else f"block.{parts[3]}"
            key = f"{side}.down.{parts[1]}.{kind}.{'.'.join(parts[4:])}"
        elif parts[0] == "up_blocks":
            kind = "upsample" if parts[2] == "upsamplers" else f"block.{parts[3]}"
            key = f"{side}.up.{last - int(parts[1])}.{kind}.{'.'.join(parts[4:])}"
        elif parts[0] == "mid_block" and parts[1] == "resnets":
            key = f"{side}.mid.block_{int(parts[2]) + 1}.{'.'.join(parts[3:])}"
        elif parts[0] == "mid_block":
            leaf = _renamed(".".join(parts[3:]), VAE_ATTENTION)
            key, value = f"{side}.mid.attn_1.{leaf}", value[..., None, None] if value.dim() == 2 else value
        found[key] = value
    return found


def open_clip(module):
    """{original key without prefix: tensor} of a CLIPTextModelWithProjection; query, key and value are one matrix there."""
    own = {key.removeprefix("text_model."): value for key, value in module.state_dict().items()}
    found = {
        "positional_embedding": own["embeddings.position_embedding.weight"],
        "token_embedding.weight": own["embeddings.token_embedding.weight"],
        "ln_final.weight": own["final_layer_norm.weight"],
        "ln_final.bias": own["final_layer_norm.bias"],
        "text_projection": own["text_projection.weight"].T,
    }
    for layer in range(module.config.num_hidden_layers):
        start, to = f"encoder.layers.{layer}.", f"transformer.resblocks.{layer}."
        for leaf in ("weight", "bias"):
            found[f"{to}attn.in_proj_{leaf}"] = torch.cat([own[f"{start}self_attn.{part}_proj.{leaf}"] for part in "qkv"])
        rest = {key[len(start) :]: value for key, value in own.items() if key.startswith(start)}
        found |= {to + _renamed(leaf, OPEN_CLIP): value for leaf, value in rest.items() if "_proj." not in leaf or "out_proj" in leaf}
    return found
