"""Prices as integers of a currency's smallest unit, from and to decimal text. Never floats."""

import re
from decimal import Decimal
from typing import Final

ZERO_DECIMALS: Final = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
THREE_DECIMALS: Final = "BHD IQD JOD KWD LYD OMR TND"
EXPONENTS: Final = dict.fromkeys(ZERO_DECIMALS.split(), 0) | dict.fromkeys(THREE_DECIMALS.split(), 3)
"""ISO 4217; every other currency has two decimals."""

MOST_MINOR: Final = 10**15
"""Above any honest price, and inside what JSON readers keep exact."""

PLAIN: Final = re.compile(r"\d+([.,]\d+)?", re.ASCII)
GROUPED: Final = re.compile(r"\d{1,3}(,\d{3})+\.\d+|\d{1,3}(\.\d{3})+,\d+", re.ASCII)
"""With both separators it is plain which one is the decimal's."""


def exponent(currency: str) -> int:
    return EXPONENTS.get(currency, 2)


def is_currency(code: str) -> bool:
    return re.fullmatch("[A-Z]{3}", code) is not None


def to_minor(text: str, currency: str) -> int | None:
    """`"19.99"` is 1999; an empty text is None. Raises ValueError for what is no price or has too many decimals."""
    text = text.strip()
    if not text:
        return None
    if not (PLAIN.fullmatch(text) or GROUPED.fullmatch(text)):
        raise ValueError(f"{text!r} is not a price; write it like 19.99")
    whole, decimals = _parts(text)
    kept, lost = decimals[: exponent(currency)], decimals[exponent(currency) :]
    if lost.strip("0"):
        raise ValueError(
            f"{text!r} has more decimals than {currency} has ({exponent(currency)}); "
            "a thousands separator needs the decimals too, as in 1,299.00"
        )
    amount = int(whole + kept.ljust(exponent(currency), "0"))
    if amount > MOST_MINOR:
        raise ValueError(f"{text!r} is too large to be a price")
    return amount


def to_text(minor: int, currency: str) -> str:
    """`1999` is `"19.99"`."""
    places = exponent(currency)
    return f"{Decimal(minor).scaleb(-places):.{places}f}"


def _parts(text: str) -> tuple[str, str]:
    """Digits before the decimal separator and after it."""
    at = max(text.rfind("."), text.rfind(","))
    return (re.sub("[.,]", "", text[:at]), text[at + 1 :]) if at >= 0 else (text, "")
