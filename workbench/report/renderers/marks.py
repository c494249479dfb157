"""Markdown in which no text of a study is markup: a line, a table, a list, a code block."""

import re
from collections.abc import Iterable
from typing import Any

from workbench.report.table import View

SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\`*_[]|#~"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"})


def text(value: Any) -> str:
    """One line of text in which nothing is markup."""
    return " ".join(str(value).split()).translate(SPECIAL)


def table(view: View) -> str:
    """A table; nothing when it has no rows."""
    if not view.rows:
        return ""
    rule = ["---:" if right else ":---" for right in view.numeric]
    lines = [map(text, view.head), rule, *(map(text, row) for row in view.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bullets(sentences: Iterable[str]) -> str:
    """A list."""
    return "\n".join(f"- {text(sentence)}" for sentence in sentences)


def code(words: str, language: str) -> str:
    """A fenced block whose fence is longer than any run of backticks inside."""
    longest = max(map(len, re.findall("`+", words)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{words.rstrip()}\n{fence}"
