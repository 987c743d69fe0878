"""A grant says what it said when it was signed, to the right key, until it ends."""

import jwt
import pytest

from warmpool.errors import Forbidden
from warmpool.grants import ALGORITHM, AUDIENCE, Grant, sign, verify

KEY = b"k" * 32
GRANT = Grant(tenant="acme", execution="e1", tools=("search.*",), expires_at=1000.0, max_calls=5, max_bytes=100)


def test_a_grant_survives_signing() -> None:
    assert verify(sign(GRANT, KEY), KEY, now=999.9) == GRANT


def test_an_expired_grant_is_refused() -> None:
    with pytest.raises(Forbidden, match=r"expired 2\.5 s ago"):
        verify(sign(GRANT, KEY), KEY, now=1002.5)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "not a token",
        sign(GRANT, b"x" * 32),
        sign(GRANT, KEY)[:-2],
        jwt.encode({"aud": AUDIENCE, "tenant": "acme"}, KEY, algorithm=ALGORITHM),
        jwt.encode({"aud": "another service"}, KEY, algorithm=ALGORITHM),
        jwt.encode({"aud": AUDIENCE, "tenant": "acme", "expires_at": 2000.0}, None, algorithm="none"),
    ],
)
def test_a_token_that_is_no_grant_of_ours_is_refused(token: str) -> None:
    with pytest.raises(Forbidden, match="the grant is not valid"):
        verify(token, KEY, now=0.0)


@pytest.mark.parametrize(
    ("entry", "tool", "allowed"),
    [
        ("search.find", "search.find", True),
        ("search.find", "search.find_all", False),
        ("search.*", "search.find", True),
        ("search.*", "searching.find", False),
        ("*", "anything.at_all", True),
    ],
)
def test_a_grant_names_tools_categories_or_everything(entry: str, tool: str, allowed: bool) -> None:
    grant = Grant(tenant="t", execution="e", tools=(entry,), expires_at=0, max_calls=1, max_bytes=1)
    assert grant.allows(tool) is allowed
