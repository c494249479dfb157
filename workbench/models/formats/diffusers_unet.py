"""Diffusers' names of a UNet, whole or in part: ESD, UCE, RECE, AC, ConceptPrune, FIA and pipeline folders.

`down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight`, with or without `unet.` before it.
"""

IGNORED = {"vae.": "VAE", "safety_checker.": "safety checker"}


def names(model):
    """{name in the file: parameter}."""
    own = [name.removeprefix("unet.") for name in model.parameters() if name.startswith("unet.")]
    return {name: f"unet.{name}" for name in own} | {f"unet.{name}": f"unet.{name}" for name in own}
