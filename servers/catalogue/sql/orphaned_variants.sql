-- Finds each variant's product in the file and removes the variants without one. Returns: line, the parent named.
ANALYZE staged_variants;

UPDATE staged_variants AS variant
SET parent_id = (
    SELECT product.id FROM staged_products AS product WHERE product.sku = variant.parent_sku ORDER BY product.line LIMIT 1
)
WHERE variant.parent_id IS NULL;

CREATE INDEX ON staged_variants (parent_id);
ANALYZE staged_variants;

DELETE FROM staged_variants AS variant
WHERE NOT EXISTS (SELECT FROM staged_products AS product WHERE product.id = variant.parent_id)
RETURNING variant.line, coalesce(variant.parent_sku, variant.parent_id);
