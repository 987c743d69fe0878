"""`warmpool-sandbox` as a command: its table, its errors, its exit codes."""

import json
import subprocess

import pytest
from support.unprivileged import AS_ROOT, Place


def command(place: Place, *arguments: str, root: bool = False) -> tuple[int, str, str]:
    """Runs `warmpool-sandbox` to its end: exit code, stdout, stderr."""
    home = place.home()
    if root:
        home.uid = 0
    words = [word.format(home=home) for word in arguments]
    pipe = subprocess.PIPE
    process = place.start(["-m", "warmpool_sandbox", *words], home, stdout=pipe, stderr=pipe, text=True)
    output, errors = process.communicate(timeout=30)
    return process.returncode, output, errors


SCRATCH = ("--scratch", "{home.scratch}")
SERVE = ("serve", "--pod", "p", "--port", "0", "--key-file", "{home.key_file}")


def test_the_probe_prints_a_table(sandbox_place):
    code, output, _ = command(sandbox_place, "probe")
    lines = output.splitlines()
    assert code == 0, output
    assert lines[0].startswith("Linux ")
    assert lines[-1] == "meets the floor"
    assert all(line.startswith("holds  ") for line in lines[1:-1])
    for name in ("Landlock ABI", "unprivileged user", "network: IPv4", "limits: memory", "processes: exec", "residue"):
        assert any(name in line for line in lines)


def test_the_probe_prints_json(sandbox_place):
    code, output, _ = command(sandbox_place, "probe", "--json", "--scratch", "{home.scratch}")
    report = json.loads(output)
    assert (code, report["meets_floor"]) == (0, True), output
    assert set(report) == {"meets_floor", "kernel", "machine", "python", "landlock_abi", "checks"}
    assert all(set(check) == {"name", "holds", "seen"} and check["holds"] for check in report["checks"])


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_below_the_floor_the_probe_says_so_and_exits_with_3(sandbox_place, form):
    code, output, _ = command(sandbox_place, "probe", "--min-landlock-abi", "99", *form)
    assert code == 3
    if form:
        (failed,) = [check["name"] for check in json.loads(output)["checks"] if not check["holds"]]
        assert failed == "Landlock ABI"
    else:
        assert "FAILS  Landlock ABI" in output
        assert output.endswith("BELOW THE FLOOR: the supervisor will not serve here\n")


def test_below_the_floor_it_does_not_serve(sandbox_place):
    code, output, errors = command(sandbox_place, *SERVE, "--scratch", "{home.scratch}", "--min-landlock-abi", "99")
    assert (code, output) == (3, "")
    assert "FAILS  Landlock ABI" in errors


@pytest.mark.skipif(not AS_ROOT, reason="needs to be started as root")
def test_it_does_not_serve_as_root(sandbox_place):
    code, output, errors = command(sandbox_place, *SERVE, "--scratch", "{home.scratch}", root=True)
    assert (code, output) == (3, "")
    assert "FAILS  unprivileged user" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (SERVE, "required: --scratch"),
        ((*SERVE, "--scratch", "{home.path}/missing"), "--scratch: {home.path}/missing is not a folder"),
        ((*SERVE, "--scratch", "{home.key_file}"), "--scratch: "),
        ((*SERVE, *SCRATCH, "--limits", "{{"), "--limits: "),
        ((*SERVE, *SCRATCH, "--limits", "[]"), "--limits: [] is not a JSON object"),
        ((*SERVE, *SCRATCH, "--limits", '{{"processes": 64}}'), "--limits: limits.processes: 64 is above"),
        ((*SERVE, *SCRATCH, "--limits", '{{"gpus": 1}}'), "--limits: limits.gpus: no such limit"),
        ((*SERVE, *SCRATCH, "--key-file", "{home.path}/none"), "--key-file: "),
        ((*SERVE, *SCRATCH, "--key-file", "/dev/null"), "--key-file: /dev/null holds 0 bytes, 32 are the least"),
        ((*SERVE, *SCRATCH, "--port", "many"), "--port: "),
        *[
            ((*SERVE, *SCRATCH, "--tcp-ports", ports), f"--tcp-ports: {ports} is not a list of ports, such as 443,8443")
            for ports in ("", "0", "65536", "443;80", "https", "-1")
        ],
        *[
            ((*SERVE, *SCRATCH, "--tcp-ports", f"443,{port}"), f"--tcp-ports: {port} is never open")
            for port in (53, 8888, 8889, 10250, 10255)
        ],
        ((*SERVE, *SCRATCH, "--tcp-ports", ",".join(map(str, range(1, 18)))), "--tcp-ports: 17 ports, 16 are the most"),
        ((*SERVE, *SCRATCH, "--tcp-ports", "443"), "--port and --health-port must be ports of their own"),
        ((*SERVE, *SCRATCH, "--tcp-ports", "443", "--port", "443"), "--port and --health-port must be ports of their"),
        (
            (*SERVE, *SCRATCH, "--tcp-ports", "444", "--port", "443", "--health-port", "444"),
            "--port and --health-port must be ports of their own",
        ),
        (("serve",), "required: --pod, --key-file"),
        ((), "required: command"),
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_argument_is_named_and_exits_with_2(sandbox_place, arguments, message):
    code, output, errors = command(sandbox_place, *arguments)
    assert (code, output) == (2, ""), errors
    assert message.split("{")[0] in errors
    assert "Traceback" not in errors
