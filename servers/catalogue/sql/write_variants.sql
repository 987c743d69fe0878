-- Gives every product that was written the variants of the file. In: tenant.
INSERT INTO variants (
    tenant, product_id, id, sku, title, attributes, currency, price_minor, regular_price_minor, stock, in_stock, position
)
SELECT
    %(tenant)s, staged.parent_id, staged.id, staged.sku, staged.title, staged.attributes,
    CASE WHEN staged.price_minor IS NOT NULL THEN staged.currency END,
    staged.price_minor, staged.regular_price_minor, staged.stock, staged.in_stock,
    row_number() OVER (PARTITION BY staged.parent_id ORDER BY staged.position)
FROM batch_written JOIN staged_variants AS staged ON staged.parent_id = batch_written.id
