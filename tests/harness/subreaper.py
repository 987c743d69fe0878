"""Runs a command and tells, once it has ended, what it left running; that is ended then.

    subreaper.py GRACE_SECONDS COMMAND...

The first line of output is the command's process number, the second {"code": ..., "left": [command lines]}. A
subreaper becomes the parent of whatever loses its own, in whatever session and under whatever user, so as long as it
has a child something is left, and when it has none nothing is.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    grace, command = float(sys.argv[1]), sys.argv[2:]
    # A group of its own, as a terminal's foreground job is: Ctrl-C goes to all of it, and is not ignored, as it is in
    # what a script's `&` starts and in all below that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True)
    say(process.pid)
    process.wait()
    say({"code": process.returncode, "left": left(grace)})


def say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def left(grace: float) -> list[str]:
    deadline = time.monotonic() + grace
    while has_children():
        if time.monotonic() > deadline:
            found = [command_line(pid) for pid in children()]
            end_all()
            return found
        time.sleep(0.02)
    return []


def has_children() -> bool:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def end_all() -> None:
    while has_children():
        for pid in children():
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def children() -> list[int]:
    return [int(pid) for pid in Path("/proc/self/task", str(os.getpid()), "children").read_text().split()]


def command_line(pid: int) -> str:
    return Path("/proc", str(pid), "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]


if __name__ == "__main__":
    main()
