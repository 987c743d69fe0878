-- Products by words and by meaning, fused by reciprocal rank (k = 60): a place near the top of either list
-- counts, whatever scores the two lists use. Filters stand inside each, so that a filtered search still fills up.
-- Products with some of the words are looked for only where too few have all: ranking every product that has
-- one common word is the dearest part of a search.
-- In: tenant, query, vector, max_distance, in_stock, min_price_minor, max_price_minor, currency, limit,
-- candidates (of each list). {dimensions} must be what the index over `embedding` has.
WITH asked AS MATERIALIZED (
    SELECT
        plainto_tsquery('english', %(query)s) || plainto_tsquery('simple', %(query)s) AS all_words,
        replace(plainto_tsquery('english', %(query)s)::text, ' & ', ' | ')::tsquery AS some_words
), with_all AS MATERIALIZED (
    SELECT product.id, ts_rank(product.words, asked.some_words || asked.all_words) AS rank
    FROM products AS product, asked
    WHERE product.tenant = %(tenant)s
        AND product.visible
        AND product.words @@ asked.all_words
        AND (%(in_stock)s::boolean IS NULL OR product.in_stock = %(in_stock)s)
        AND (%(min_price_minor)s::bigint IS NULL OR product.price_minor >= %(min_price_minor)s)
        AND (%(max_price_minor)s::bigint IS NULL OR product.price_minor <= %(max_price_minor)s)
        AND (%(currency)s::text IS NULL OR product.currency = %(currency)s)
    ORDER BY rank DESC, product.id
    LIMIT %(candidates)s
), with_some AS (
    SELECT product.id, ts_rank(product.words, asked.some_words) AS rank
    FROM products AS product, asked
    WHERE (SELECT count(*) FROM with_all) < %(limit)s
        AND product.tenant = %(tenant)s
        AND product.visible
        AND product.words @@ asked.some_words
        AND NOT product.words @@ asked.all_words
        AND (%(in_stock)s::boolean IS NULL OR product.in_stock = %(in_stock)s)
        AND (%(min_price_minor)s::bigint IS NULL OR product.price_minor >= %(min_price_minor)s)
        AND (%(max_price_minor)s::bigint IS NULL OR product.price_minor <= %(max_price_minor)s)
        AND (%(currency)s::text IS NULL OR product.currency = %(currency)s)
    ORDER BY rank DESC, product.id
    LIMIT %(candidates)s
), by_words AS (
    SELECT id, row_number() OVER (ORDER BY has_all DESC, rank DESC, id) AS place
    FROM (SELECT id, rank, true AS has_all FROM with_all UNION ALL SELECT id, rank, false FROM with_some)
), nearest AS MATERIALIZED (
    SELECT product.id, product.embedding::halfvec({dimensions}) <=> %(vector)s::halfvec({dimensions}) AS distance
    FROM products AS product
    WHERE product.tenant = %(tenant)s
        AND product.visible
        AND (%(in_stock)s::boolean IS NULL OR product.in_stock = %(in_stock)s)
        AND (%(min_price_minor)s::bigint IS NULL OR product.price_minor >= %(min_price_minor)s)
        AND (%(max_price_minor)s::bigint IS NULL OR product.price_minor <= %(max_price_minor)s)
        AND (%(currency)s::text IS NULL OR product.currency = %(currency)s)
    ORDER BY product.embedding::halfvec({dimensions}) <=> %(vector)s::halfvec({dimensions})
    LIMIT %(candidates)s
), by_meaning AS (
    SELECT id, row_number() OVER (ORDER BY distance, id) AS place
    FROM nearest
    WHERE distance <= %(max_distance)s
), fused AS (
    SELECT
        id,
        -- 1 for a product that leads both lists
        (coalesce(1.0 / (60 + by_words.place), 0) + coalesce(1.0 / (60 + by_meaning.place), 0)) * 61 / 2 AS score
    FROM by_words FULL JOIN by_meaning USING (id)
)
SELECT
    product.id, product.sku, product.title, product.currency, product.price_minor, product.regular_price_minor,
    product.stock, product.in_stock, product.categories, product.variant_count,
    round(fused.score, 4)::float8 AS score
FROM fused JOIN products AS product ON product.tenant = %(tenant)s AND product.id = fused.id
ORDER BY fused.score DESC, product.id
LIMIT %(limit)s
