"""Learned embeddings of concept inversion: learned_embeds.bin and .safetensors, {token: vectors}.

read_embeddings    file -> Found with vectors
write_embeddings   {token: (n, channel)} -> safetensors with one array (token, n, channel)
load_vectors       what write_embeddings wrote -> ({token: place}, array)
"""

import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import textfile
from workbench.errors import PromptError, first_line
from workbench.storage import read_arrays, read_metadata, write_arrays
from workbench.study.fields import control_character
from workbench.study.imports.found import Found
from workbench.study.imports.minors import names_minor

if TYPE_CHECKING:
    import torch

SUFFIXES = (".bin", ".pt", ".pth", ".safetensors")
ARRAY = "vectors"
HALVES = ("clip_l", "clip_g")  # of SDXL: one half for each text encoder, in the order of their channels


class Nameless(PromptError):
    """A file holds a bare vector, and nobody said which word it stands for."""


def read_embeddings(path: str | Path, word: str | None = None) -> Found:
    """Read a file of learned embeddings; pickles with weights only.

    word      what a bare vector, which brings no word of its own, stands for
    returns   Found of kind embeddings; vectors[token] (n, channel) float32. The two entries of an embedding of SDXL, clip_l and
              clip_g, become one whose channels stand side by side
    Raises    PromptError when the file holds anything else than one or more arrays of vectors of one width and number; Nameless for a bare
              vector without a word
    """
    path = Path(path)
    content, bare = _load(path), False
    if isinstance(content, dict) and "string_to_param" in content:  # as the A1111 web interface saves them
        content = _a1111(path, content)
    elif not isinstance(content, dict):
        content, bare = _bare(path, content, word), True
    if word is not None and not bare:
        raise PromptError(f"{path} names its vectors itself ({', '.join(map(str, list(content)[:3]))}): leave out --word.")
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
    if any(map(control_character, vectors)):
        raise PromptError(f"{path} holds a token with control characters. It is not imported.")
    kind = "a bare vector" if bare else "learned embeddings"
    return Found(kind, "embeddings", columns={"vectors": ", ".join(vectors)}, vectors=vectors)


def _load(path: Path) -> Any:
    """What the file holds: a mapping or one tensor."""
    import torch

    found = textfile.content(path, PromptError)
    if what := textfile.stand_in(found):
        raise PromptError(f"{path} holds no vectors: it is {what}.")
    if not found:
        raise PromptError(f"{path} holds no vectors: the file is empty.")
    if path.suffix.lower() == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            return load(found)
        except (SafetensorError, OSError, ValueError, KeyError, AttributeError) as error:
            raise PromptError(f"{path} is damaged: {first_line(error)}. Get the file again.") from error
    if _unpacked(found) > len(found):
        raise PromptError(f"{path} unpacks to more bytes than it has: torch writes no such files, and it is not opened.")
    try:
        content = torch.load(io.BytesIO(found), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch raise nearly anything
        said = str(error)
        what = "it holds more than arrays, which is not opened" if "nsupported" in said or "Weights" in said else "it is damaged"
        raise PromptError(
            f"{path} is no file of embeddings that can be opened safely: {what}. Save the vectors alone, best as safetensors: "
            '{"<word>": vectors}.'
        ) from error
    if not isinstance(content, dict) and not torch.is_tensor(content):
        raise PromptError(f"{path} holds a {type(content).__name__}, not learned embeddings {{token: vectors}}.")
    return content


def _unpacked(found: bytes) -> int:
    """Bytes that a zip unpacks to; 0 for what is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(found)) as archive:
            return sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return 0


def _a1111(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """{name: vectors} of a file of the A1111 web interface."""
    held, name = content["string_to_param"], content.get("name") or path.stem
    if not isinstance(held, dict) or len(held) != 1 or not isinstance(name, str):
        raise PromptError(f"{path} is no embedding of the A1111 web interface: one array in string_to_param, and a name, are needed.")
    return {name: next(iter(held.values()))}


def _bare(path: Path, vector: "torch.Tensor", word: str | None) -> dict[str, "torch.Tensor"]:
    """{word: vectors} of a tensor that stands alone in a file."""
    if vector.dim() not in (1, 2) or not vector.is_floating_point():
        raise PromptError(f"{path} holds a bare array {tuple(vector.shape)} of {vector.dtype}, no vectors (channel) or (n, channel).")
    if word is None:
        n = 1 if vector.dim() == 1 else len(vector)
        raise Nameless(
            f"{path} holds {n} bare vector{'s' * (n > 1)} of {vector.shape[-1]} channels, and no word for it. Say which word it stands "
            'for: --word "<church>"'
        )
    if not word.strip():
        raise PromptError('--word is empty. Write the word that the vector stands for, e.g. --word "<church>".')
    return {word.strip(): vector}


def _vectors(path: Path, token: str, value: Any) -> "torch.Tensor":
    """(n, channel) float32 of one entry."""
    import torch

    if not torch.is_tensor(value) or not value.is_floating_point() or value.dim() not in (1, 2) or not value.numel():
        raise PromptError(f'{path} holds no learned embeddings: "{token}" is no array (channel) or (n, channel). Is it a checkpoint?')
    value = value.detach().float().reshape(-1, value.shape[-1])
    if len(value) >= 76:
        raise PromptError(f'{path}: "{token}" has {len(value)} vectors, more than a prompt has room for. Is it a checkpoint?')
    if not torch.isfinite(value).all():
        raise PromptError(f'{path}: "{token}" holds numbers that are not finite. The embedding was not learned well; learn it again.')
    return value.contiguous()


def _side_by_side(path: Path, halves: dict[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
    """{file name: (n, channel)} of an embedding of SDXL: the vectors of its two text encoders in one row each."""
    import torch

    first, second = (halves[name] for name in HALVES)
    if len(first) != len(second):
        raise PromptError(f"{path} has {len(first)} vectors clip_l and {len(second)} clip_g; both text encoders need as many.")
    return {path.stem: torch.cat([first, second], dim=1)}


def write_embeddings(path: str | Path, vectors: dict[str, "torch.Tensor"]) -> None:
    """Write {token: (n, channel)} as one array (token, n, channel); the tokens stand in the header."""
    import torch

    write_arrays(path, {ARRAY: torch.stack(list(vectors.values()))}, {"tokens": json.dumps(list(vectors))})


def load_vectors(path: str | Path) -> tuple[dict[str, int], "torch.Tensor"]:
    """Read what `write_embeddings` wrote: ({token: its place}, array (token, n, channel)).

    Raises   PromptError when the file is something else
    """
    import torch

    path = Path(path)
    try:
        arrays, tokens = read_arrays(path), json.loads(read_metadata(path).get("tokens", "[]"))
    except (ValueError, RecursionError, OSError) as error:  # also of a header that is no JSON
        raise PromptError(f"{path} is damaged: {first_line(error)}. Import it again: workbench import-prompts") from error
    known = set(arrays) == {ARRAY} and isinstance(tokens, list) and all(isinstance(token, str) for token in tokens)
    if not known or arrays[ARRAY].dim() != 3 or len(set(tokens)) != len(arrays[ARRAY]):
        raise PromptError(f"{path} is no imported embedding file. Import it first: workbench import-prompts {path}")
    if not arrays[ARRAY].is_floating_point() or not torch.isfinite(arrays[ARRAY]).all():
        raise PromptError(f"{path} holds vectors that are no finite numbers. Import it again: workbench import-prompts")
    return {token: place for place, token in enumerate(tokens)}, arrays[ARRAY]
