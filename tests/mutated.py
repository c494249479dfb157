"""Files mutated at random, and the command line watched while it reads them.

run          the real main() in this process: (exit code, what it said); fails on a traceback, a hang, or a write outside a folder
flipped      bytes with some flipped, cut out, repeated, put in
swapped      a plain structure with values of other types, deep nesting, huge numbers, strange text in some places
toml         a plain structure as a study file
"""

import io
import json
import os
import re
import signal
import sys
import tempfile
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from hypothesis import strategies as st

from workbench.cli import main

SECONDS = 10
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {"os.mkdir": 1, "os.remove": 1, "os.rmdir": 1, "os.rename": 2, "os.link": 2, "os.symlink": 2, "os.truncate": 1, "os.chmod": 1}
NEVER = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.kill", "subprocess.Popen", "socket.connect", "pty.spawn")

_watched = None  # (folder, what was done outside of it) while a command runs


class Hang(BaseException):
    """A command went on for longer than SECONDS; no `except Exception` catches it."""


def _audit(event, arguments):
    if _watched is None:
        return
    folder, outside = _watched
    if event == "open":
        path, mode, flags = arguments
        writes = isinstance(flags, int) and flags & WRITING or isinstance(mode, str) and set(mode) & set("wax+")
        paths = [path] if writes and isinstance(path, str | bytes | os.PathLike) else []
    elif event in CHANGES:
        paths = [path for path in arguments[: CHANGES[event]] if isinstance(path, str | bytes | os.PathLike)]
    elif event in NEVER:
        outside.append(f"{event} {arguments!r}"[:200])
        return
    else:
        return
    for path in paths:
        whole = os.path.realpath(os.fsdecode(path))
        if whole not in (os.devnull, folder) and not whole.startswith(folder + os.sep):
            outside.append(f"{event} {whole}")


sys.addaudithook(_audit)


@contextmanager
def _within(seconds):
    def stop(*_):
        raise Hang(f"still going after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(folder, *arguments):
    """(exit code, output) of one command in a folder; whatever is no expected end propagates."""
    global _watched
    said, outside, here, argv = io.StringIO(), [], os.getcwd(), sys.argv
    os.chdir(folder)
    sys.argv = ["workbench", *map(str, arguments)]
    try:
        with redirect_stdout(said), redirect_stderr(said), _within(SECONDS):
            _watched = (os.path.realpath(folder), outside)
            try:
                main.main()
                code = 0
            except SystemExit as end:
                code = end.code or 0
    finally:
        _watched, sys.argv = None, argv
        os.chdir(here)
    assert outside == [], f"{arguments}: outside of the folder: {outside[:5]}"
    assert code in (0, 1, 2), f"{arguments}: exit code {code}: {said.getvalue()[-500:]}"
    assert "Traceback" not in said.getvalue()
    return code, said.getvalue()


@contextmanager
def folder():
    """A new folder, away from everything else."""
    with tempfile.TemporaryDirectory() as path:
        yield path


@st.composite
def flipped(draw, content):
    """The bytes with one to four changes."""
    found = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(found) - 1, 0)))
        to = min(len(found), at + draw(st.sampled_from([1, 1, 2, 8, 64, 512])))
        what = draw(st.sampled_from(["flip", "flip", "cut", "truncate", "repeat", "insert"]))
        if what == "flip" and found:
            found[at] ^= 1 << draw(st.integers(0, 7))
        elif what == "cut":
            del found[at:to]
        elif what == "truncate":
            del found[at:]
        elif what == "repeat":
            found[at:at] = found[at:to] * draw(st.sampled_from([1, 2, 50]))
        else:
            found[at:at] = draw(STRANGE_BYTES)
    return bytes(found)


STRANGE_BYTES = st.one_of(
    st.binary(max_size=8),
    st.sampled_from(
        [
            b"\0",
            b"\xff\xfe",
            b"\xef\xbb\xbf",
            b"\xe9",
            b"\x1b[31m",
            b'"',
            b"'",
            b",",
            b"\n",
            b"\r",
            b"=",
            b"[" * 3000,
            b"{" * 3000,
            b"9" * 5000,
            b"NaN",
            b"Infinity",
            b"1e400",
            b"../../x",
            b"/dev/zero",
            "𝔘\u202e".encode(),
        ]
    ),
)
TEXTS = st.one_of(
    st.sampled_from(
        ["", " ", "\0", "\x1b[31m", "../../x", "/etc/passwd", "/dev/zero", ".", "/", "~", "a" * 300, "\u202e", "nan", "=1+1", "<*>", "base"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)
NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 2, 3, 7, 50, 1000, 2**31, 2**63, 2**64, 10**18, 10**30, 0.0, 0.5, 1e-300, 1e300, 1.7, -0.5]),
    st.sampled_from([float("inf"), float("-inf"), float("nan")]),
)
PLAIN = st.one_of(
    TEXTS,
    NUMBERS,
    st.booleans(),
    st.lists(TEXTS, max_size=3),
    st.lists(NUMBERS, max_size=3),
    st.builds(dict),
    st.builds(list),
    st.builds(lambda: {"x": 1}),
)


def _deep(n):
    value = 1
    for level in range(n):
        value = [value] if level % 2 else {"x": value}
    return value


@st.composite
def swapped(draw, content, most=3):
    """The structure with one to a few values put in the place of others, taken out, or added."""
    found = json.loads(json.dumps(content))
    for _ in range(draw(st.integers(1, most))):
        places = list(_places(found))
        where, key = places[draw(st.integers(0, len(places) - 1))]
        what = draw(st.sampled_from(["swap", "swap", "swap", "remove", "twice", "deep", "add"]))
        if what == "remove":
            del where[key]
        elif what == "twice" and isinstance(where, list):
            where.append(where[key])
        elif what == "deep":
            where[key] = _deep(draw(st.sampled_from([5, 20, 60])))
        elif what == "add" and isinstance(where, dict):
            where[draw(st.sampled_from(["x", "name", "seed", "steps", "method"]))] = draw(PLAIN)
        else:
            where[key] = draw(PLAIN)
    return found


def _places(value):
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        yield value, key
        yield from _places(value[key])


def toml(value):
    """A study file that says this structure, as far as TOML can."""
    return "".join(f"{_key(key)} = {_value(inner)}\n" for key, inner in value.items() if inner is not None)


def _key(key):
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)


def _value(value):
    if isinstance(value, dict):
        inside = (f"{_key(key)} = {_value(inner)}" for key, inner in value.items() if inner is not None)
        return "{ " + ", ".join(inside) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(inner) for inner in value if inner is not None) + "]"
    if isinstance(value, float):
        return {"inf": "inf", "-inf": "-inf", "nan": "nan"}.get(str(value), repr(value))
    return json.dumps(value, ensure_ascii=False)  # the escapes of JSON are those of TOML
