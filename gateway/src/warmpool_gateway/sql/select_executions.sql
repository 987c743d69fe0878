-- Executions of a tenant, newest first, without their texts.
--
-- tenant, limit
-- status  NULL: any
-- id, created_at  of the last one that the caller has seen, NULL: begin with the newest
--
-- Result: at most `limit` rows.

SELECT
    id, extract(epoch FROM created_at)::double precision AS created_at, pool, queue_seconds, status,
    error::text, usage::text
FROM executions
WHERE
    tenant = %(tenant)s
    AND (%(status)s::text IS NULL OR status = %(status)s)
    AND (%(id)s::text IS NULL OR created_at <= to_timestamp(%(created_at)s))
    AND (%(id)s::text IS NULL OR (created_at, id) < (to_timestamp(%(created_at)s), %(id)s))
ORDER BY created_at DESC, id DESC
LIMIT %(limit)s
