-- Removes every product whose id an earlier line has. Returns: line, id, the line that stays.
CREATE INDEX ON staged_products (id, line);
CREATE INDEX ON staged_products (sku);
CREATE INDEX ON staged_products (line);
ANALYZE staged_products;

WITH first AS (
    SELECT id, min(line) AS line, count(*) AS times FROM staged_products GROUP BY id
)
DELETE FROM staged_products AS product
USING first
WHERE first.times > 1 AND product.id = first.id AND product.line > first.line
RETURNING product.line, product.id, first.line;
