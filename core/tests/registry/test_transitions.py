"""The scripts agree with the table: every step is taken from every state, and what comes out is compared."""

import re
from pathlib import Path

import pytest

from warmpool.registry import TRANSITIONS, PodState, Retirement, scripts

STATES = [None, *PodState]
SCRIPTS = [Path(scripts.__file__).parent / "lua" / f"{name}.lua" for name in sorted(scripts.TEXTS)]
ARGUMENT = re.compile(r"ARGV\[\d+\]")


async def bring_to(pool, state):
    """A pod p1 in that state; returns its lease, or that of an unrelated pod."""
    match state:
        case None:
            return await other_lease(pool)
        case PodState.WARMING:
            await pool.registry.announce("p1")
        case PodState.IDLE:
            await pool.add("p1")
        case PodState.LEASED:
            await pool.add("p1")
            return await pool.lease()
        case PodState.RETIRING:
            await pool.add("p1")
            await pool.registry.retire("p1", "ScaledDown")
        case PodState.GONE:
            await pool.registry.remove("p1")
    return None


async def other_lease(pool):
    await pool.add("p0")
    return await pool.lease()


async def state_of(pool):
    return await pool.redis.hget(f"warmpool:{{{pool.registry.pool}}}:pod:p1", "state")


async def wait_out(pool, seconds):
    pool.clock.advance(seconds)
    await pool.registry.reap()


STEPS = {
    "announce": lambda pool, lease: pool.registry.announce("p1"),
    "register": lambda pool, lease: pool.registry.register("p1", "a", max_executions=9, max_age_seconds=900),
    "heartbeat": lambda pool, lease: pool.registry.heartbeat(["p1"]),
    "acquire": lambda pool, lease: pool.acquire(),
    "renew": lambda pool, lease: lease and pool.registry.renew(lease, 30),
    "release clean": lambda pool, lease: lease and pool.registry.release(lease, clean=True),
    "release dirty": lambda pool, lease: lease and pool.registry.release(lease, clean=False),
    "retire": lambda pool, lease: pool.registry.retire("p1", "ScaledDown"),
    "remove": lambda pool, lease: pool.registry.remove("p1"),
    "fall silent": lambda pool, lease: wait_out(pool, 15),
    "let the lease expire": lambda pool, lease: wait_out(pool, 30),
}


@pytest.mark.parametrize("state", STATES, ids=str)
async def test_the_steps_lead_from_a_state_to_exactly_the_states_of_the_table(pools, state):
    reached = {}
    for name, step in STEPS.items():
        pool = pools()
        lease = await bring_to(pool, state)
        assert await state_of(pool) == state
        pending = step(pool, lease)
        if pending is not None:
            await pending
        reached[name] = await state_of(pool)
    pairs = {(state, to): to in TRANSITIONS[state] for to in STATES if to != state}
    assert {pair: pair[1] in reached.values() for pair in pairs} == pairs, reached


def test_the_table_names_every_state():
    assert set(TRANSITIONS) == set(STATES)


def test_no_state_leads_back_to_the_unknown_or_to_itself():
    assert not [state for state, following in TRANSITIONS.items() if state in following or None in following]


def test_every_state_is_reached_and_only_gone_is_an_end():
    assert set().union(*TRANSITIONS.values()) == set(PodState)
    assert [state for state, following in TRANSITIONS.items() if not following] == [PodState.GONE]


def test_the_scripts_reasons_are_those_of_the_enumeration():
    words = set(re.findall(r"'([A-Z][a-z]+[A-Za-z]*)'", "".join(scripts.TEXTS.values())))
    assert words == set(Retirement)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.stem)
def test_a_script_states_its_keys_its_arguments_and_its_result(script):
    lines = script.read_text().splitlines()
    header = "\n".join(line for line in lines if line.startswith("--"))
    body = "\n".join(line for line in lines if not line.startswith("--"))
    assert "-- KEYS[1]" in header
    assert "-- ARGV[1]" in header
    assert "-- Result:" in header
    assert set(ARGUMENT.findall(body)) <= set(ARGUMENT.findall(header))
