-- Fills `batch` with the next products by line. In: tenant, after (line), size.
-- A product with variants costs what its cheapest one costs, and is in stock if one of them is.
-- LATERAL makes each lookup one by index: joins of tables that nobody has analysed yet would read all of them.
WITH chosen AS MATERIALIZED (
    SELECT * FROM staged_products WHERE line > %(after)s ORDER BY line LIMIT %(size)s
), complete AS MATERIALIZED (
    SELECT
        chosen.line, chosen.id, chosen.sku, chosen.title, chosen.description, chosen.vendor, chosen.categories,
        chosen.category_keys, chosen.tags, chosen.attributes,
        coalesce(summed.currency, chosen.currency) AS currency,
        CASE WHEN summed.number = 0 THEN chosen.price_minor ELSE summed.price_minor END AS price_minor,
        CASE WHEN summed.number = 0 THEN chosen.regular_price_minor ELSE summed.regular_price_minor END
            AS regular_price_minor,
        coalesce(chosen.stock, summed.stock) AS stock,
        coalesce(summed.in_stock, chosen.in_stock) AS in_stock,
        chosen.visible, chosen.search_text, chosen.text_hash,
        summed.number AS variant_count,
        coalesce(summed.skus, '') AS variant_skus,
        summed.everything
    FROM chosen CROSS JOIN LATERAL (
        SELECT
            count(*) AS number,
            (array_agg(variant.currency ORDER BY variant.price_minor NULLS LAST, variant.position))[1] AS currency,
            min(variant.price_minor) AS price_minor,
            (array_agg(variant.regular_price_minor ORDER BY variant.price_minor NULLS LAST, variant.position))[1]
                AS regular_price_minor,
            CASE WHEN bool_and(variant.stock IS NOT NULL) THEN sum(variant.stock) END AS stock,
            bool_or(variant.in_stock) AS in_stock,
            string_agg(variant.sku, ' ' ORDER BY variant.position) AS skus,
            string_agg(
                ROW(
                    variant.id, variant.sku, variant.title, variant.attributes, variant.currency, variant.price_minor,
                    variant.regular_price_minor, variant.stock, variant.in_stock
                )::text,
                ',' ORDER BY variant.position
            ) AS everything
        FROM staged_variants AS variant
        WHERE variant.parent_id = chosen.id
    ) AS summed
)
INSERT INTO batch
SELECT
    complete.line, complete.id, complete.sku, complete.title, complete.description, complete.vendor,
    complete.categories, complete.category_keys, complete.tags, complete.attributes,
    complete.currency, complete.price_minor, complete.regular_price_minor, complete.stock, complete.in_stock,
    complete.visible, complete.search_text, complete.text_hash, complete.variant_count,
    complete.variant_skus,
    sha256(convert_to(
        ROW(
            complete.sku, complete.title, complete.description, complete.vendor, complete.categories, complete.tags,
            complete.attributes, complete.currency, complete.price_minor, complete.regular_price_minor, complete.stock,
            complete.in_stock, complete.visible, complete.text_hash, complete.everything
        )::text,
        'UTF8'
    )),
    known.text_hash IS DISTINCT FROM complete.text_hash
FROM complete LEFT JOIN LATERAL (
    SELECT product.text_hash FROM products AS product
    WHERE product.tenant = %(tenant)s AND product.id = complete.id
    LIMIT 1
) AS known ON true
