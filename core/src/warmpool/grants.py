"""What one execution may do with the tools: signed by the gateway, checked by the tool server.

A grant never enters a sandbox. It is bound to one tenant and one execution and ends with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt

from warmpool.errors import Forbidden

ALGORITHM: Final = "HS256"
AUDIENCE: Final = "warmpool-tools"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    tenant: str
    execution: str
    tools: tuple[str, ...]
    """Qualified names (`search.search_products`), whole categories (`search.*`) or everything (`*`)."""
    expires_at: float
    """Unix seconds."""
    max_calls: int
    max_bytes: int
    """Of all responses together."""

    def allows(self, qualified: str) -> bool:
        return any(
            entry in ("*", qualified) or (entry.endswith(".*") and qualified.startswith(entry[:-1]))
            for entry in self.tools
        )


def sign(grant: Grant, key: bytes) -> str:
    claims = {
        "aud": AUDIENCE,
        "tenant": grant.tenant,
        "execution": grant.execution,
        "tools": list(grant.tools),
        "expires_at": grant.expires_at,
        "max_calls": grant.max_calls,
        "max_bytes": grant.max_bytes,
    }
    return jwt.encode(claims, key, algorithm=ALGORITHM)


def verify(token: str, key: bytes, now: float) -> Grant:
    """The grant behind a token. Raises Forbidden for one that is malformed, of another key, or past its time."""
    try:
        # The time is checked below against `now`, so that a test or a skewed host can say what it is.
        claims = jwt.decode(token, key, algorithms=[ALGORITHM], audience=AUDIENCE, options={"verify_exp": False})
    except jwt.InvalidTokenError as fault:
        raise Forbidden("the grant is not valid: it is malformed or signed with another key") from fault
    grant = _grant(claims)
    if grant.expires_at <= now:
        raise Forbidden(f"the grant expired {now - grant.expires_at:.1f} s ago; it ends with its execution")
    return grant


def _grant(claims: Mapping[str, Any]) -> Grant:
    try:
        return Grant(
            tenant=str(claims["tenant"]),
            execution=str(claims["execution"]),
            tools=tuple(map(str, claims["tools"])),
            expires_at=float(claims["expires_at"]),
            max_calls=int(claims["max_calls"]),
            max_bytes=int(claims["max_bytes"]),
        )
    except (KeyError, TypeError, ValueError) as fault:
        raise Forbidden("the grant is not valid: a claim is missing or of the wrong type") from fault
