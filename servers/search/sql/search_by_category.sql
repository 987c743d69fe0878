-- A page of the products of a category and how many there are in all. In: tenant, category (lower case),
-- in_stock, limit, offset. {order} is one of a fixed list. No row at all: nothing of that category.
SELECT
    id, sku, title, currency, price_minor, regular_price_minor, stock, in_stock, categories, variant_count,
    count(*) OVER () AS total
FROM products
WHERE tenant = %(tenant)s
    AND visible
    AND category_keys @> ARRAY[%(category)s]
    AND (%(in_stock)s::boolean IS NULL OR in_stock = %(in_stock)s)
ORDER BY {order}, id
LIMIT %(limit)s OFFSET %(offset)s
