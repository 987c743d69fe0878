-- Writes the tool server's records of its calls. One that is there already stays as it is.
--
-- records  text[], each the JSON of a warmpool.records.ToolAuditRecord
--
-- Result: none; the row count is the number of new ones.

INSERT INTO tool_calls (id, created_at, tenant, execution, tool, seconds, request_bytes, response_bytes, error)
SELECT id, to_timestamp(at), tenant, execution, tool, seconds, request_bytes, response_bytes, error
FROM
    unnest(%(records)b::text[]) AS batch (record),
    json_to_record(batch.record::json) AS record (
        id text, at double precision, tenant text, execution text, tool text, seconds double precision,
        request_bytes bigint, response_bytes bigint, error text
    )
ON CONFLICT DO NOTHING
