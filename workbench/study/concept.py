"""[concept] and [prompts.other]: what is to be erased, and another concept to compare with."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from workbench.study.fields import Once, Part, Said

OTHER = ("other-target", "other-reference")  # the prompt sets of another concept


class Concept(Part):
    """What is to be erased."""

    later: ClassVar[tuple] = ("forbidden",)

    name: Said
    kind: Literal["style", "object", "group"] = Field(description="what sort of thing the concept is")
    names: Annotated[list[Said], Once] = Field(min_length=1, description="every name of it: erased together, forbidden to attacks")
    forbidden: list[Said] | None = Field(
        None, min_length=1, description="more words that attacks may not use, such as synonyms that are not erased"
    )

    @property
    def not_for_attacks(self):
        """The words no attack may use: its names, and what else is forbidden."""
        return [*self.names, *(self.forbidden or [])]


class OtherConcept(Part):
    """Another concept, whose neurons stand beside the study's own: are they left alone by the eraser and by the attacks?

    Its rows pair with those of the target set, unit by unit; they are recorded on the same latents and need no images.
    """

    name: Said = Field(description="what tables and sentences call it")
    target: Said = Field(description="prompts with that concept, a prompt of its own for each unit of the study")
    reference: Said = Field(description="the same without it")

    @property
    def files(self):
        """{prompt set: file}."""
        return dict(zip(OTHER, (self.target, self.reference), strict=True))
