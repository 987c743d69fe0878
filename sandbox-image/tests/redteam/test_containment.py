"""Every attack of the table, in the real child: held behind all walls, and getting through where its wall is down."""

from pathlib import Path

import pytest
from redteam.conftest import SiteOf
from redteam.site import Seen
from redteam.table import Attack, Trial, load
from support.network import can_separate
from support.unprivileged import can_mount

from warmpool.protocol import Status
from warmpool_sandbox import kernel

ATTACKS = load()
WAYS = [pytest.param(attack, scratch, id=f"{attack.id}-{scratch}") for attack in ATTACKS for scratch in attack.scratch]
BREAKABLE = [way for way in WAYS if way.values[0].as_in is None]
LAYERED = [
    pytest.param(attack, wall, id=f"{attack.id}-{wall}")
    for attack in ATTACKS
    if attack.by_kernel and len(attack.walls) > 1
    for wall in attack.alone or attack.walls
]


def run(site_of: SiteOf, attack: Attack, trial: Trial, scratch: str, *, validate: bool = False) -> Seen:
    if attack.machine not in (None, kernel.MACHINE):
        pytest.skip(f"machine code for {attack.machine}, and this is {kernel.MACHINE}")
    if scratch == "tmpfs" and not can_mount():
        pytest.skip("no right to mount, which a file system of its own for scratch needs")
    if trial.tcp and not can_separate():
        pytest.skip("no right to a network namespace, which a network profile counts on")
    return site_of(trial, scratch).attack(trial, validate=validate)


def has_outer_filter() -> bool:
    return "Seccomp:\t2" in Path("/proc/self/status").read_text()


def assert_shows(seen: Seen, trial: Trial) -> None:
    error = seen.outcome.error.message if seen.outcome.error else ""
    assert trial.evidence_fits(seen.evidence), f"{seen.evidence} {error} {seen.outcome.stderr.text}"
    if seen.outcome.status is not Status.OK:
        assert trial.says in error


def assert_nothing_is_left(seen: Seen) -> None:
    assert seen.outcome.clean, seen.outcome.residue
    assert_usable(seen)


def assert_usable(seen: Seen) -> None:
    assert (seen.next_outcome.status, seen.next_outcome.value, seen.next_outcome.clean) == (Status.OK, 2, True)
    assert seen.strays == []
    assert seen.descriptors == 0


@pytest.mark.parametrize(("attack", "scratch"), WAYS)
def test_the_walls_hold_an_attack_that_nothing_validated(site_of: SiteOf, attack: Attack, scratch: str) -> None:
    trial = attack.held()
    seen = run(site_of, attack, trial, scratch)
    assert_shows(seen, trial)
    assert_nothing_is_left(seen)


@pytest.mark.parametrize(("attack", "scratch"), WAYS)
def test_an_attack_that_is_validated_is_rejected_or_held_alike(site_of: SiteOf, attack: Attack, scratch: str) -> None:
    trial = attack.held()
    seen = run(site_of, attack, trial, scratch, validate=True)
    if seen.outcome.status is not Status.REJECTED:
        assert_shows(seen, trial)
    assert_nothing_is_left(seen)


@pytest.mark.parametrize(("attack", "scratch"), BREAKABLE)
def test_without_its_wall_an_attack_gets_through(site_of: SiteOf, attack: Attack, scratch: str) -> None:
    trial = attack.broken()
    seen = run(site_of, attack, trial, scratch)
    if seen.evidence in attack.verdict and "seccomp" in trial.down and has_outer_filter():
        pytest.skip("another system-call filter around these tests, such as a container's, holds this attack too")
    assert_shows(seen, trial)
    if trial.residue:
        assert trial.residue in seen.outcome.residue
        assert_usable(seen)
    else:
        assert not any(verdict in seen.evidence for verdict in attack.verdict), seen.evidence
        assert_nothing_is_left(seen)


@pytest.mark.parametrize(("attack", "wall"), LAYERED)
def test_each_of_several_walls_holds_an_attack_alone(site_of: SiteOf, attack: Attack, wall: str) -> None:
    trial = attack.held_by(wall)
    seen = run(site_of, attack, trial, "folder")
    assert_shows(seen, trial)
    assert_nothing_is_left(seen)
