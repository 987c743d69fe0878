"""`helm test`: makes an API key, runs a program through the gateway's Service, checks its answer, revokes the key."""

import json
import subprocess
import sys
import time
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

PROGRAM = "total = sum(range(10))\nreturn {'total': total}"
SECONDS = 120.0
NETWORK_SECONDS = 30.0
"""Until a network policy lets a pod through that has just started; before that its connections are refused."""
LATER = {401, 429, 502, 503, 504}
"""401: gateways know a new key within 2 seconds. 503: the pool's first pods are on their way."""


def main(address):
    wait_for_database()
    made = command("keys", "create", "--tenant", "helm-test", "--name", "helm test")
    key_id, key = made.stderr.split()[1], made.stdout.strip()
    try:
        answer = execute(address, key)
    finally:
        command("keys", "revoke", key_id)
    if answer["status"] != "ok" or answer["result"] != {"total": 45}:
        sys.exit(f"the program's answer is wrong: {json.dumps(answer)}")
    sys.stdout.write(f"a sandbox pod ran execution {answer['id']} in {answer['usage']['wall_seconds']} s\n")


def wait_for_database():
    """By a command that changes nothing, so that it can be tried again."""
    deadline = time.monotonic() + NETWORK_SECONDS
    while run("keys", "list").returncode != 0 and time.monotonic() < deadline:
        time.sleep(1)


def command(*arguments):
    ended = run(*arguments)
    if ended.returncode != 0:
        sys.exit(f"warmpool {' '.join(arguments)}: {ended.stderr or ended.stdout}")
    return ended


def run(*arguments):
    return subprocess.run(["warmpool", *arguments], capture_output=True, text=True, check=False)


def execute(address, key):
    request = Request(
        f"{address}/v1/executions",
        data=json.dumps({"code": PROGRAM}).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            with urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except HTTPError as fault:
            why = f"{fault.code} {fault.read().decode(errors='replace')}"
            if fault.code not in LATER:
                sys.exit(f"{address}: {why}")
        except (URLError, OSError) as fault:
            why = str(fault)
        if time.monotonic() > deadline:
            sys.exit(f"{address}: no answer in {SECONDS:.0f} s, at last {why}")
        time.sleep(1)


if __name__ == "__main__":
    main(sys.argv[1])
