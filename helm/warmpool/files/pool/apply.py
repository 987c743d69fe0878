"""Applies the release's SandboxPool: creates it, or changes what this release says of it and nothing else.

Standard library only. Tries again for a minute where time can help: the kind may have been installed a moment ago,
the network's rules may not reach this pod yet. What the API server refuses it prints, and ends with 1.
"""

import json
import ssl
import sys
import time
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
API_SERVER = "https://kubernetes.default.svc"
SECONDS = 60.0
LATER = {404, 409, 429, 500, 502, 503, 504}


def main(file: str) -> int:
    pool = json.loads(Path(file).read_text())
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            apply(pool)
        except HTTPError as fault:
            said = fault.read().decode(errors="replace")
            if fault.code not in LATER or time.monotonic() > deadline:
                return failed(message(said))
        except (URLError, TimeoutError, OSError) as fault:
            if time.monotonic() > deadline:
                return failed(f"{API_SERVER}: {fault}")
        else:
            sys.stdout.write(f"SandboxPool {pool['metadata']['name']} is applied\n")
            return 0
        time.sleep(1)


def apply(pool):
    metadata = pool["metadata"]
    path = f"/apis/{pool['apiVersion']}/namespaces/{metadata['namespace']}/sandboxpools/{metadata['name']}"
    request = Request(
        f"{API_SERVER}{path}?fieldManager=warmpool-chart&force=true&fieldValidation=Strict",
        method="PATCH",
        data=json.dumps(pool).encode(),
        headers={
            "Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}",
            "Content-Type": "application/apply-patch+yaml",
        },
    )
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urlopen(request, timeout=10, context=context):
        pass


def message(said):
    try:
        return json.loads(said)["message"]
    except (ValueError, KeyError):
        return said


def failed(why):
    """Also into the pod's status, where `kubectl describe` shows it."""
    sys.stderr.write(f"{why}\n")
    Path("/dev/termination-log").write_text(why[:4000])
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
