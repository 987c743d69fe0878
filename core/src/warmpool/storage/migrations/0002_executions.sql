-- The audit trail (executions and tool calls, a partition a day) and the API keys.
-- JSON is `json`, not `jsonb`: what a program returned is kept to the byte, NUL escapes and long integers included.

CREATE TABLE executions (
    id text COLLATE "C" NOT NULL,       -- exe_ and 32 hex digits; the first 12 are milliseconds, so it sorts by time
    created_at timestamptz NOT NULL,    -- exactly those milliseconds
    tenant text NOT NULL,
    key_id text NOT NULL,               -- the API key that asked
    pool text NOT NULL,
    pod text,                           -- NULL: it never got one
    fence bigint,
    queue_seconds double precision NOT NULL,
    code text NOT NULL,
    code_sha256 text NOT NULL,
    status text NOT NULL,
    result json,
    stdout text NOT NULL,
    stderr text NOT NULL,
    truncated text[] NOT NULL,          -- the streams of which not everything was kept
    error json,
    limits json NOT NULL,
    usage json NOT NULL,
    clean boolean,                      -- NULL: nobody could say
    residue text[] NOT NULL,
    tool_calls json NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id, created_at)
) PARTITION BY RANGE (created_at);

CREATE INDEX executions_newest ON executions (tenant, created_at DESC, id DESC);
CREATE INDEX executions_newest_of_status ON executions (tenant, status, created_at DESC, id DESC);

-- As the tool server saw them; `executions.tool_calls` is how the gateway did.
CREATE TABLE tool_calls (
    id text NOT NULL,
    created_at timestamptz NOT NULL,    -- when the call ended
    tenant text NOT NULL,
    execution text NOT NULL,
    tool text NOT NULL,
    seconds double precision NOT NULL,
    request_bytes bigint NOT NULL,
    response_bytes bigint NOT NULL,
    error text,                         -- its code; NULL: it went well
    PRIMARY KEY (id, created_at)
) PARTITION BY RANGE (created_at);

CREATE INDEX tool_calls_execution ON tool_calls (execution);

-- Makes the partitions of `days` days from `first` on (UTC) where they are missing; returns how many it made.
CREATE FUNCTION add_day_partitions(parent text, first date, days int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    day date;
    made int := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('warmpool: day partitions'));
    FOR day IN SELECT first + n FROM generate_series(0, days - 1) AS n LOOP
        IF to_regclass(quote_ident(parent || to_char(day, '_YYYYMMDD'))) IS NULL THEN
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                parent || to_char(day, '_YYYYMMDD'), parent,
                day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC'
            );
            made := made + 1;
        END IF;
    END LOOP;
    RETURN made;
END $$;

-- Drops the partitions of days before `kept`; returns how many it dropped.
CREATE FUNCTION drop_day_partitions(parent text, kept date) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    partition text;
    dropped int := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('warmpool: day partitions'));
    FOR partition IN
        SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = to_regclass(quote_ident(parent)) AND relname < parent || to_char(kept, '_YYYYMMDD')
    LOOP
        EXECUTE format('DROP TABLE %I', partition);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;

SELECT add_day_partitions('executions', (now() AT TIME ZONE 'UTC')::date, 2);
SELECT add_day_partitions('tool_calls', (now() AT TIME ZONE 'UTC')::date, 2);

CREATE TABLE api_keys (
    id text PRIMARY KEY,
    tenant text NOT NULL,
    name text NOT NULL,
    mac bytea NOT NULL,                 -- HMAC-SHA256 of the secret under the pepper, which is not in the database
    weight int NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 100),  -- turns of the tenant in the queue
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked_at timestamptz
);
