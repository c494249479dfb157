"""The seal of a result: a file `digests.json` beside its files that names each with its size and sha256, and has a digest of its own.

seal       write it, when a result is finished
read       {file: {bytes, sha256}} of a result, or None when it has none
fault      what is wrong with a result, in words, or None: files that are missing, of another size or of other bytes
readable   what is wrong with a result that has no seal, as far as its formats tell

A digest is computed once per process: a file that still has the size, the time and the inode it had then is not read again.
"""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from workbench.errors import RunError
from workbench.storage import DamagedFile, digest, file_digest, read_arrays, read_json, read_table, write_json

Seal = dict[str, dict[str, Any]]  # {file: {bytes, sha256}}
Fault = tuple[str, str]  # file, what is wrong with it
SEAL = "digests.json"
VERSION = 1
TIMES = ("seconds.parquet",)  # how long a search took: no result depends on it
READERS = {".json": read_json, ".parquet": read_table, ".safetensors": read_arrays}

_known: dict[tuple[int, int, int, int], str] = {}  # (device, inode, size, time) -> sha256


def files(folder: str | Path) -> dict[str, Path]:
    """{name: path} of the files of a result, without its seal and hidden files."""
    found = {}
    for at, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(at, name)
            if not name.startswith(".") and path != Path(folder, SEAL):
                found[path.relative_to(folder).as_posix()] = path
    return found


def seal(folder: str | Path) -> Seal:
    """Write the seal of a result that is complete; returns what `read` returns."""
    made = {name: {"bytes": path.stat().st_size, "sha256": _digest(path)} for name, path in sorted(files(folder).items())}
    write_json(Path(folder, SEAL), {"version": VERSION, "files": made, "digest": digest(made)})
    return made


def read(folder: str | Path) -> Seal | None:
    """{file: {bytes, sha256}}; None for a result without a seal.

    Raises   DamagedFile when the seal itself is damaged
    """
    path = Path(folder, SEAL)
    if not path.exists():
        return None
    said = read_json(path)
    if not isinstance(said, dict) or not isinstance(said.get("files"), dict) or said.get("digest") != digest(said["files"]):
        raise DamagedFile(path, "its bytes are not those that were written")
    if said.get("version") != VERSION:
        raise RunError(f"{path} was written by a newer version of the workbench (version {said.get('version')}, this one reads {VERSION}).")
    return said["files"]


def fault(folder: str | Path, only: Collection[str] | None = None, sizes_only: bool = False) -> Fault | None:
    """(file, what is wrong with it) of the first fault of a result; None when there is none, or when the result has no seal.

    only         names of the files to look at, default all. A file the seal does not name is a fault then as well
    sizes_only   compare names and sizes, read nothing
    """
    try:
        named = read(folder)
    except DamagedFile as error:
        return SEAL, error.why
    found = files(folder)
    if named is None:
        return None if found else ("", "the folder is empty")
    for name, said in named.items():
        if only is not None and name not in only:
            continue
        if name not in found:
            return name, "the file is missing"
        try:
            size = found[name].stat().st_size
            if size != said["bytes"]:
                return name, f"it has {size:,} bytes where {said['bytes']:,} were written"
            if not sizes_only and _digest(found[name]) != said["sha256"]:
                return name, "its bytes are not those that were written"
        except OSError as error:
            return name, f"it cannot be read: {error.strerror or error}"
    if strange := sorted(found.keys() - named.keys() if only is None else set(only) - named.keys()):
        return strange[0], "the run did not write this file" if strange[0] in found else "the file is missing"
    return None


def readable(folder: str | Path) -> Fault | None:
    """(file, what is wrong with it) of the first file of a result that its own format calls damaged; None when there is none."""
    found = files(folder)
    if not found:
        return "", "the folder is empty"
    for name, path in sorted(found.items()):
        try:
            READERS.get(path.suffix, file_digest)(path)
        except DamagedFile as error:
            return name, error.why
        except OSError as error:
            return name, f"it cannot be read: {error.strerror or error}"
    return None


def same(a: Seal, b: Seal) -> bool:
    """Whether two seals are of the same results, apart from files that say how long something took."""
    return {name: one for name, one in a.items() if name not in TIMES} == {name: one for name, one in b.items() if name not in TIMES}


def _digest(path: Path) -> str:
    about = os.stat(path)
    key = about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns
    if key not in _known:
        _known[key] = file_digest(path)
    return _known[key]
