"""What a reader hands to the importer: rows in the workbench's words, and how they were recognised."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

Row = dict[str, Any]  # our column names -> text


@dataclass
class Found:
    """Prompts as they were found, before anything is refused.

    format      the recognised format, in words
    kind        prompts, pairs (never an attack) or embeddings
    rows        dicts of text: prompt, and id, unit, seed, guidance, original, anchor, expect, success, image where there are any;
                named is the list's own prompt where another column was chosen
    columns     {our name: the source's name}
    ignored     columns of the source that were not taken
    dropped     {reason: how many rows the reader itself left out}
    notes       sentences the user must know
    made        what the source says it was made against, or None
    provenance  (provenance, against) when the source was imported before, or None
    vectors     {token: torch (n, channel)} of embeddings, else None
    """

    format: str
    kind: Literal["prompts", "pairs", "embeddings"]
    rows: list[Row] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    made: str | None = None
    provenance: tuple[str | None, str | None] | None = None
    vectors: "dict[str, torch.Tensor] | None" = None
