"""Text from outside on a terminal: control characters are shown as escapes, so that a name can neither move the cursor nor hide.

visible   a text with its control characters written out
Visible   a text stream that writes everything so
"""

import re
from collections.abc import Iterable
from typing import IO

# C0 but tab and line feed, DEL, C1, line separators, marks that turn the direction of text round, halves of surrogate pairs
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
CURSOR_UP = re.compile("(\x1b\\[A)+")


def visible(text: str) -> str:
    r"""The text with every hidden character as \x1b or \u202e: ESC, bell, carriage return, C1, overrides of the direction.

    Tab and line feed stay. So do the marks that letters and emoji of many languages need: joiners, U+200E, U+200F, U+061C.
    """
    return HIDDEN.sub(lambda found: f"\\x{ord(found[0]):02x}" if ord(found[0]) < 256 else f"\\u{ord(found[0]):04x}", text)


class Visible:
    """A text stream in front of another one.

    What progress bars of libraries write passes: a carriage return as the first character, a write that only moves the cursor up.

    rich_proxied_file   what consoles of rich write to, as they style text of their own
    """

    def __init__(self, stream: IO[str]) -> None:
        self.rich_proxied_file = stream
        self.encoding, self.errors = getattr(stream, "encoding", None), getattr(stream, "errors", None)

    def write(self, text: str) -> int:
        """Write a text; returns its length."""
        first = text[:1] if text.startswith("\r") else ""
        self.rich_proxied_file.write(text if CURSOR_UP.fullmatch(text) else first + visible(text[len(first) :]))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush what is behind."""
        self.rich_proxied_file.flush()

    def isatty(self) -> bool:
        """Whether a terminal is behind it."""
        return self.rich_proxied_file.isatty()

    def fileno(self) -> int:
        """The file descriptor behind it."""
        return self.rich_proxied_file.fileno()
