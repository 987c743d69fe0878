"""What a failed test leaves for whoever asks why: events, the state of pods and pools, the logs that matter."""

import asyncio
import json
from pathlib import Path
from typing import Any, Final

from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException

from k8s.cluster import Cluster, Pools, connected, is_ready
from k8s.release import PREFIX

FOLDER: Final = Path(__file__).parents[3] / ".cache" / "e2e"
SECONDS: Final = 30.0
LOG_LINES: Final = 2000
EVENTS_SHOWN: Final = 15


def collect(test: str, failure: str) -> str:
    """Fills the test's folder. Returns a summary with its path; never raises."""
    folder = FOLDER / "".join(letter if letter.isalnum() or letter in "_-." else "_" for letter in test)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "failure.txt").write_text(failure)
    try:
        return f"{asyncio.run(asyncio.wait_for(_collect(folder), SECONDS))}\nall of it: {folder}"
    except Exception as fault:  # the test's own failure is what must be seen
        return f"nothing more could be collected: {type(fault).__name__}: {fault}\nwhat there is: {folder}"


async def _collect(folder: Path) -> str:
    async with connected() as cluster:
        found = await cluster.core.list_namespace()
        names = [item.metadata.name for item in found.items if item.metadata.name.startswith(PREFIX)]
        events = [event for name in names for event in await cluster.events(name)]
        pods = [pod for name in names for pod in await cluster.pods(name)]
        pools = [pool for name in names for pool in await _pools(cluster, name)]
        told = [_event(event) for event in sorted(events, key=_when)]
        states = [_state(pod) for pod in pods]
        _write(folder / "events.txt", told)
        _write(folder / "pods.txt", states)
        (folder / "pools.json").write_text(json.dumps(pools, indent=2))
        for pod in pods:
            await _logs(cluster, pod, folder / pod.metadata.namespace)
    lame = [state for pod, state in zip(pods, states, strict=True) if not is_ready(pod)]
    warnings = [line for line in told if " Warning " in line][-EVENTS_SHOWN:]
    conditions = [f"{pool['metadata']['name']}: {_conditions(pool)}" for pool in pools]
    return "\n".join(["pools:", *conditions, "pods that are not ready:", *lame, "last warnings:", *warnings])


async def _pools(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    try:
        pools = Pools(cluster, namespace)
        return [await pools.get(name) for name in await pools.names()]
    except ApiException:  # there is no such kind yet
        return []


def _conditions(pool: dict[str, Any]) -> str:
    conditions = pool.get("status", {}).get("conditions", [])
    return "; ".join(f"{c['type']}={c['status']} {c.get('reason')} {c.get('message', '')}" for c in conditions)


async def _logs(cluster: Cluster, pod: client.V1Pod, folder: Path) -> None:
    for status in pod.status.container_statuses or []:
        for previous in [False] + [True] * bool(status.restart_count):
            try:
                text = await cluster.core.read_namespaced_pod_log(
                    pod.metadata.name, pod.metadata.namespace, container=status.name,
                    previous=previous, tail_lines=LOG_LINES,
                )  # fmt: skip
            except ApiException as fault:
                text = f"no log: {fault.status} {fault.reason}"
            end = ".previous.log" if previous else ".log"
            _write(folder / f"{pod.metadata.name}.{status.name}{end}", [text or ""])


def _state(pod: client.V1Pod) -> str:
    """One line, with why its containers wait or ended."""
    said = [f"{pod.metadata.namespace}/{pod.metadata.name}", pod.status.phase, "ready" if is_ready(pod) else "unready"]
    if pod.metadata.deletion_timestamp:
        said.append("terminating")
    for status in pod.status.container_statuses or []:
        for when, state in (("now", status.state), ("before", status.last_state)):
            if state and state.waiting:
                said.append(f"{when}: waits: {state.waiting.reason} {state.waiting.message or ''}")
            if state and state.terminated:
                ended = state.terminated
                said.append(f"{when}: ended: {ended.reason} {ended.exit_code} {ended.message or ''}")
        said.append(f"restarts {status.restart_count}")
    said += [f"{c.type}={c.status} {c.message or ''}" for c in pod.status.conditions or [] if c.status != "True"]
    return "  ".join(said)


def _event(event: client.CoreV1Event) -> str:
    about = event.involved_object
    return f"{_when(event)} {event.type} {event.reason} {about.kind} {about.namespace}/{about.name}: {event.message}"


def _when(event: client.CoreV1Event) -> str:
    return str(event.last_timestamp or event.event_time or event.metadata.creation_timestamp)


def _write(file: Path, lines: list[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")
