"""What `make chaos` takes for wrong: each rule by the smallest evidence that breaks it, and by one that does not."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent / "e2e"))

from chaos.evidence import Answer, Evidence, Fault, Kept, Lease, Move, Seen
from chaos.judge import judge

from warmpool.registry import PodState
from warmpool_operator.manifest import user_of

POD, OTHER = "default-aaaaaaaa", "default-bbbbbbbb"
GATEWAY_POD = "warmpool-gateway-7d9f-x2x4z"
GATEWAY = f"{GATEWAY_POD}-0a1b2c3d"


class World:
    """Evidence in the making; `at` is its clock."""

    def __init__(self) -> None:
        self.evidence = Evidence(seen=Seen(watch=1), most_pods=6)
        self.at = 1000.0
        self._fence = 0

    def move(self, pod: str, state: PodState, lease: Lease | None = None) -> None:
        seen = self.evidence.seen
        seen.moves.append(Move(pod=pod, state=state, at=self.at, life=seen.life, watch=seen.watch, lease=lease))

    def registered(self, pod: str = POD) -> None:
        self.move(pod, PodState.WARMING)
        self.move(pod, PodState.IDLE)

    def leased(self, execution: str, pod: str = POD, *, tenant: str = "one") -> None:
        self._fence += 1
        lease = Lease(
            pod=pod, execution=execution, tenant=tenant, gateway=GATEWAY, fence=self._fence, at=self.at,
            life=self.evidence.seen.life,
        )  # fmt: skip
        self.evidence.seen.leases.append(lease)
        self.move(pod, PodState.LEASED, lease)

    def ran(self, execution: str, pod: str = POD) -> None:
        """All the way: leased, ran for a second, told its caller, is recorded, and idle again."""
        self.leased(execution, pod)
        self.evidence.seen.tool_calls[execution] = 1
        self.at += 1
        self.move(pod, PodState.IDLE)
        self.answered(execution, user=user_of(pod), began=self.at - 0.9, done=self.at - 0.1, tool="ok")
        self.evidence.kept[execution] = [Kept("ok", pod)]

    def answered(self, execution: str | None, kind: str = "ok", **more: Any) -> None:
        number = len(self.evidence.answers)
        told = Answer(number=number, sent=self.at - 1, ended=self.at, kind=kind, execution=execution, **more)
        self.evidence.answers.append(told)
        if execution is not None:
            self.evidence.kept[execution] = [Kept(kind, None)]

    def fault(self, **what: Any) -> None:
        self.evidence.faults.append(Fault(name="a fault", at=self.at, until=self.at, **what))

    def lose_redis(self) -> None:
        self.evidence.seen.life += 1
        self.evidence.seen.losses.append(self.at)

    def change_last(self, **how: Any) -> None:
        self.evidence.answers[-1] = replace(self.evidence.answers[-1], **how)

    @property
    def wrong(self) -> str:
        return "\n".join(judge(self.evidence))


@pytest.fixture
def world() -> World:
    """In which a program ran on each of two pods, and one more on the first."""
    made = World()
    for pod in (POD, OTHER):
        made.registered(pod)
    for number, pod in enumerate((POD, OTHER, POD)):
        made.ran(f"exe_{number}", pod)
    made.at += 200
    return made


def test_a_run_without_fault_has_nothing_wrong(world: World):
    assert world.wrong == ""


# -- leases


def test_a_pod_that_is_leased_while_it_is_leased_is_wrong(world: World):
    world.leased("exe_8")
    world.leased("exe_9")
    assert "leased by exe_8" in world.wrong
    assert "leased by exe_9" in world.wrong


def test_a_pod_that_goes_under_a_lease_is_wrong_where_nothing_had_happened_to_it(world: World):
    world.leased("exe_9")
    world.at += 1
    world.move(POD, PodState.GONE)
    assert f"{POD} went at" in world.wrong
    world.fault(target=POD)
    assert world.wrong == ""


def test_a_used_pod_of_single_use_goes_under_its_lease_where_its_gateway_could_not_give_it_back(world: World):
    world.leased("exe_9")
    world.fault(killed=(GATEWAY_POD,))
    world.at += 1
    world.move(POD, PodState.GONE)
    assert f"{POD} went at" in world.wrong
    world.evidence.seen.most_executions[POD] = 1
    assert f"{POD} went at" not in world.wrong


@pytest.mark.parametrize("state", [PodState.RETIRING, PodState.GONE])
def test_a_pod_that_is_leased_after_its_end_is_wrong(world: World, state: PodState):
    world.move(POD, state)
    world.leased("exe_9")
    assert f"{POD} went from {state}" in world.wrong


def test_what_happened_unseen_is_no_move(world: World):
    world.leased("exe_8")
    world.evidence.seen.watch += 1
    world.leased("exe_9")
    assert world.wrong == ""


def test_a_pod_that_a_lost_redis_knew_and_that_is_leased_again_is_wrong(world: World):
    world.lose_redis()
    world.leased("exe_9")
    assert f"{POD} could serve before Redis lost all data" in world.wrong


def test_of_many_things_that_are_wrong_alike_the_first_ones_are_told_and_the_others_counted(world: World):
    for number in range(12):
        world.answered(None, "hung", detail=str(number))
    told = judge(world.evidence)
    assert [line.rpartition(" ")[2] for line in told[:-1]] == ["0", "1", "2", "3", "4"]
    assert told[-1] == "answers that may not be: 7 more"


def test_a_pod_made_after_the_loss_of_redis_may_be_leased(world: World):
    world.lose_redis()
    world.registered("default-cccccccc")
    world.leased("exe_9", "default-cccccccc")
    assert world.wrong == ""


def test_a_fence_that_does_not_grow_is_wrong(world: World):
    world._fence -= 1
    world.leased("exe_9", OTHER)
    assert "got fence 3 after 3" in world.wrong


def run_out(world: World, *, seconds: float = 20.0, reason: str = "LeaseExpired") -> None:
    """The end of a lease that nobody gave back."""
    world.at += seconds
    world.move(POD, PodState.RETIRING)
    world.evidence.seen.reasons[POD] = reason


@pytest.mark.parametrize("reason", ["LeaseExpired", "TemplateChanged"])
def test_a_lease_that_ran_out_is_wrong(world: World, reason: str):
    world.leased("exe_9")
    run_out(world, reason=reason)
    assert f"exe_9 never gave {POD} back" in world.wrong


def test_a_lease_of_a_pod_that_was_to_retire_anyway_may_take_as_long_as_a_program(world: World):
    world.leased("exe_9")
    run_out(world, seconds=3.0, reason="TemplateChanged")
    assert world.wrong == ""


def test_a_lease_that_may_have_been_given_back_unseen_did_not_run_out(world: World):
    world.leased("exe_9")
    world.evidence.seen.away.append((world.at + 4, world.at + 5))
    run_out(world, reason="TemplateChanged")
    assert world.wrong == ""


@pytest.mark.parametrize("cause", [{"killed": (GATEWAY_POD,)}, {"redis": True}], ids=["gateway", "Redis"])
def test_a_lease_that_ran_out_is_excused_by_what_happened_to_its_gateway_or_its_grant(
    world: World, cause: dict[str, Any]
):
    world.leased("exe_9")
    world.fault(**cause)
    run_out(world)
    assert world.wrong == ""


def test_a_lease_that_ran_out_is_not_excused_by_what_happened_elsewhere_before_or_later(world: World):
    world.fault(redis=True)
    world.at += 1
    world.leased("exe_9")
    world.fault(killed=("warmpool-gateway-7d9f-other",))
    world.at += 10
    world.fault(redis=True)
    world.fault(killed=(GATEWAY_POD,))
    run_out(world, seconds=10.0)
    assert "exe_9 never gave" in world.wrong


def test_a_single_use_pod_that_is_used_twice_is_wrong(world: World):
    world.evidence.seen.most_executions[POD] = 1
    assert f"{POD} was leased 2 times and may serve 1" in world.wrong


def test_a_pod_of_one_tenant_that_serves_another_is_wrong(world: World):
    world.evidence.seen.per_tenant.add(POD)
    assert world.wrong == ""
    world.leased("exe_9", tenant="two")
    assert "was leased by ['one', 'two']" in world.wrong


# -- programs


def test_two_programs_at_once_in_one_pod_are_wrong(world: World):
    first = world.evidence.answers[0]
    world.change_last(began=first.done - 0.01)
    assert "exe_2 began before exe_0 was done" in world.wrong


def test_two_programs_at_once_in_two_pods_are_right(world: World):
    first = world.evidence.answers[0]
    world.evidence.answers[1] = replace(world.evidence.answers[1], began=first.began, done=first.done)
    assert world.wrong == ""


def test_a_program_that_ran_in_another_pod_than_was_leased_is_wrong(world: World):
    world.change_last(user=user_of("default-cccccccc"))
    assert "exe_2 ran as user" in world.wrong


def test_a_program_ran_where_its_record_says_if_its_last_lease_may_have_been_missed(world: World):
    world.change_last(user=user_of(OTHER))
    last = world.evidence.answers[-1]
    assert f"exe_2 ran as user {user_of(OTHER)}" in world.wrong
    world.evidence.kept["exe_2"] = [Kept("ok", OTHER)]
    assert "exe_2 ran as user" in world.wrong, "the lease is of another pod, and nothing was missed"
    world.evidence.seen.away.append((last.sent, last.sent + 0.1))
    assert world.wrong == ""
    world.evidence.kept["exe_2"] = [Kept("ok", POD)]
    assert "exe_2 ran as user" in world.wrong


def test_a_program_without_a_lease_is_wrong(world: World):
    world.answered("exe_9", user=user_of(OTHER), began=world.at, done=world.at + 1, tool="ok")
    assert "exe_9 ran without a lease" in world.wrong


def test_programs_in_another_order_than_their_fences_are_wrong(world: World):
    first = world.evidence.answers[0]
    world.change_last(began=first.began - 2, done=first.began - 1)
    assert "in another order" in world.wrong


def test_a_program_that_ran_twice_is_wrong(world: World):
    world.evidence.seen.tool_calls["exe_1"] += 1
    assert "exe_1 made its one tool call 2 times" in world.wrong


def test_a_program_that_ran_although_its_caller_was_refused_is_wrong(world: World):
    world.leased("exe_9")
    world.evidence.seen.tool_calls["exe_9"] = 1
    world.answered(None, "503 unavailable")
    assert "exe_9 ran, nobody was answered" in world.wrong
    world.fault(killed=(GATEWAY_POD,))
    assert world.wrong == ""


# -- callers


@pytest.mark.parametrize("kind", ["hung", "wrong", "500 internal", "429 quota_exceeded", "user_error", "timeout"])
def test_what_no_caller_may_be_told_is_wrong_under_any_fault(world: World, kind: str):
    world.fault(redis=True, api_server=True, killed=(POD, GATEWAY_POD))
    world.answered(None, kind)
    assert f": {kind}:" in world.wrong


@pytest.mark.parametrize("kind", ["503 pool_exhausted", "503 unavailable"])
def test_callers_may_be_turned_away(world: World, kind: str):
    world.answered(None, kind)
    assert world.wrong == ""


@pytest.mark.parametrize("kind", ["lost", "refused"])
def test_a_broken_connection_needs_a_killed_gateway(world: World, kind: str):
    world.answered(None, kind)
    assert f"program 3 was {kind}" in world.wrong
    world.at -= 0.5
    world.fault(killed=(GATEWAY_POD,))
    assert world.wrong == ""


@pytest.mark.parametrize("cause", [{"redis": True}, {"api_server": True}], ids=["Redis", "API server"])
def test_a_connection_is_refused_where_no_gateway_is_ready_and_lost_only_where_one_was_killed(
    world: World, cause: dict[str, Any]
):
    world.fault(**cause)
    world.answered(None, "refused")
    assert world.wrong == ""
    world.answered(None, "lost")
    assert "program 4 was lost" in world.wrong


def test_an_answer_that_was_lost_long_after_a_gateway_was_killed_is_wrong(world: World):
    world.fault(killed=(GATEWAY_POD,))
    world.at += 20
    world.answered(None, "lost")
    assert "program 3 was lost" in world.wrong


def test_a_program_that_was_lost_needs_a_killed_pod_of_its_own(world: World):
    world.leased("exe_9")
    world.answered("exe_9", "platform_error")
    world.fault(killed=(OTHER,))
    assert f"exe_9 was lost on ['{POD}'], which nothing had killed" in world.wrong
    world.fault(killed=(POD,))
    assert world.wrong == ""


def test_a_tool_that_fails_needs_a_redis_in_trouble(world: World):
    world.change_last(tool="ToolError: away")
    assert "exe_2: its tool failed: ToolError" in world.wrong
    world.at = world.evidence.answers[-1].sent
    world.fault(redis=True)
    assert world.wrong == ""


# -- what is kept


def test_a_record_that_says_something_else_is_wrong(world: World):
    world.evidence.kept["exe_1"] = [Kept("cancelled", POD)]
    assert "exe_1 ended ok and is recorded as" in world.wrong


def test_a_record_that_is_there_twice_is_wrong(world: World):
    world.evidence.kept["exe_1"] *= 2
    assert "exe_1 ended ok and is recorded as" in world.wrong


def test_a_record_may_be_missing_where_redis_lost_it(world: World):
    world.evidence.kept["exe_2"] = []
    assert "exe_2 has no record" in world.wrong
    world.evidence.seen.losses.append(world.evidence.answers[-1].ended)
    assert world.wrong == ""


def test_a_record_is_in_redis_for_a_minute_only_where_the_gateway_that_read_it_was_killed(world: World):
    world.evidence.kept["exe_2"] = []
    world.at = world.evidence.answers[-1].ended + 60
    world.evidence.seen.losses.append(world.at)
    assert "exe_2 has no record" in world.wrong
    world.at -= 60 + 9  # one that is deleted goes on for some seconds
    world.fault(killed=(GATEWAY_POD,))
    assert world.wrong == ""


@pytest.mark.parametrize("killed", [GATEWAY_POD, "warmpool-redis-0"])
def test_a_record_may_be_missing_where_both_that_held_it_were_in_trouble(world: World, killed: str):
    world.evidence.kept["exe_2"] = []
    world.at = world.evidence.answers[-1].ended
    world.fault(redis=True)
    assert "exe_2 has no record" in world.wrong
    world.at += 1
    world.fault(killed=(killed,))
    assert world.wrong == ""


def test_more_pods_than_the_most_are_wrong(world: World):
    world.evidence.pods_at_once = 6
    assert world.wrong == ""
    world.evidence.pods_at_once = 7
    assert "7 pods at once" in world.wrong
