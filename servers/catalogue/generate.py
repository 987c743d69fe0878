"""Catalogues for trials and tests: any size, realistic, the same bytes for the same seed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from servers.catalogue.drawing import GeneratedProduct, draw
from servers.catalogue.importer import Format
from servers.catalogue.writers import WRITERS

FEWEST: Final = 1
MOST: Final = 10_000_000
PROGRESS_EVERY: Final = 500


def generate(
    file: Path,
    *,
    format: Format,
    products: int,
    seed: int,
    currency: str = "EUR",
    on_progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Writes a catalogue of so many products. Raises ValueError for a number that is out of range."""
    if not FEWEST <= products <= MOST:
        raise ValueError(f"products must be from {FEWEST} to {MOST}, not {products}")
    partial = file.with_name(file.name + ".partial")
    try:
        # WooCommerce begins its exports with a byte-order mark.
        encoding = "utf-8-sig" if format == "woocommerce-csv" else "utf-8"
        with partial.open("w", encoding=encoding, newline="") as out:
            WRITERS[format](out, _counted(products, seed, on_progress), currency)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def _counted(products: int, seed: int, on_progress: Callable[[int], None]) -> Iterator[GeneratedProduct]:
    for number in range(1, products + 1):
        yield draw(number, seed)
        if number % PROGRESS_EVERY == 0 or number == products:
            on_progress(number)
