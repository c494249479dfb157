"""Short names of layers: `down1.0.0` of down_blocks.1.attentions.0.transformer_blocks.0.ff.net.2, and back. Needs no Streamlit.

The site ff, the default one, is not named; others are: `down1.0.0.v` (values of cross-attention), `down1.0.update`,
`down1.res0.conv1`, `text3` (text encoder). A path of another form stands for itself, and so do paths that would share a name.
"""

import re
from collections.abc import Iterable, Mapping

from workbench.errors import RunError, nearest
from workbench.ui.text import short as shortened

DOT = "·"  # between layer and number where a reader sees them
LONG = "down_blocks.1.attentions.0.transformer_blocks.0.ff.net.2"  # of the short name down1.0.0
_PLACE = r"(?:(down|up)_blocks\.(\d+)|(mid)_block)"
_BLOCK = rf"^{_PLACE}\.attentions\.(\d+)"
# module path -> its short name, tried in this order; groups: down or up, its number, mid, then the rest
FORMS = (
    (re.compile(rf"{_BLOCK}\.transformer_blocks\.(\d+)\.ff\.net\.2$"), "{block}.{0}.{1}"),
    (re.compile(rf"{_BLOCK}\.transformer_blocks\.(\d+)\.attn2\.to_v$"), "{block}.{0}.{1}.v"),
    (re.compile(rf"{_BLOCK}$"), "{block}.{0}.update"),
    (re.compile(rf"^{_PLACE}\.resnets\.(\d+)\.(conv[12])$"), "{block}.res{0}.{1}"),
)
OTHERS = (
    (re.compile(r"^(?:text_model\.)?encoder\.layers\.(\d+)\.mlp\.fc2$"), r"text\1"),
    (re.compile(r"^(?:text_encoder\.)(?:text_model\.)?encoder\.layers\.(\d+)\.mlp\.fc2$"), r"text\1"),
    (re.compile(r"^transformer_blocks\.(\d+)\.ff\.net\.2$"), r"block\1"),
)


def short(path: str) -> str:
    """The short name of one module path."""
    for form, name in FORMS:
        if found := form.match(path):
            side, number, mid, *rest = found.groups()
            return name.format(*rest, block=mid or f"{side}{number}")
    for form, name in OTHERS:
        if form.match(path):
            return form.sub(name, path)
    return path


def names(layers: Iterable[str]) -> dict[str, str]:
    """{module path: its short name}; no two are the same."""
    found = {path: short(path) for path in dict.fromkeys(layers)}
    counts: dict[str, int] = {}
    for name in found.values():
        counts[name] = counts.get(name, 0) + 1
    return {path: name if counts[name] == 1 else path for path, name in found.items()}


def path_of(name: str, layers: Iterable[str]) -> str:
    """The module path of a short name, or of itself.

    Raises   RunError for a name that no layer has
    """
    known = names(layers)
    if name in known:
        return name
    for path, word in known.items():
        if word == name:
            return path
    raise RunError(f'No layer of this run is called "{shortened(name)}".{nearest(name, known.values())}')


def in_order(layers: Iterable[str]) -> list[str]:
    """Layers in the order in which a UNet runs them: down, mid, up; the others last."""
    sides = {"down": 0, "mid": 1, "up": 2}

    def place(path: str) -> tuple[object, ...]:
        return next((at for side, at in sides.items() if path.startswith(side)), 3), [int(one) for one in re.findall(r"\d+", path)], path

    return sorted(dict.fromkeys(layers), key=place)


def neuron(row: Mapping[str, object]) -> str:
    """`down1.0.0 · 246`: a neuron as a reader sees it."""
    return f"{short(str(row['layer']))} {DOT} {row['index']}"


def neuron_id(name: str) -> str:
    """The same of its id, layer:number."""
    layer, _, index = name.rpartition(":")
    return f"{short(layer)} {DOT} {index}"
