"""What a reader may choose of a report: its sections, its images, its size."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from workbench.errors import RunError, nearest
from workbench.report.section import Section, found

Images = Literal["none", "thumb", "full"]
IMAGES = {
    "none": "no images",
    "thumb": "images of at most 256 pixels a side",
    "full": "images as large as the report has them",
}
MAX_MB = 10.0


@dataclass(frozen=True)
class Options:
    """What is chosen of a report.

    sections   names of the sections that HTML and Markdown show; None = all
    images     a key of IMAGES
    max_mb     megabytes (10^6 bytes) that the HTML file and the archive may have
    variant    whose model card is written; None = the first changed variant
    Raises     RunError for a section that does not exist, images of another kind, a size that is not above 0
    """

    sections: tuple[str, ...] | None = None
    images: Images = "thumb"
    max_mb: float = MAX_MB
    variant: str | None = None

    def __post_init__(self) -> None:
        for name in self.sections or ():
            if name not in found():
                raise RunError(f'The report has no section "{name}".{nearest(name, found())}')
        if self.sections == ():
            raise RunError(f"A report needs at least one section. It has: {', '.join(found())}.")
        if self.images not in IMAGES:
            raise RunError(f'There is no choice "{self.images}" of images.{nearest(self.images, IMAGES)}')
        if not self.max_mb > 0:
            raise RunError(f"A report of at most {self.max_mb} MB was asked for; the limit must be above 0.")

    @property
    def chosen(self) -> dict[str, Section]:
        """{name: section} of what is shown, in the order of the report."""
        return {name: section for name, section in found().items() if self.sections is None or name in self.sections}


def named(words: str | Iterable[str]) -> tuple[str, ...] | None:
    """Names of sections from a list separated by commas, in which a dash stands for an underscore too; None for none."""
    parts = words.split(",") if isinstance(words, str) else words
    return tuple(dict.fromkeys(part.strip().replace("-", "_") for part in parts if part.strip())) or None
