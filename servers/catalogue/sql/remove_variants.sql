-- Clears the variants of every product that was there before and is written anew. In: tenant.
DELETE FROM variants AS variant
USING batch_written
WHERE variant.tenant = %(tenant)s AND variant.product_id = batch_written.id AND NOT batch_written.created
