"""What the bodies of requests have in common: they are read strictly, and a flood of members is refused unread."""

from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from warmpool_gateway.problems import invalid

MOST_MEMBERS: Final = 32
"""Of one object, well above what any form has. Pydantic writes an error for each that it does not know: 80,000 in a
body of 1 MiB hold the event loop for 0.2 s."""


def few_members(value: Any) -> Any:
    """The value as it is. Raises ValueError where it is an object with more members than any form has."""
    if isinstance(value, dict) and len(value) > MOST_MEMBERS:
        raise ValueError(f"{len(value)} members, {MOST_MEMBERS} are the most")
    return value


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _has_few_members(cls, value: Any) -> Any:
        return few_members(value)

    @classmethod
    def read(cls, value: Any) -> Self:
        """Raises InvalidRequest."""
        try:
            return cls.model_validate(value)
        except ValidationError as fault:
            raise invalid(fault.errors(include_url=False, include_context=False, include_input=False)) from fault
