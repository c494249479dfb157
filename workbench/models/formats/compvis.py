"""CompVis' names: whole checkpoints of the first ESD code, SalUn, EraseDiff, Selective Amnesia; AC's delta_*.ckpt.

`model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight`, or without `model.diffusion_model.`. The EMA copy is
never read: after erasing it often still is the original model.

Source   the published checkpoints of Stable Diffusion 1.x
"""

IGNORED = {
    "model_ema.": "EMA copy",
    "first_stage_model.": "VAE",
    "cond_stage_model.transformer.text_model.embeddings.position_ids": "position numbers",
    **dict.fromkeys(("alphas_cumprod", "betas", "sqrt_", "log_one_minus", "posterior_", "logvar", "scale_factor"), "noise schedule"),
}
OUTSIDE = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def names(model):
    """{name in the file: parameter} of UNet and text encoder."""
    found, config = {}, model.unet.config
    attended = [hasattr(block, "attentions") for block in model.unet.up_blocks]
    for parameter in model.parameters():
        part, _, name = parameter.partition(".")
        if part == "unet":
            other = renamed(name, config.layers_per_block, attended)
            found |= {other: parameter, f"model.diffusion_model.{other}": parameter}
        elif part == "text_encoder":
            found[f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}"] = parameter
    return found


def renamed(name, n_layers, attended):
    """CompVis' name of a parameter of a diffusers UNet.

    n_layers   layers_per_block;  attended   whether each up block has attention
    """
    stage, *rest = name.split(".")
    if stage == "mid_block":
        kind, layer, *leaf = rest
        return f"middle_block.1.{'.'.join(leaf)}" if kind == "attentions" else f"middle_block.{2 * int(layer)}.{_leaf(leaf, RESNET)}"
    if stage not in ("down_blocks", "up_blocks"):
        return _leaf(name.split("."), OUTSIDE)
    block, kind, layer, *leaf = rest
    block, layer, per = int(block), int(layer), n_layers + 1
    if kind == "downsamplers":
        return f"input_blocks.{per * (block + 1)}.0.op.{leaf[-1]}"
    if kind == "upsamplers":
        return f"output_blocks.{per * block + n_layers}.{2 if attended[block] else 1}.conv.{leaf[-1]}"
    place = f"input_blocks.{1 + per * block + layer}" if stage == "down_blocks" else f"output_blocks.{per * block + layer}"
    return f"{place}.1.{'.'.join(leaf)}" if kind == "attentions" else f"{place}.0.{_leaf(leaf, RESNET)}"


def _leaf(parts, table):
    name = ".".join(parts)
    for own, other in table.items():
        if name.startswith(own + "."):
            return other + name[len(own) :]
    return name
