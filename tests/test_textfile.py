"""Text files from outside: read whole, or refused by what they are, with the cure."""

import os
import socket

import pytest

from workbench import textfile
from workbench.errors import PromptError, StudyError

WORDS = "prompt\na café at dusk\n"


def made(tmp_path, content):
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    return path


def test_utf8_is_read_with_and_without_its_mark_and_line_ends_stay(tmp_path):
    for content in (WORDS.encode(), b"\xef\xbb\xbf" + WORDS.encode()):
        assert textfile.read(made(tmp_path, content), StudyError) == WORDS
    assert textfile.read(made(tmp_path, b"a\r\nb"), StudyError) == "a\r\nb"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (WORDS.encode("utf-16"), "is text in UTF-16. Save it as UTF-8 .*iconv -f UTF-16 -t UTF-8"),
        (WORDS.encode("utf-16-le"), "is text in UTF-16LE. Save it as UTF-8"),
        (WORDS.encode("utf-16-be"), "is text in UTF-16BE. Save it as UTF-8"),
        (WORDS.encode("utf-32"), "is text in UTF-32. Save it as UTF-8"),
        (WORDS.encode("latin-1"), "not UTF-8 text: byte 13, in line 2, is 0xE9. It looks like Latin-1 or Windows-1252: save it as UTF-8"),
        (b"prompt\na\0b c d e f g h i j\n", r"contains null bytes, as binary files do \(the first is byte 9\)"),
        (b"\x80\x02}q\x00.\x07\x08\xff" * 3, "not a text file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 4\n", "a Git LFS pointer, .* Get the file itself: git lfs pull"),
        (b"\n<!DOCTYPE html>\n<html>", "a web page, .* Get the file itself"),
        (b"%PDF-1.4", "it is a PDF"),
    ],
)
def test_another_encoding_or_file_is_named_with_the_cure(tmp_path, content, message):
    with pytest.raises(PromptError, match=message):
        textfile.read(made(tmp_path, content), PromptError)


def test_what_is_no_regular_file_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside.toml").write_text("x")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for name, what in (("pipe", "is a pipe, not a file"), ("socket", "is a socket"), ("folder", "a folder.*e.g. inside.toml")):
            with pytest.raises(StudyError, match=what):
                textfile.read(tmp_path / name, StudyError)
    with pytest.raises(StudyError, match="is a device, not a file"):
        textfile.read("/dev/zero", StudyError)


def test_missing_and_unreadable_and_too_large_files_are_told(tmp_path, monkeypatch):
    (tmp_path / "church.csv").write_text("prompt\n")
    with pytest.raises(StudyError, match='There is no file ".*churhc.csv". Did you mean "church.csv"'):
        textfile.read(tmp_path / "churhc.csv", StudyError)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(StudyError, match="loop.* cannot be read: Too many levels of symbolic links"):
        textfile.read(tmp_path / "loop", StudyError)
    for name in ("x" * 300, "a\0b"):
        with pytest.raises(StudyError, match="cannot be read"):
            textfile.read(tmp_path / name, StudyError)
    with pytest.raises(StudyError, match="more than 1 kB, too much"):
        textfile.read(made(tmp_path, b"x" * 1025), StudyError, most=1024)

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(textfile, "open", refused, raising=False)
    with pytest.raises(StudyError, match="cannot be read: permission denied. Allow reading"):
        textfile.read(tmp_path / "church.csv", StudyError)
