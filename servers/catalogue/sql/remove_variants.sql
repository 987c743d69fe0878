-- Clears the variants of every product that was there before and is written anew. In: tenant.
DELETE FROM variants
WHERE tenant = %(tenant)s AND product_id = ANY(ARRAY(SELECT id FROM batch_written WHERE NOT created))
