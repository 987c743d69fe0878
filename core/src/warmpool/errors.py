"""The errors of warmpool, split by what the caller can do about them.

WarmpoolError
├── InvalidRequest          mend the request; sending it again as it is will fail again
│   ├── Unauthenticated
│   ├── Forbidden
│   └── NotFound
├── RetryLater              nothing is wrong with the request; `retry_after` says when to try again
│   ├── QuotaExceeded       the tenant's own limit
│   ├── PoolExhausted       no sandbox came free in time
│   └── Unavailable         something that the service needs is away
├── ToolFailed              a tool said no; raised inside the program with its fields
└── PlatformError           ours; counted against the error budget
    └── ModelRefused        the model's API will not have our key, model name or address

An error's docstring is its default message. The gateway maps the tree to HTTP in one place.
"""

from typing import Any


class WarmpoolError(Exception):
    """warmpool failed."""

    def __init__(self, message: str | None = None, **fields: Any) -> None:
        self.message = message or " ".join((type(self).__doc__ or "").split())
        self.fields = fields
        super().__init__(self.message)


class InvalidRequest(WarmpoolError):
    """The request is not of its form."""


class Unauthenticated(InvalidRequest):
    """No valid API key: send one as `Authorization: Bearer wp_...`; `warmpool keys create` makes one."""


class Forbidden(InvalidRequest):
    """The key does not allow this."""


class NotFound(InvalidRequest):
    """There is no such thing."""


class RetryLater(WarmpoolError):
    """Try again later."""

    def __init__(self, message: str | None = None, *, retry_after: float = 1.0, **fields: Any) -> None:
        self.retry_after = retry_after
        """Seconds."""
        super().__init__(message, **fields)


class QuotaExceeded(RetryLater):
    """The tenant already runs as many executions at once as its quota allows."""


class PoolExhausted(RetryLater):
    """No sandbox can come free before the deadline; try again, or make the pool larger."""


class Unavailable(RetryLater):
    """Something that the service needs is away."""


class Superseded(WarmpoolError):
    """Another has taken over what this process was in charge of: it must stop."""


class ToolFailed(WarmpoolError):
    """A tool call failed."""

    def __init__(self, message: str | None = None, *, code: str = "tool_failed", **fields: Any) -> None:
        self.code = code
        """One snake_case word that a program can branch on."""
        super().__init__(message, **fields)


class PlatformError(WarmpoolError):
    """The platform failed; the program may or may not have run."""


class ModelRefused(PlatformError):
    """The model's API refuses our requests: check model.name, model.base_url and the key."""
