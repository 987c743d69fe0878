"""The gateway's metrics, in one list. Labels are bounded: never an id, never what a caller chose freely."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

LEASE_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
RUN_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

executions = Counter("warmpool_executions", "Executions that ended, by status.", ["pool", "status"])
refusals = Counter("warmpool_refusals", "Executions that were refused before they got a pod.", ["pool", "reason"])
lease_wait = Histogram(
    "warmpool_lease_wait_seconds", "From the request's arrival to its pod.", ["pool"], buckets=LEASE_SECONDS
)
run_time = Histogram(
    "warmpool_execution_seconds", "From pod to outcome, as the gateway saw it.", ["pool"], buckets=RUN_SECONDS
)
not_started = Counter("warmpool_not_started", "Programs that a pod provably did not start.", ["pool", "reason"])
waiting = Gauge("warmpool_waiting", "Callers in wait for a pod.", ["pool"])
in_flight = Gauge("warmpool_in_flight", "Executions accepted and not answered yet.", ["pool"])
pods = Gauge("warmpool_pods", "Pods by state, as last counted.", ["pool", "state"])
tool_calls = Counter("warmpool_gateway_tool_calls", "Tool calls relayed, by outcome.", ["outcome"])

chats = Counter("warmpool_chats", "Chats by how they ended; `error` is a problem document.", ["outcome"])
chat_time = Histogram("warmpool_chat_seconds", "From question to answer.", buckets=RUN_SECONDS)
chat_tokens = Counter(
    "warmpool_chat_tokens",
    "Tokens as the model's API counted them; `cached` is part of `prompt`, `reasoning` of `completion`.",
    ["turn", "kind"],
)

audit_backlog = Gauge("warmpool_audit_backlog", "Records in Redis that are not in Postgres yet.")
audit_written = Counter("warmpool_audit_written", "Records written to Postgres.", ["kind"])
audit_dead = Counter("warmpool_audit_dead", "Records that Postgres will never take, put aside.")
audit_failures = Counter("warmpool_audit_failures", "Attempts to move records that failed.", ["store"])
settlements_late = Counter("warmpool_settlements_late", "Leases and records that Redis did not take at once.")
settlements_lost = Counter("warmpool_settlements_lost", "Records that Redis never took; they are in the log.")

requests = Counter("warmpool_http_requests", "Requests by route and answer.", ["route", "code"])
request_time = Histogram(
    "warmpool_http_request_seconds", "From the request's head to the answer's end.", ["route"], buckets=RUN_SECONDS
)
