-- Writes what is new or different in `batch` and notes it in `batch_written`. In: tenant.
WITH written AS (
    INSERT INTO products (
        tenant, id, sku, title, description, vendor, categories, category_keys, tags, attributes, currency,
        price_minor, regular_price_minor, stock, in_stock, visible, variant_count, words, embedding, text_hash, row_hash
    )
    SELECT
        %(tenant)s, batch.id, batch.sku, batch.title, batch.description, batch.vendor, batch.categories,
        batch.category_keys, batch.tags, batch.attributes,
        CASE WHEN batch.price_minor IS NOT NULL THEN batch.currency END,
        batch.price_minor, batch.regular_price_minor, batch.stock, batch.in_stock, batch.visible, batch.variant_count,
        setweight(to_tsvector('english', batch.title), 'A')
            || setweight(to_tsvector('simple', coalesce(batch.sku, '') || ' ' || batch.variant_skus), 'A')
            || setweight(to_tsvector('english', array_to_string(batch.categories || batch.tags, ' ')), 'B')
            || setweight(to_tsvector('english', coalesce(batch.vendor, '') || ' ' || batch.attributes::text), 'C')
            -- a tsvector holds 1 MB at most
            || setweight(to_tsvector('english', left(batch.description, 100000)), 'D'),
        coalesce(batch_embeddings.embedding::halfvec, known.embedding),
        batch.text_hash, batch.row_hash
    FROM batch
    LEFT JOIN batch_embeddings USING (id)
    LEFT JOIN LATERAL (
        SELECT product.row_hash, product.embedding FROM products AS product
        WHERE product.tenant = %(tenant)s AND product.id = batch.id
        LIMIT 1
    ) AS known ON true
    WHERE known.row_hash IS DISTINCT FROM batch.row_hash
    ON CONFLICT (tenant, id) DO UPDATE SET
        sku = excluded.sku, title = excluded.title, description = excluded.description, vendor = excluded.vendor,
        categories = excluded.categories, category_keys = excluded.category_keys, tags = excluded.tags,
        attributes = excluded.attributes, currency = excluded.currency, price_minor = excluded.price_minor,
        regular_price_minor = excluded.regular_price_minor, stock = excluded.stock, in_stock = excluded.in_stock,
        visible = excluded.visible, variant_count = excluded.variant_count, words = excluded.words,
        embedding = excluded.embedding, text_hash = excluded.text_hash, row_hash = excluded.row_hash,
        imported_at = now()
    -- An updated row carries the updating transaction in xmax; a new one has none.
    RETURNING id, xmax = 0 AS created
)
INSERT INTO batch_written SELECT id, created FROM written
