"""Prices are exact, and what could be read two ways is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.money import to_minor, to_text


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("19.99", "EUR", 1999),
        ("19,99", "EUR", 1999),
        ("19", "EUR", 1900),
        ("19.9", "EUR", 1990),
        ("19.9900", "EUR", 1999),
        ("1,299.00", "USD", 129900),
        ("1.299,00", "EUR", 129900),
        ("1,234,567.89", "USD", 123456789),
        ("0", "EUR", 0),
        ("1500", "JPY", 1500),
        ("1500.00", "JPY", 1500),
        ("1.250", "KWD", 1250),
        (" 5 ", "EUR", 500),
        ("", "EUR", None),
        ("  ", "EUR", None),
        ("0.29", "EUR", 29),
    ],
)
def test_a_price_is_read_exactly(text: str, currency: str, minor: int | None) -> None:
    assert to_minor(text, currency) == minor


@pytest.mark.parametrize(
    "text",
    ["abc", "-5", "1e3", "19.999", "1,299", "1.2.3", "12,34.56", "€5", "5 EUR", ".5", "5.", "NaN", "٣", "9" * 20],
)
def test_what_is_no_price_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        to_minor(text, "EUR")


@given(st.integers(0, 10**15), st.sampled_from(["EUR", "JPY", "KWD"]))
def test_a_price_survives_being_written_and_read(minor: int, currency: str) -> None:
    assert to_minor(to_text(minor, currency), currency) == minor
