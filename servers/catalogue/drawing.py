"""Draws invented products, each from its number and the seed alone: product 7 of 100 is product 7 of a million."""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from servers.catalogue.vocabulary import BRANDS, FAMILIES, SERIES, Family


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    price_minor: int | None
    sale_minor: int | None
    stock: int | None
    backorders: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedVariant:
    number: int
    choices: tuple[tuple[str, str], ...]
    """Option name and value."""
    offer: Priced


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedProduct:
    number: int
    title: str
    brand: str
    family: Family
    short: str
    html: str
    tags: tuple[str, ...]
    material: str
    has_sku: bool
    published: bool
    sale_is_over: bool
    offer: Priced
    variants: tuple[GeneratedVariant, ...]

    @property
    def id(self) -> int:
        return 1000 * self.number

    @property
    def sku(self) -> str:
        return f"{re.sub('[^A-Z]', '', self.brand.upper())[:3]}-{self.number:07d}" if self.has_sku else ""

    @property
    def handle(self) -> str:
        return f"{re.sub('[^a-z0-9]+', '-', self.title.lower()).strip('-')}-{self.number}"

    def options(self) -> dict[str, list[str]]:
        """The values of each option that some variant has, in their order."""
        found: dict[str, dict[str, None]] = {}
        for variant in self.variants:
            for name, value in variant.choices:
                found.setdefault(name, {})[value] = None
        return {name: list(values) for name, values in found.items()}


def draw(number: int, seed: int) -> GeneratedProduct:
    """Product `number`, from 1, of a seed."""
    rng = random.Random(f"{seed}:{number}")  # noqa: S311  a catalogue, not a secret
    family = rng.choice(FAMILIES)
    brand, series = rng.choice(BRANDS), rng.choice(SERIES)
    noun, quality, material = rng.choice(family.nouns), rng.choice(family.qualities), rng.choice(family.materials)
    audience = rng.choice(family.audiences) if family.audiences else ""
    words = (brand, series, str(rng.randrange(100, 1000, 10)) if rng.random() < 0.3 else "", audience, quality, noun)
    features = rng.sample(family.features, k=min(len(family.features), rng.randint(2, 3)))
    regular = _price(rng, family)
    return GeneratedProduct(
        number=number,
        title=" ".join(word for word in words if word),
        brand=brand,
        family=family,
        short=f"{quality} {noun.lower()} in {material.lower()} with {features[0]}.",
        html=_html(rng, brand, series, quality, noun, material, features),
        tags=tuple(dict.fromkeys(filter(None, (audience.rstrip("'s").lower(), quality.lower(), material.lower())))),
        material=material,
        has_sku=rng.random() < 0.95,
        published=rng.random() < 0.98,
        sale_is_over=rng.random() < 0.1,
        offer=_offer(rng, regular),
        variants=tuple(_variants(rng, number, family, regular)),
    )


def _price(rng: random.Random, family: Family) -> int:
    low, high = family.price_minor
    # Most prices lie in the lower half of a range, and end as prices do.
    return max(low, round(low + (high - low) * rng.random() ** 2) // 100 * 100 - rng.choice((1, 5, 10, 100)))


def _offer(rng: random.Random, regular: int) -> Priced:
    sale = round(regular * rng.choice((0.7, 0.75, 0.8, 0.9))) if rng.random() < 0.2 else None
    kind = rng.random()
    stock = None if kind < 0.15 else 0 if kind < 0.25 else rng.randint(1, 120)
    return Priced(
        price_minor=None if rng.random() < 0.01 else regular,
        sale_minor=sale,
        stock=stock,
        backorders=stock == 0 and rng.random() < 0.2,
    )


def _variants(rng: random.Random, number: int, family: Family, regular: int) -> Iterator[GeneratedVariant]:
    if not family.options or rng.random() < 0.25:
        return
    chosen = [(name, rng.sample(values, k=rng.randint(2, min(4, len(values))))) for name, values in family.options]
    pairs: list[tuple[tuple[str, str], ...]] = [()]
    for name, values in chosen:
        pairs = [(*pair, (name, value)) for pair in pairs for value in sorted(values, key=_order(family, name))]
    for place, pair in enumerate(pairs, 1):
        surcharge = rng.choice((0, 0, 0, 200, 500))
        yield GeneratedVariant(number=1000 * number + place, choices=pair, offer=_offer(rng, regular + surcharge))


def _order(family: Family, option: str) -> Callable[[str], int]:
    return dict(family.options)[option].index


def _html(
    rng: random.Random, brand: str, series: str, quality: str, noun: str, material: str, features: list[str]
) -> str:
    opening = rng.choice(("Meet", "Say hello to", "Made to last:", "Our favourite:"))
    items = "\n".join(f"<li>{feature[0].upper()}{feature[1:]}</li>" for feature in features)
    care = rng.choice(("Wipe clean with a damp cloth.", "Wash at 30 °C.", "Comes with a 2-year guarantee."))
    return (
        f"<p>{opening} <strong>{_escaped(brand)} {series}</strong>. {quality} {noun.lower()}, "
        f"made of {material.lower()}.</p>\n<ul>\n{items}\n</ul>\n<p>{care}</p>"
    )


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;")
