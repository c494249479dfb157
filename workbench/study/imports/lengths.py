"""How many prompts are longer than a text encoder's context.

longer   prompts -> {n, limit, counted, model}
"""

import re
from pathlib import Path

from workbench import resources
from workbench.errors import ModelError

CLIP_CONTEXT = 77  # tokens with start and end, as in every Stable Diffusion 1.x and 2.x
BUNDLED = {"emoji": ("emoji", "model")}


def longer(prompts, model=None):
    """Count the prompts that are cut.

    model     diffusers folder, tokenizer folder or "emoji"; without it tokens are estimated: a word or a punctuation mark is one
    returns   {n: prompts longer than the context, limit: tokens of the context, counted: tokens or words, model}
    Raises    ModelError when the folder holds no tokenizer
    """
    if model is None:
        counts = [len(re.findall(r"\w+|[^\w\s]", prompt)) + 2 for prompt in prompts]
        limit, counted = CLIP_CONTEXT, "words"
    else:
        tokenizer = _tokenizer(model)
        counts = [len(ids) for ids in tokenizer(list(prompts)).input_ids]
        limit, counted = tokenizer.model_max_length, "tokens"
    return {"n": sum(count > limit for count in counts), "limit": limit, "counted": counted, "model": str(model) if model else None}


def _tokenizer(model):
    folder = resources.folder("data").joinpath(*BUNDLED[str(model)]) if str(model) in BUNDLED else Path(model)
    place = next((place for place in (folder / "tokenizer", folder) if (place / "tokenizer_config.json").is_file()), None)
    if place is None:
        raise ModelError(f"--model {model} has no tokenizer: give a diffusers folder, the one that holds model_index.json.")
    from transformers import CLIPTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()  # it warns of each prompt longer than the context, which is what we count
    try:
        return CLIPTokenizer.from_pretrained(place, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"The tokenizer in {place} cannot be read: {error}.") from error
