"""Text files of users: read whole as UTF-8, or refused in one sentence that says what the file is and what to do.

read       path -> text
content    path -> bytes of a regular file; opened, check_regular: the file itself. A pipe or device is never opened, so that nothing waits
decoded    bytes -> text
stand_in   what the bytes are when they only stand for a file: a Git LFS pointer, a web page
foreign    the same, or another kind of file that is no text: an image, a spreadsheet ...
"""

import codecs
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from workbench.errors import WorkbenchError, nearest

MOST_BYTES = 256 * 2**20
POINTER = b"version https://git-lfs.github.com/spec/v1"
KINDS = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x93NUMPY": "a NumPy array, as the concept vectors of Ring-A-Bell",
    b"PAR1": "a Parquet file; export it as CSV first",
    b"\x1f\x8b": "a packed file; unpack it first",
    b"PK\x03\x04": "a zip or spreadsheet; export it as CSV first",
    b"%PDF": "a PDF",
    b"SQLite format 3": "a database",
}
MARKS = {  # the longer mark first: that of UTF-32 begins like that of UTF-16
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
CONTROL = frozenset(range(32)) - {9, 10, 12, 13, 27}  # bytes that no text file of eight bits a letter has


def read(path: str | Path, error: type[WorkbenchError], most: int = MOST_BYTES) -> str:
    """The text of a file; a byte order mark of UTF-8 is taken off, line ends stay as they are.

    error    the class of errors to raise
    most     bytes that such a file may have
    Raises   `error` when there is no such file, it is no regular file, may not be read, is too large, or is no text in UTF-8
    """
    return decoded(content(path, error, most), path, error)


def content(path: str | Path, error: type[WorkbenchError], most: int = MOST_BYTES) -> bytes:
    """The bytes of a regular file; `error` as for `read`."""
    with opened(path, error) as file:
        found = file.read(most + 1)
    if len(found) > most:
        raise error(f'"{path}" has more than {_size(most)}, too much for a file of this kind. Is it the right file?')
    return found


@contextmanager
def opened(path: str | Path, error: type[WorkbenchError]) -> Iterator[BinaryIO]:
    """A regular file, open for reading bytes; `error` as for `read`."""
    path = Path(path)
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):
            raise error(f'"{path}" is {_kind(about.st_mode)}, not a file. {_instead(path, about.st_mode)}')
        with open(path, "rb") as file:
            yield file
    except FileNotFoundError:
        raise error(f'There is no file "{path}".{_beside(path)}') from None
    except PermissionError:
        raise error(f'"{path}" cannot be read: permission denied. Allow reading (chmod u+r), or copy the file.') from None
    except (OSError, ValueError) as problem:
        raise error(f'"{path}" cannot be read: {getattr(problem, "strerror", None) or problem}.') from None


def check_regular(path: str | Path, error: type[WorkbenchError]) -> None:
    """Refuse what is no file that can be read; `error` as for `read`."""
    with opened(path, error):
        pass


def decoded(found: bytes, path: str | Path, error: type[WorkbenchError]) -> str:
    """The text in these bytes; `error` that names the encoding, or what the file is, and the cure."""
    if what := foreign(found):
        raise error(f'"{path}" is not a text file: it is {what}.')
    encoding = next((name for mark, name in MARKS.items() if found.startswith(mark)), None) or _without_mark(found)
    if encoding:
        raise error(f'"{path}" is text in {encoding}. Save it as UTF-8 (in a shell: iconv -f {encoding} -t UTF-8) and use that file.')
    if b"\0" in found:
        raise error(f'"{path}" is not a text file: it contains null bytes, as binary files do (the first is byte {found.index(0) + 1}).')
    try:
        # utf-8-sig is read from disk when first used, which a process without rights to the interpreter's folder cannot
        return found.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as problem:
        at, line = problem.start, found.count(b"\n", 0, problem.start) + 1
    where = f"byte {at + 1}, in line {line}, is 0x{found[at]:02X}"
    if CONTROL & set(found):
        raise error(f'"{path}" is not a text file, or a damaged one: {where}, which is not UTF-8. Get the file again.')
    raise error(
        f'"{path}" is not UTF-8 text: {where}. It looks like Latin-1 or Windows-1252: save it as UTF-8 (in a shell: iconv -f '
        "WINDOWS-1252 -t UTF-8) and use that."
    )


def stand_in(found: bytes) -> str | None:
    """What bytes are that only stand for a file that was not downloaded, with the cure; None for others."""
    if found.startswith(POINTER):
        return "a Git LFS pointer, a placeholder for a file that was not downloaded. Get the file itself: git lfs pull"
    start = found[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return "a web page, as servers send instead of a file that needs a login. Get the file itself in a browser"
    return None


def foreign(found: bytes) -> str | None:
    """What kind of file bytes are when they are not text, with the cure; None when they may be text."""
    return stand_in(found) or next((what for mark, what in KINDS.items() if found.startswith(mark)), None)


def _without_mark(found: bytes) -> str | None:
    """UTF-16 without a mark: plain letters have a null byte on the same side of each."""
    sample = found[: 4096 & ~1]
    if len(sample) < 4 or b"\0" not in sample:
        return None
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    pairs = len(sample) // 2
    if odd > 0.7 * pairs and not even:
        return "UTF-16LE"
    return "UTF-16BE" if even > 0.7 * pairs and not odd else None


def _kind(mode: int) -> str:
    names = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    return next((name for test, name in names if test(mode)), "a device")


def _instead(path: Path, mode: int) -> str:
    if not stat.S_ISDIR(mode):
        return "Save its content to a file, and name that."
    try:
        inside = sorted(one.name for one in path.iterdir() if one.is_file() and not one.name.startswith("."))
    except OSError:
        inside = []
    return f"Name a file in it, e.g. {inside[0]}." if inside else "Name a file."


def _beside(path: Path) -> str:
    """The nearest name in the folder where the file should be."""
    try:
        names = [one.name for one in path.parent.iterdir() if one.suffix == path.suffix][:200]
    except OSError:
        return ""
    return nearest(path.name, names) if names else ""


def _size(n: int) -> str:
    return f"{n // 2**20} MB" if n >= 2**20 else f"{n // 2**10} kB"
