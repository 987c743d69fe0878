-- Writes execution records. A record that is there already stays as it is.
--
-- records  text[], each the JSON of a warmpool.records.ExecutionRecord
--
-- Result: none; the row count is the number of new ones.

INSERT INTO executions (
    id, created_at, tenant, key_id, pool, pod, fence, queue_seconds, code, code_sha256, status, result,
    stdout, stderr, truncated, error, limits, usage, clean, residue, tool_calls
)
SELECT
    id, to_timestamp(created_at), tenant, key_id, pool, pod, fence, queue_seconds, code, code_sha256, status,
    result::json, stdout, stderr, truncated, error::json, limits, usage, clean, residue, tool_calls
FROM
    unnest(%(records)b::text[]) AS batch (record),
    json_to_record(batch.record::json) AS record (
        id text, created_at double precision, tenant text, key_id text, pool text, pod text, fence bigint,
        queue_seconds double precision, code text, code_sha256 text, status text, result text,
        stdout text, stderr text, truncated text[], error text, limits json, usage json, clean boolean,
        residue text[], tool_calls json
    )
ON CONFLICT DO NOTHING
