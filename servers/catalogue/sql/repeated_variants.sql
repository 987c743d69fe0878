-- Removes every variant whose id an earlier one of its product has. Returns: line, id, the line that stays.
WITH ranked AS (
    SELECT
        position,
        first_value(line) OVER earlier AS first_line,
        row_number() OVER earlier AS place
    FROM staged_variants
    WINDOW earlier AS (PARTITION BY parent_id, id ORDER BY position)
)
DELETE FROM staged_variants AS variant
USING ranked
WHERE ranked.place > 1 AND variant.position = ranked.position
RETURNING variant.line, variant.id, ranked.first_line;
