"""The pieces that the stand-in's programs are made of; `$names` are filled in by `program`."""

from collections.abc import Mapping
from typing import Final

from warmpool.local.standin.question import Aim

TEXT: Final = """\
def text(product):
    return " ".join(["", product["title"], *product["categories"]]).lower()
"""
"""Begins with a blank, so that `" lamp"` is the beginning of a word: a headlamp is no lamp."""

PRICE: Final = """\
def price(product):
    return Decimal(product["price"]["amount"])
"""

BRIEF: Final = """\
def brief(product):
    cost = product["price"]
    return {
        "title": product["title"],
        "sku": product["sku"],
        "price": f"{cost['amount']} {cost['currency']}" if cost else None,
        "in_stock": product["in_stock"],
    }
"""

IN_CATEGORY: Final = """\
def in_category(name, **filters):
    page = search_by_category(name, limit=200, **filters)
    found = page["products"]
    for offset in range(200, min(page["total"], 5000), 200):
        found += search_by_category(name, limit=200, offset=offset, **filters)["products"]
    return found
"""

FOUND: Final = """\
found = $found
"""

LIST: Final = """\
return {"products": [brief(product) for product in found[:$top]]}
"""

COUNT: Final = """\
hits = $call
found = [product for product in hits if $condition]
return {"found": len(found), "complete": len(hits) < $most}
"""
"""A search that fills its limit may have left products out."""

COUNT_FOUND: Final = (
    FOUND
    + """\
return {"found": len(found)}
"""
)

COUNT_TOTAL: Final = """\
page = $call
return {"found": page["total"]}
"""

INSTEAD: Final = """\
found = $found
return {"instead": True, "products": [brief(product) for product in found]}
"""
"""After another program failed."""

CHEAPEST: Final = """\
priced = sorted((product for product in found if product["price"]), key=price)
return {"found": len(priced), "products": [brief(product) for product in priced[:$top]]}
"""

DEAREST: Final = CHEAPEST.replace("key=price)", "key=price, reverse=True)")

AVERAGE: Final = """\
prices = [product["price"] for product in found if product["price"]]
if not prices:
    return {"found": 0}
currency = prices[0]["currency"]
amounts = [Decimal(one["amount"]) for one in prices if one["currency"] == currency]
return {
    "found": len(amounts),
    "average": f"{sum(amounts) / len(amounts):.2f} {currency}",
    "lowest": f"{min(amounts)} {currency}",
    "highest": f"{max(amounts)} {currency}",
}
"""

BY_CATEGORY: Final = """\
categories = Counter(category for product in found for category in product["categories"])
return {"found": len(found), "categories": dict(categories.most_common($top))}
"""

WORTH_CARELESS: Final = """\
worth = sum(product["price"] * product["stock"] for product in found)
return {"found": len(found), "worth": worth}
"""
"""Takes the price, which is a record or None, for a number: the mistake whose repair can be watched."""

WORTH: Final = """\
known = [product for product in found if product["price"] and product["stock"] is not None]
if not known:
    return {"found": 0}
currency = known[0]["price"]["currency"]
known = [product for product in known if product["price"]["currency"] == currency]
worth = sum(price(product) * product["stock"] for product in known)
return {"found": len(known), "worth": f"{worth} {currency}", "left_out": len(found) - len(known)}
"""

COMPARE: Final = """\
def summary(query, words):
    found = $found
    prices = sorted(price(product) for product in found if product["price"])
    return {
        "found": len(found),
        "in_stock": sum(product["in_stock"] for product in found),
        "lowest": str(prices[0]) if prices else None,
        "median": str(prices[len(prices) // 2]) if prices else None,
        "highest": str(prices[-1]) if prices else None,
    }


return {
    $subject: summary($subject, $words),
    $other: summary($other, $other_words),
}
"""

DETAILS: Final = """\
product = get_product_details($sku)
return brief(product) | {
    "stock": product["stock"],
    "categories": product["categories"],
    "variants": product["variant_count"],
    "description": product["description"][:300],
}
"""

ENDS: Final[Mapping[Aim, str]] = {
    Aim.COUNT: COUNT_FOUND,
    Aim.CHEAPEST: FOUND + CHEAPEST,
    Aim.DEAREST: FOUND + DEAREST,
    Aim.AVERAGE: FOUND + AVERAGE,
    Aim.BY_CATEGORY: FOUND + BY_CATEGORY,
    Aim.COMPARE: COMPARE,
    Aim.WORTH: FOUND + WORTH_CARELESS,
    Aim.DETAILS: DETAILS,
    Aim.LIST: FOUND + LIST,
}
