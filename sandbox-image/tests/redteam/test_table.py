"""The table of attacks is whole, and the page that people read is that table."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from redteam.table import KERNEL_WALLS, SUPERVISOR_WALLS, load

from warmpool_sandbox.confinement import Walls

ROOT = Path(__file__).parents[3]


def test_every_wall_is_attacked() -> None:
    attacked = {wall for attack in load() for wall in attack.walls}
    assert attacked == KERNEL_WALLS.keys() | SUPERVISOR_WALLS


def test_every_wall_that_can_be_taken_down_is_known_to_the_table() -> None:
    assert {field.name for field in fields(Walls)} | {"not dumpable"} == KERNEL_WALLS.keys()


def test_no_attack_is_expected_to_succeed() -> None:
    assert not [attack.id for attack in load() if any(text.startswith("got in") for text in attack.verdict)]


def test_the_page_on_security_has_the_same_table() -> None:
    checked = subprocess.run([sys.executable, ROOT / "hack" / "security.py", "--check"], timeout=30, check=False)
    assert checked.returncode == 0
