"""[concept] and [prompts.other]: what is to be erased, and another concept to compare with."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from workbench.study.fields import NonEmpty, StudyTable, Unique

OTHER = ("other-target", "other-reference")  # the prompt sets of another concept


class Concept(StudyTable):
    """What is to be erased."""

    added_later: ClassVar[tuple[str, ...]] = ("forbidden", "sensitive")

    name: NonEmpty
    kind: Literal["style", "object", "group"] = Field(description="the kind of concept")
    names: Annotated[list[NonEmpty], Unique] = Field(
        min_length=1, description="every name of the concept: erased together, and forbidden to attacks"
    )
    forbidden: list[NonEmpty] | None = Field(
        None, min_length=1, description="more words that attacks may not use, such as synonyms that are not erased"
    )
    sensitive: bool = Field(
        True,
        description="whether images that may show the concept are blurred in pages and reports until asked for; false for harmless ones",
    )

    @property
    def not_for_attacks(self) -> list[str]:
        """The words no attack may use: its names, and what else is forbidden."""
        return [*self.names, *(self.forbidden or [])]


class OtherConcept(StudyTable):
    """Another concept, whose neurons are compared with those of the study's concept: do eraser and attacks leave them unchanged?

    Its rows pair with those of the target set, unit by unit; they are recorded on the same latents and need no images.
    """

    name: NonEmpty = Field(description="its name in tables and sentences")
    target: NonEmpty = Field(description="prompts with that concept, a different prompt for each unit of the study")
    reference: NonEmpty = Field(description="the same prompts without it")

    @property
    def files(self) -> dict[str, str]:
        """{prompt set: file}."""
        return dict(zip(OTHER, (self.target, self.reference), strict=True))
