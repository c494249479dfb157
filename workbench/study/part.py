"""Part: a table of the study file."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, model_serializer


class Part(BaseModel):
    """A table of the study file; unknown keys are refused.

    later   fields that came after the first studies: a dump has them only where they differ from their default, so that older runs
            keep their keys
    """

    model_config = ConfigDict(extra="forbid")
    later: ClassVar[tuple] = ()

    @model_serializer(mode="wrap")
    def _without_later(self, serialize):
        kept = lambda key: key not in self.later or getattr(self, key) != type(self).model_fields[key].default  # noqa: E731
        return {key: value for key, value in serialize(self).items() if kept(key)}
