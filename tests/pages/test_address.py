"""Keys of the address: each belongs to one page."""

import ast
from collections import defaultdict
from importlib import import_module

from workbench.ui import navigation


def bound(path):
    """The keys that the file binds to the address, as it writes them: "'pick'" or "links.CLUSTER"."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            given = {one.arg: one.value for one in node.keywords}
            if "bind" in given:
                yield given["key"]


def value(key):
    """The text of a key: a literal, or a name of a module of workbench.ui."""
    if isinstance(key, ast.Constant):
        return key.value
    return getattr(import_module(f"workbench.ui.{key.value.id}"), key.attr)


def test_no_two_pages_bind_the_same_key():
    """Streamlit takes what one page has bound out of the address on the way to another page, a link's own key with it."""
    pages = defaultdict(set)
    for page in navigation.pages():
        for key in bound(page.script):
            pages[value(key)].add(page.name)
    assert {"neuron", "selected", "cluster"} <= set(pages)
    assert {key: names for key, names in pages.items() if len(names) > 1} == {}
