"""Generated products as the shops' own exporters write them, oddities included.

HTML with quoted line ends, empty prices, sales that are over, variations before their parents, rows that
carry an image only.
"""

import csv
import json
from collections.abc import Callable, Iterator
from typing import Any, Final, TextIO

from servers.catalogue.drawing import GeneratedProduct, GeneratedVariant, Priced
from servers.catalogue.importer import Format
from servers.money import exponent, to_text

WOOCOMMERCE: Final = (
    "ID", "Type", "SKU", "GTIN, UPC, EAN, or ISBN", "Name", "Published", "Is featured?", "Visibility in catalog",
    "Short description", "Description", "Date sale price starts", "Date sale price ends", "Tax status", "Tax class",
    "In stock?", "Stock", "Low stock amount", "Backorders allowed?", "Sold individually?", "Weight (kg)", "Length (cm)",
    "Width (cm)", "Height (cm)", "Allow customer reviews?", "Purchase note", "Sale price", "Regular price",
    "Categories", "Tags", "Shipping class", "Images", "Download limit", "Download expiry days", "Parent",
    "Grouped products", "Upsells", "Cross-sells", "External URL", "Button text", "Position",
    "Attribute 1 name", "Attribute 1 value(s)", "Attribute 1 visible", "Attribute 1 global",
    "Attribute 2 name", "Attribute 2 value(s)", "Attribute 2 visible", "Attribute 2 global",
    "Attribute 3 name", "Attribute 3 value(s)", "Attribute 3 visible", "Attribute 3 global",
)  # fmt: skip


def _write_woocommerce(out: TextIO, products: Iterator[GeneratedProduct], currency: str) -> None:
    writer = csv.DictWriter(out, WOOCOMMERCE, restval="", lineterminator="\n")
    writer.writeheader()
    for product in products:
        parent = _woocommerce_product(product, currency)
        variations = [_woocommerce_variation(product, variant, currency) for variant in product.variants]
        # Exports sorted by another column than the ID put some children first.
        writer.writerows([*variations, parent] if product.number % 10 == 3 else [parent, *variations])


def _woocommerce_product(product: GeneratedProduct, currency: str) -> dict[str, str]:
    attributes = {**product.options(), "Material": [product.material]}
    return {
        "ID": str(product.id),
        "Type": "variable" if product.variants else "simple",
        "SKU": product.sku,
        "Name": product.title,
        "Published": "1" if product.published else "-1",
        "Is featured?": "0",
        "Visibility in catalog": "visible",
        "Short description": product.short,
        # The exporter writes line ends as two characters; files that went through an editor hold real ones.
        "Description": product.html.replace("\n", "\\n") if product.number % 2 else product.html,
        "Categories": ", ".join(
            [product.family.path.replace(",", "\\,"), *(["Sale"] if product.offer.sale_minor else [])]
        ),
        "Tags": ", ".join(product.tags),
        "Images": f"https://shop.example/images/{product.handle}.jpg",
        **_woocommerce_attributes(attributes),
        **(_woocommerce_shared() if product.variants else _woocommerce_offer(product, product.offer, currency)),
    }


def _woocommerce_variation(product: GeneratedProduct, variant: GeneratedVariant, currency: str) -> dict[str, str]:
    values = [value for _, value in variant.choices]
    return {
        "ID": str(variant.number),
        "Type": "variation",
        "SKU": f"{product.sku}-{variant.number % 1000}" if product.sku else "",
        "Name": f"{product.title} - {', '.join(values)}",
        "Published": "1",
        "Is featured?": "0",
        "Visibility in catalog": "visible",
        "Parent": product.sku or f"id:{product.id}",
        "Position": str(variant.number % 1000),
        **_woocommerce_attributes({name: [value] for name, value in variant.choices}),
        **_woocommerce_offer(product, variant.offer, currency),
    }


def _woocommerce_shared() -> dict[str, str]:
    return {"Tax status": "taxable", "In stock?": "1", "Backorders allowed?": "0", "Sold individually?": "0"}


def _woocommerce_offer(product: GeneratedProduct, offer: Priced, currency: str) -> dict[str, str]:
    over = product.sale_is_over and offer.sale_minor is not None
    return _woocommerce_shared() | {
        "In stock?": "backorder" if offer.backorders else "0" if offer.stock == 0 else "1",
        "Stock": "" if offer.stock is None else str(offer.stock),
        "Backorders allowed?": "notify" if offer.backorders else "0",
        "Date sale price starts": "2020-01-01 0:00:00" if over else "",
        "Date sale price ends": "2020-01-31 23:59:59" if over else "",
        "Sale price": _amount(offer.sale_minor, currency),
        "Regular price": _amount(offer.price_minor, currency),
    }


def _woocommerce_attributes(attributes: dict[str, list[str]]) -> dict[str, str]:
    cells: dict[str, str] = {}
    for place, (name, values) in enumerate(attributes.items(), 1):
        cells[f"Attribute {place} name"] = name
        cells[f"Attribute {place} value(s)"] = ", ".join(value.replace(",", "\\,") for value in values)
        cells[f"Attribute {place} visible"] = "1"
        cells[f"Attribute {place} global"] = "1"
    return cells


SHOPIFY: Final = (
    "Handle", "Title", "Body (HTML)", "Vendor", "Product Category", "Type", "Tags", "Published",
    "Option1 Name", "Option1 Value", "Option2 Name", "Option2 Value", "Option3 Name", "Option3 Value",
    "Variant SKU", "Variant Grams", "Variant Inventory Tracker", "Variant Inventory Qty", "Variant Inventory Policy",
    "Variant Fulfillment Service", "Variant Price", "Variant Compare At Price", "Variant Requires Shipping",
    "Variant Taxable", "Variant Barcode", "Image Src", "Image Position", "Image Alt Text", "Gift Card", "SEO Title",
    "SEO Description", "Variant Image", "Variant Weight Unit", "Variant Tax Code", "Cost per item", "Status",
)  # fmt: skip


def _write_shopify(out: TextIO, products: Iterator[GeneratedProduct], currency: str) -> None:
    writer = csv.DictWriter(out, SHOPIFY, restval="", lineterminator="\n")
    writer.writeheader()
    for product in products:
        rows = [_shopify_variant(product, variant, place, currency) for place, variant in enumerate(product.variants)]
        rows = rows or [_shopify_single(product, currency)]
        rows[0] |= _shopify_product(product)
        writer.writerows([*rows, *_shopify_images(product)])


def _shopify_product(product: GeneratedProduct) -> dict[str, str]:
    return {
        "Title": product.title,
        "Body (HTML)": product.html,
        "Vendor": product.brand,
        "Product Category": product.family.path,
        "Type": product.family.path.split(" > ")[-1],
        "Tags": ", ".join(product.tags),
        "Published": "true" if product.published else "false",
        "Image Src": f"https://shop.example/images/{product.handle}.jpg",
        "Image Position": "1",
        "Gift Card": "false",
        "Status": "active" if product.published else "draft",
    }


def _shopify_single(product: GeneratedProduct, currency: str) -> dict[str, str]:
    default = {"Option1 Name": "Title", "Option1 Value": "Default Title", "Variant SKU": product.sku}
    return default | _shopify_offer(product, product.offer, currency)


def _shopify_variant(product: GeneratedProduct, variant: GeneratedVariant, place: int, currency: str) -> dict[str, str]:
    cells = {f"Option{n} Value": value for n, (_, value) in enumerate(variant.choices, 1)}
    if place == 0:
        cells |= {f"Option{n} Name": name for n, (name, _) in enumerate(variant.choices, 1)}
    sku = f"{product.sku}-{variant.number % 1000}" if product.sku else ""
    return cells | {"Variant SKU": sku} | _shopify_offer(product, variant.offer, currency)


def _shopify_offer(product: GeneratedProduct, offer: Priced, currency: str) -> dict[str, str]:
    on_sale = offer.sale_minor is not None and offer.price_minor is not None and not product.sale_is_over
    return {
        "Handle": product.handle,
        "Variant Inventory Tracker": "" if offer.stock is None else "shopify",
        "Variant Inventory Qty": "" if offer.stock is None else str(offer.stock),
        "Variant Inventory Policy": "continue" if offer.backorders else "deny",
        "Variant Fulfillment Service": "manual",
        "Variant Price": _amount(offer.sale_minor if on_sale else offer.price_minor, currency),
        "Variant Compare At Price": _amount(offer.price_minor, currency) if on_sale else "",
        "Variant Requires Shipping": "true",
        "Variant Taxable": "true",
        "Variant Weight Unit": "kg",
    }


def _shopify_images(product: GeneratedProduct) -> Iterator[dict[str, str]]:
    """Rows that carry nothing but a further image."""
    if product.number % 7 == 0:
        image = f"https://shop.example/images/{product.handle}-2.jpg"
        yield {"Handle": product.handle, "Image Src": image, "Image Position": "2"}


def _write_jsonl(out: TextIO, products: Iterator[GeneratedProduct], currency: str) -> None:
    for product in products:
        out.write(json.dumps(_json_product(product, currency), ensure_ascii=False) + "\n")


def _json_product(product: GeneratedProduct, currency: str) -> dict[str, Any]:
    variants = [
        {
            "id": str(variant.number),
            "sku": f"{product.sku}-{variant.number % 1000}" if product.sku else None,
            "attributes": dict(variant.choices),
            **_json_offer(product, variant.offer, currency),
        }
        for variant in product.variants
    ]
    return {
        "id": str(product.id),
        "sku": product.sku or None,
        "title": product.title,
        "description": product.html,
        "vendor": product.brand,
        "currency": currency,
        "categories": [product.family.path],
        "tags": list(product.tags),
        "attributes": {"Material": [product.material]},
        "visible": product.published,
        "variants": variants,
        **({} if variants else _json_offer(product, product.offer, currency)),
    }


def _json_offer(product: GeneratedProduct, offer: Priced, currency: str) -> dict[str, Any]:
    on_sale = offer.sale_minor is not None and offer.price_minor is not None and not product.sale_is_over
    return {
        "price": _amount(offer.sale_minor if on_sale else offer.price_minor, currency) or None,
        "regular_price": _amount(offer.price_minor, currency) if on_sale else None,
        "stock": offer.stock,
        "in_stock": offer.stock is None or offer.stock > 0 or offer.backorders,
    }


def _amount(minor: int | None, currency: str) -> str:
    """The families' prices have two decimals; a currency with others gets about the same number of units."""
    if minor is None:
        return ""
    return to_text(minor if exponent(currency) else minor // 100, currency)


WRITERS: Final[dict[Format, Callable[[TextIO, Iterator[GeneratedProduct], str], None]]] = {
    "woocommerce-csv": _write_woocommerce,
    "shopify-csv": _write_shopify,
    "jsonl": _write_jsonl,
}
