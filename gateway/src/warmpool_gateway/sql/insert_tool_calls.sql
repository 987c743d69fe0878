-- Writes the tool server's records of its calls. One whose entry is there already stays as it is.
--
-- entries  text[], the ids of the audit stream's entries: milliseconds, a dash, a number
-- records  text[], each a JSON object {tenant, execution, tool, seconds, bytes, error}
--
-- Result: none; the row count is the number of new ones.

INSERT INTO tool_calls (entry, created_at, tenant, execution, tool, seconds, bytes, error)
SELECT
    batch.entry, to_timestamp(split_part(batch.entry, '-', 1)::bigint / 1000.0),
    record.tenant, record.execution, record.tool, record.seconds, record.bytes, record.error
FROM
    unnest(%(entries)b::text[], %(records)b::text[]) AS batch (entry, record),
    json_to_record(batch.record::json) AS record (
        tenant text, execution text, tool text, seconds double precision, bytes bigint, error text
    )
ON CONFLICT DO NOTHING
