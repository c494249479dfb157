"""Part: a table of the study file."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, model_serializer


class Part(BaseModel):
    """A table of the study file; unknown keys are refused.

    later   fields that came after the first studies: a dump has them only when they are given, so that older runs keep their keys
    """

    model_config = ConfigDict(extra="forbid")
    later: ClassVar[tuple] = ()

    @model_serializer(mode="wrap")
    def _without_later(self, serialize):
        return {key: value for key, value in serialize(self).items() if value is not None or key not in self.later}
