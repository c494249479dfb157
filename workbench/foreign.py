"""Files of other tools: what a file really is when it holds no data, and torch files without running code from them.

refuse_no_data   a Git LFS pointer, a web page, an empty file ... is refused by its name
torch_content    what `torch.save` wrote, as long as it is tensors and plain values
read_mapping     a JSON file that holds a mapping
unreadable       the sentence for a file that may not be read

Every reader of such files asks here first, so that the same mistake has the same message everywhere.
"""

import json
import pickle
import pickletools
import re
import stat
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

from workbench.errors import ModelError, WorkbenchError

START = 512
# what torch, diffusers, transformers and tokenizers raise for files that are damaged or not there
READING_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    KeyError,
    TypeError,
    AttributeError,
    ImportError,
    EOFError,
    IndexError,
    pickle.UnpicklingError,
)
KINDS = {
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"GGUF": "a GGUF file",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"PAR1": "a Parquet table",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"%PDF": "a PDF",
}
ARCHIVE = "archive"
ZIP = b"PK\x03\x04"
MARKUP = ("<!doctype", "<html", "<head", "<body", "<?xml", "<script", "<error", "<!--")
MODULES = re.compile(r"^(__torch__|torch\.nn|torch\.fx|diffusers|transformers|ldm|peft|pytorch_lightning)\b.*\.[A-Z]\w*$")
MOST_NAMED = 3
MOST_PICKLES = 8  # torch's files without a zip are a handful of pickles, one after the other


def refuse_no_data(path: str | Path, error: type[WorkbenchError] = ModelError) -> None:
    """Refuse a file that is a placeholder for data or was sent instead of it, by its first bytes, never by its name.

    error    class of what is raised
    Raises   that error when the file cannot be read, is empty, a Git LFS or git-annex pointer, a web page, another text, an archive
             that has to be unpacked, or a file whose download never finished
    """
    path = Path(path)
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise error(f"{path} is not a regular file. Give a file.")
        with path.open("rb") as file:
            start = file.read(START)
    except OSError as failure:
        raise error(unreadable(path, failure)) from failure
    what = _what(start, about.st_size)
    if what:
        raise error(f"{path} {what}")


def unreadable(path: str | Path, failure: OSError) -> str:
    """The sentence for a file or folder that the system does not let us read."""
    return f"{path} cannot be read: {failure.strerror or failure}. Check its permissions (ls -ld), or make your own copy."


def _what(start: bytes, size: int) -> str | None:
    """What a file is that is no data, as the rest of a sentence; None where it may be data."""
    if not size:
        return "is an empty file: its download or its copy failed. Get the file itself."
    if not start.strip(b"\0"):
        return "begins with zeros only: its download was not finished. Get the file itself."
    for magic, kind in KINDS.items():
        if start.startswith(magic):
            return f"is {kind}. {'Unpack it, and give the file inside.' if ARCHIVE in kind else 'Get the file itself.'}"
    text = _text(start)
    if text is None:
        return None
    if text.startswith("version https://git-lfs.github.com/spec/"):
        stands = re.search(r"^size (\d{1,18})$", text, re.MULTILINE)
        of = f" for a file of {int(stands[1]):,} bytes" if stands else ""
        return f"is a Git LFS pointer, a placeholder{of}. Get the file itself (git lfs pull, or download it from its page)."
    if text.lstrip("./").startswith(("annex/objects/", "git/annex/objects/")):
        return "is a git-annex pointer. Get the file itself (git annex get)."
    if text.lstrip().lower().startswith(MARKUP):
        return "is a web page: the server sent it instead of the file (a quota, a login, a wrong link). Get the file itself."
    return f'contains text ("{" ".join(text.split())[:40]}") instead of data. Get the file itself.'


def _text(start: bytes) -> str | None:
    """The beginning of a text file, or None: a file with control characters is none."""
    for encoding in ("utf-16",) if start.startswith((b"\xff\xfe", b"\xfe\xff")) else ("utf-8-sig",):
        for cut in range(4 if len(start) == START else 1):  # the last character may be cut in the middle
            try:
                text = start[: len(start) - cut].decode(encoding)
            except UnicodeDecodeError:
                continue
            printable = sum(letter.isprintable() or letter in "\r\n\t" for letter in text)
            return text if printable == len(text) else None
    return None


def torch_content(path: str | Path, error: type[WorkbenchError] = ModelError) -> Any:
    """What `torch.save` wrote: tensors, on the CPU, in plain mappings, lists and values. No code of the file is run.

    error    class of what is raised
    Raises   that error when the file is damaged, holds more than tensors, or unpacks to more than it is
    """
    import torch

    _check_archive(path, error)
    try:
        # an open file: by its name alone torch would take a ".safetensors" for one, whatever it holds
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except OSError as failure:
        raise error(unreadable(path, failure)) from failure
    except Exception as failure:  # damaged bytes lead anywhere; torch's own words would advise to run the code
        raise error(f"{path} {_why_closed(path)}") from failure


def _check_archive(path: str | Path, error: type[WorkbenchError]) -> None:
    """torch.save stores tensors uncompressed: a zip that unpacks to more than it is, or holds no pickle, is none of torch's."""
    if not _is_zip(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as failure:
        raise error(f"{path} is damaged: its list of contents cannot be read. Get the file again.") from failure
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > Path(path).stat().st_size:
        raise error(f"{path} unpacks to {unpacked} bytes, more than its own size. torch writes no such files, so it is not opened.")
    names = [entry.filename for entry in entries]
    if not any(name.rpartition("/")[2] == "data.pkl" for name in names):
        some = ", ".join(_plain(name) for name in names[:MOST_NAMED]) or "nothing"
        raise error(f"{path} is a zip archive that torch did not write ({some}). Unpack it, and give the file inside.")


def _is_zip(path: str | Path) -> bool:
    """As torch tells it: a zip that begins elsewhere is none."""
    with open(path, "rb") as file:
        return file.read(len(ZIP)) == ZIP


def _why_closed(path: str | Path) -> str:
    """Why a torch file stays closed, as the rest of a sentence in our own words."""
    found = _needed(path)
    save = "Save only its state_dict() where it was made, best as safetensors."
    if found and MODULES.match(found[0]):  # a pickled module begins with its class
        return f"is a whole module ({_plain(found[0])}), saved with its code: opening it would run that code. {save}"
    if any(name.startswith("scipy.sparse") for name in found):
        return (
            "holds a sparse matrix of SciPy instead of weights. Is it a mask of ConceptPrune? "
            "Give the folder of its masks to `workbench mask show`."
        )
    if found:
        some = ", ".join(_plain(name) for name in found[:MOST_NAMED]) + (" ..." if len(found) > MOST_NAMED else "")
        return f"cannot be opened safely: it holds more than tensors, which could run code ({some}). {save}"
    return "is damaged: it ends early, or its bytes were changed. Get the file again."


def _needed(path: str | Path) -> list[str]:
    """Names of what a torch file would have to import beside tensors, read without importing anything; at most a few pickles deep."""
    found = []
    try:
        if _is_zip(path):
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
                if any(name.rpartition("/")[2] == "constants.pkl" for name in names):
                    return ["__torch__.TorchScript"]
                with archive.open(next(name for name in names if name.rpartition("/")[2] == "data.pkl")) as file:
                    found += _imports(file)
        else:
            with open(path, "rb") as file:
                for _ in range(MOST_PICKLES):
                    found += _imports(file)
    except Exception:  # what was found before the damage is told
        pass
    return list(dict.fromkeys(name for name in found if not _harmless(name)))


def _imports(file: IO[bytes]) -> list[str]:
    """Full names in one pickle; a damaged one gives those before the damage."""
    found: list[str] = []
    texts: list[str] = []
    try:
        for code, argument, _ in pickletools.genops(file):
            if code.name in ("GLOBAL", "INST"):
                found.append(str(argument).replace(" ", "."))
            elif code.name == "STACK_GLOBAL" and len(texts) > 1:
                found.append(".".join(texts[-2:]))
            elif isinstance(argument, str) and "UNICODE" in code.name:
                texts = [*texts[-1:], argument]
    except Exception:  # damaged bytes raise errors of many kinds in pickletools; what was read before them still names the file
        if not found:
            raise
    return found


def _harmless(name: str) -> bool:
    return name in ("collections.OrderedDict", "collections.Counter", "_codecs.encode", "builtins.set") or (
        name.startswith("torch.") and not name.startswith(("torch.nn.modules", "torch.fx"))
    )


def _plain(name: str) -> str:
    """A name from the file as it may be printed."""
    return re.sub(r"[^\w./<>-]", "?", name, flags=re.ASCII)[:80]


def read_mapping(path: str | Path, error: type[WorkbenchError] = ModelError) -> dict[str, Any]:
    """The mapping in a JSON file.

    Raises   `error` when the file cannot be read, is no JSON, or holds something else than a mapping
    """
    try:
        found = json.loads(Path(path).read_bytes())
    except OSError as failure:
        raise error(unreadable(path, failure)) from failure
    except (ValueError, RecursionError) as failure:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise error(f"{path} is damaged: it is not JSON ({str(failure)[:80]}). Get the file again.") from failure
    if not isinstance(found, dict):
        raise error(f"{path} holds a {type(found).__name__}; a mapping of names to values is needed. Get the file again.")
    return found
