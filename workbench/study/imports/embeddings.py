"""Learned embeddings of concept inversion: learned_embeds.bin and .safetensors, {token: vectors}.

read_embeddings    file -> Found with vectors
write_embeddings   {token: (n, channel)} -> safetensors with one array (token, n, channel)
load_vectors       what write_embeddings wrote -> ({token: place}, array)
"""

import json
import pickle
from pathlib import Path

from workbench.errors import PromptError
from workbench.storage import read_arrays, read_metadata, write_arrays
from workbench.study.imports.cleaning import names_minor
from workbench.study.imports.found import Found

SUFFIXES = (".bin", ".pt", ".safetensors")
ARRAY = "vectors"
HALVES = ("clip_l", "clip_g")  # of SDXL: one half for each text encoder, in the order of their channels


def read_embeddings(path):
    """Read a file of learned embeddings; pickles with weights only.

    returns   Found of kind embeddings; vectors[token] (n, channel) float32. The two entries of an embedding of SDXL, clip_l and
              clip_g, become one whose channels stand side by side
    Raises    PromptError when the file holds anything else than one or more arrays of vectors of one width and number
    """
    path = Path(path)
    content = _load(path)
    if "string_to_param" in content:  # as the A1111 web interface saves them
        content = {content.get("name") or path.stem: next(iter(content["string_to_param"].values()), None)}
    vectors = {str(token): _vectors(path, token, value) for token, value in content.items()}
    if set(vectors) == set(HALVES):
        vectors = _side_by_side(path, vectors)
    if not vectors:
        raise PromptError(f"{path} holds no embeddings: it is empty.")
    shapes = {tuple(value.shape) for value in vectors.values()}
    if len(shapes) > 1:
        listed = ", ".join(" x ".join(map(str, shape)) for shape in sorted(shapes))
        raise PromptError(
            f"{path} holds embeddings of different shapes (vectors x channels: {listed}). "
            "One text encoder and one number of vectors are needed: split the file."
        )
    if any(map(names_minor, vectors)):
        raise PromptError(f"{path} holds a token that names a minor. It is not imported.")
    return Found("learned embeddings", "embeddings", columns={"vectors": ", ".join(vectors)}, vectors=vectors)


def _load(path):
    if path.suffix.lower() == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise PromptError(f"{path} is damaged: {error}.") from error
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PromptError(f"{path} is no file of embeddings, or holds more than arrays, which is not opened: {first}") from error
    if not isinstance(content, dict):
        raise PromptError(f"{path} holds a {type(content).__name__}, not learned embeddings {{token: vectors}}.")
    return content


def _vectors(path, token, value):
    """(n, channel) float32 of one entry."""
    import torch

    if not torch.is_tensor(value) or not value.is_floating_point() or value.dim() not in (1, 2) or not value.numel():
        raise PromptError(f'{path} holds no learned embeddings: "{token}" is no array (channel) or (n, channel). Is it a checkpoint?')
    value = value.detach().float().reshape(-1, value.shape[-1])
    if len(value) >= 76:
        raise PromptError(f'{path}: "{token}" has {len(value)} vectors, more than a prompt has room for. Is it a checkpoint?')
    if not torch.isfinite(value).all():
        raise PromptError(f'{path}: "{token}" holds numbers that are not finite. The embedding was not learned well; learn it anew.')
    return value.contiguous()


def _side_by_side(path, halves):
    """{file name: (n, channel)} of an embedding of SDXL: the vectors of its two text encoders in one row each."""
    import torch

    first, second = (halves[name] for name in HALVES)
    if len(first) != len(second):
        raise PromptError(f"{path} has {len(first)} vectors clip_l and {len(second)} clip_g; both text encoders need as many.")
    return {path.stem: torch.cat([first, second], dim=1)}


def write_embeddings(path, vectors):
    """Write {token: (n, channel)} as one array (token, n, channel); the tokens stand in the header."""
    import torch

    write_arrays(path, {ARRAY: torch.stack(list(vectors.values()))}, {"tokens": json.dumps(list(vectors))})


def load_vectors(path):
    """Read what `write_embeddings` wrote: ({token: its place}, array (token, n, channel)).

    Raises   PromptError when the file is something else
    """
    arrays = read_arrays(path)
    tokens = json.loads(read_metadata(path).get("tokens", "[]"))
    if set(arrays) != {ARRAY} or len(tokens) != len(arrays[ARRAY]):
        raise PromptError(f"{path} is no imported embedding file. Import it first: workbench import-prompts {path}")
    return {token: place for place, token in enumerate(tokens)}, arrays[ARRAY]
