"""CLIP text encoders: AdvUnlearn's folders and `.pt` files, with their aliases, and transformers' names of today.

`text_model.encoder.layers.0.self_attn.q_proj.weight`; in `.pt` files also behind `text_encoder.`, and once more without either
as `encoder.layers...`, `embedding.token_embedding...`; transformers 5 leaves `text_model.` out.
"""

# position_ids are counted, not learned
IGNORED = {
    f"{part}{inner}embeddings.position_ids": "position numbers"
    for part in ("", "text_encoder.", "text_encoder_2.", "cond_stage_model.transformer.")
    for inner in ("", "text_model.")
}
IGNORED |= {"vision_model.": "image encoder", "visual_projection.": "image encoder", "logit_scale": "image encoder"}


def names(model):
    """{name in the file: parameter}; without a part's name it is the first text encoder."""
    found = {}
    for parameter in model.parameters():
        part, _, name = parameter.partition(".")
        if part not in ("text_encoder", "text_encoder_2"):
            continue
        plain = name.removeprefix("text_model.")
        spellings = [plain, f"text_model.{plain}"]
        if plain.startswith("embeddings."):
            spellings.append("embedding." + plain.removeprefix("embeddings."))
        if part == "text_encoder":
            found |= dict.fromkeys(spellings, parameter)
        found |= dict.fromkeys((f"{part}.{spelling}" for spelling in spellings), parameter)
    return found
