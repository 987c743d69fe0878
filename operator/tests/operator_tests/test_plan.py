"""`plan` by table and by property: what is done about a pool, whatever state it is found in."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from warmpool.registry import PodState, Standing
from warmpool_operator.informer import Pod
from warmpool_operator.observe import (
    END_SECONDS,
    HELD_FOR,
    HOLD_SECONDS,
    LOST_SECONDS,
    UNUSED_SECONDS,
    Endings,
    Hold,
    Losses,
    Observed,
    Unused,
)
from warmpool_operator.plan import Action, Create, Delete, Desired, Forget, Reason, Register, Retire, plan

NEW, OLD = "new", "old"


def pod(name: str, **changes: object) -> Pod:
    made = Pod(
        name=name, uid=f"uid-{name}", pool="p", template=NEW, phase="Running", ready=True, ip="10.0.0.1", deleting=False
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def known(state: PodState, **changes: object) -> Standing:
    return Standing(state=state, **changes)  # type: ignore[arg-type]


def observed(pods: list[Pod], registry: dict[str, Standing] | None = None, **changes: object) -> Observed:
    return Observed(pods=pods, registry=registry or {}, **{"may_create": 100, **changes})  # type: ignore[arg-type]


def wanted(replicas: int, **changes: object) -> Desired:
    return Desired(replicas=replicas, template=NEW, **changes)  # type: ignore[arg-type]


IDLE, LEASED, WARMING, RETIRING = (
    known(state) for state in (PodState.IDLE, PodState.LEASED, PodState.WARMING, PodState.RETIRING)
)


def test_an_empty_pool_makes_all_of_its_pods() -> None:
    assert plan(wanted(3), observed([])) == [Create(3)]


def test_pods_that_were_made_and_not_seen_yet_are_not_made_again() -> None:
    seen = observed([], expected=frozenset({"a", "b"}))

    assert plan(wanted(3), seen) == [Create(1)]


def test_no_more_is_made_than_the_back_off_allows() -> None:
    assert plan(wanted(3), observed([], may_create=0)) == []
    assert plan(wanted(3), observed([], may_create=1)) == [Create(1)]


def test_a_ready_pod_that_is_known_as_warming_is_registered() -> None:
    a = pod("a")

    assert plan(wanted(1), observed([a], {"a": WARMING})) == [Register(a)]


def test_a_pod_that_is_not_ready_is_waited_for() -> None:
    assert plan(wanted(1), observed([pod("a", ready=False)], {"a": WARMING})) == []


def test_a_ready_pod_that_the_registry_does_not_know_is_retired_and_replaced() -> None:
    assert plan(wanted(1), observed([pod("a")])) == [Retire("a", Reason.UNPROVEN), Create(1)]


def test_a_retiring_pod_is_deleted_and_replaced() -> None:
    a = pod("a")

    assert plan(wanted(1), observed([a], {"a": RETIRING})) == [Delete(a, Reason.RETIRED), Create(1)]


def test_a_retiring_pod_that_is_about_to_end_is_replaced_and_not_deleted_yet() -> None:
    seen = observed([pod("a")], {"a": RETIRING}, ending=frozenset({"a"}))

    assert plan(wanted(1), seen) == [Create(1)]


def test_used_pods_are_given_some_seconds_to_end_by_themselves() -> None:
    endings = Endings()
    standings = {"used": known(PodState.RETIRING, worn=True), "scaled down": RETIRING, "idle": IDLE}

    seen = [endings.see(standings, now) for now in (100.0, 100.0 + END_SECONDS / 2, 100.0 + END_SECONDS)]

    assert seen == [{"used"}, {"used"}, frozenset()]


def test_a_pod_that_is_lost_with_its_node_takes_no_place_and_one_that_still_ends_does() -> None:
    gone = [pod(name, ready=False, deleting=True) for name in ("a", "b")]
    kept = [pod("c"), pod("d")]
    registry = {"a": RETIRING, "b": RETIRING, "c": IDLE, "d": IDLE}

    assert plan(wanted(4), observed([*gone, *kept], registry)) == [Create(1)], "the surge"
    seen = observed([*gone, *kept], registry, lost=frozenset({"uid-a", "uid-b"}))
    assert plan(wanted(4), seen) == [Create(2)]


def test_pods_are_lost_once_their_deletion_takes_longer_than_any_does() -> None:
    losses = Losses()
    pods = [pod("a", deleting=True), pod("b")]

    seen = [losses.see(pods, now) for now in (5.0, 4.9 + LOST_SECONDS, 5.0 + LOST_SECONDS)]

    assert seen == [frozenset(), frozenset(), {"uid-a"}]
    assert losses.see([pod("b")], 5.0 + LOST_SECONDS) == frozenset()


def test_a_deletion_under_way_is_not_asked_for_again() -> None:
    a = pod("a")
    seen = observed([a], {"a": RETIRING}, deleted=frozenset({a.uid}))

    assert plan(wanted(1), seen) == [Create(1)]


def test_a_pod_that_ended_is_forgotten_deleted_and_replaced() -> None:
    a = pod("a", phase="Failed", ready=False)

    assert plan(wanted(1), observed([a], {"a": LEASED})) == [Forget("a"), Delete(a, Reason.POD_ENDED), Create(1)]


def test_a_pod_that_somebody_deletes_gets_no_more_leases_and_is_replaced() -> None:
    a = pod("a", deleting=True)

    assert plan(wanted(1), observed([a], {"a": IDLE})) == [Retire("a", Reason.POD_DELETED), Create(1)]


def test_what_the_cluster_no_longer_has_is_forgotten() -> None:
    assert plan(wanted(0), observed([], {"a": LEASED})) == [Forget("a")]


def test_a_pod_that_is_announced_and_not_seen_yet_is_not_forgotten() -> None:
    assert plan(wanted(1), observed([], {"a": WARMING}, expected=frozenset({"a"}))) == []


def test_scaling_down_takes_what_does_not_serve_then_the_oldest_idle_ones_then_leased_ones_at_their_release() -> None:
    pods = [
        pod("leased"), pod("fresh", created="2"), pod("old", created="1"),
        pod("begun", ready=False, created="3"), pod("just begun", ready=False, created="4"),
    ]  # fmt: skip
    registry = {"leased": LEASED, "fresh": IDLE, "old": IDLE, "begun": WARMING, "just begun": WARMING}

    order = [
        action.name
        for action in plan(wanted(0), observed(pods, registry))
        if isinstance(action, Retire) and action.reason is Reason.SCALED_DOWN
    ]

    assert order == ["just begun", "begun", "old", "fresh", "leased"]


def test_a_leased_pod_that_will_retire_is_not_retired_again_and_its_replacement_is_made() -> None:
    seen = observed([pod("a")], {"a": known(PodState.LEASED, marked=True)})

    assert plan(wanted(1), seen) == [Create(1)]


def test_a_new_template_replaces_idle_pods_within_the_budget_and_no_leased_one() -> None:
    pods = [pod(name, template=OLD) for name in ("a", "b", "c", "d")]
    registry = {"a": LEASED, "b": IDLE, "c": IDLE, "d": IDLE}

    assert plan(wanted(4), observed(pods, registry)) == [Create(1), Retire("b", Reason.TEMPLATE_CHANGED)]


def test_outdated_pods_that_never_served_go_at_once() -> None:
    pods = [pod(name, template=OLD, ready=False) for name in ("a", "b")]
    registry = {"a": WARMING, "b": WARMING}

    retired = [action for action in plan(wanted(2), observed(pods, registry)) if isinstance(action, Retire)]

    assert {action.name for action in retired} == {"a", "b"}


def test_leased_pods_of_an_old_template_go_at_their_release_once_no_idle_one_is_left() -> None:
    """Else a busy pool would lease them again and again, and never be rid of them."""
    pods = [pod(name, template=OLD) for name in ("a", "b")]

    assert plan(wanted(2), observed(pods, {"a": LEASED, "b": LEASED})) == [
        Create(1), Retire("a", Reason.TEMPLATE_CHANGED),
    ]  # fmt: skip


def test_pods_that_come_of_age_together_go_within_the_budget_and_no_leased_one() -> None:
    pods = [pod(name) for name in ("a", "b", "c", "d")]
    registry = {"a": LEASED, "b": IDLE, "c": IDLE, "d": IDLE}

    actions = plan(wanted(4), observed(pods, registry, aged=frozenset("abcd")))

    assert actions == [Create(1), Retire("b", Reason.MAX_AGE)]
    assert plan(wanted(4, paused=True), observed(pods, registry, aged=frozenset("abcd"))) == []


def test_a_rollout_halts_while_pods_of_the_new_template_come_to_nothing() -> None:
    pods = [pod(name, template=OLD) for name in ("a", "b")]
    registry = {"a": IDLE, "b": IDLE}

    assert plan(wanted(2), observed(pods, registry, failing=True, may_create=0)) == []
    scaled = plan(wanted(0), observed(pods, registry, failing=True, may_create=0))
    assert scaled == [Retire("a", Reason.TEMPLATE_CHANGED)]


def test_a_rollout_may_leave_no_pod_missing() -> None:
    pods = [pod(name, template=OLD) for name in ("a", "b")]
    registry = {"a": IDLE, "b": IDLE}
    careful = wanted(2, max_unavailable=0, max_surge=2)

    assert plan(careful, observed(pods, registry)) == [Create(2)]
    newer = [*pods, pod("c")]
    assert plan(careful, observed(newer, {**registry, "c": IDLE})) == [
        Create(1), Retire("a", Reason.TEMPLATE_CHANGED),
    ]  # fmt: skip


def test_a_paused_pool_makes_and_retires_nothing_but_serves_on() -> None:
    a, b = pod("a", template=OLD), pod("b")
    seen = observed([a, b], {"a": IDLE, "b": WARMING})

    assert plan(wanted(5, paused=True), seen) == [Register(b)]


def test_the_limit_counts_pods_that_end_too() -> None:
    ending = [pod(name, deleting=True) for name in ("a", "b", "c")]

    assert plan(wanted(3), observed(ending)) == [Create(1)]
    assert plan(wanted(3, most=5), observed(ending)) == [Create(3)]


def test_while_pods_find_no_node_no_more_are_made() -> None:
    stuck = pod("a", ready=False, phase="Pending", trouble="Unschedulable")

    assert plan(wanted(3), observed([stuck], {"a": WARMING})) == []


def test_callers_that_wait_while_idle_pods_are_other_tenants_get_fresh_ones() -> None:
    pods = [pod("a", created="1"), pod("b", created="2"), pod("c", created="3")]
    registry = {
        "a": known(PodState.IDLE, bound=True), "b": known(PodState.IDLE, bound=True), "c": LEASED,
    }  # fmt: skip

    unused = frozenset({"a", "b"})
    assert plan(wanted(3), observed(pods, registry, waiting=1, unused=unused)) == [Retire("a", Reason.BOUND_ELSEWHERE)]
    assert plan(wanted(3), observed(pods, registry, waiting=0, unused=unused)) == []


def test_a_bound_pod_that_its_tenant_uses_is_not_taken_from_it_whoever_waits() -> None:
    pods = [pod("a", created="1"), pod("b", created="2")]
    registry = {name: known(PodState.IDLE, bound=True) for name in ("a", "b")}

    seen = observed(pods, registry, waiting=9, unused=frozenset({"b"}))

    assert plan(wanted(2), seen) == [Retire("b", Reason.BOUND_ELSEWHERE)]


def test_a_bound_pod_is_unused_only_while_callers_wait() -> None:
    """A burst finds pods that were idle for long, and uses them in a moment."""
    unused, idle = Unused(), known(PodState.IDLE, bound=True)
    looks = [(0.0, 0), (60.0, 0), (60.1, 9), (60.1 + UNUSED_SECONDS, 9), (70.0, 0), (70.1, 9)]
    seen = [unused.see({"a": idle}, waiting, 100.0 + now) for now, waiting in looks]
    assert [bool(names) for names in seen] == [False, False, False, True, False, False]


def test_a_bound_pod_is_unused_once_it_was_idle_at_each_look_for_a_moment() -> None:
    unused, idle = Unused(), known(PodState.IDLE, bound=True)
    almost = 0.9 * UNUSED_SECONDS
    looks = [(0.0, idle), (almost, idle), (1.0, LEASED)]
    looks += [(2.0 + later, idle) for later in (0.0, almost, UNUSED_SECONDS)]

    seen = [unused.see({"a": standing}, 1, 100.0 + now) for now, standing in looks]

    assert seen == [*[frozenset()] * 5, {"a"}]


def test_no_bound_pod_goes_while_fresh_ones_are_on_their_way() -> None:
    pods = [pod("a"), pod("b", ready=False)]
    registry = {"a": known(PodState.IDLE, bound=True), "b": WARMING}

    assert plan(wanted(2), observed(pods, registry, waiting=1, unused=frozenset({"a"}))) == []


def test_while_it_is_held_a_pool_is_made_no_larger_and_all_else_goes_on() -> None:
    pods = [pod("a"), pod("b")]
    seen = observed(pods, {"a": LEASED, "b": RETIRING}, held=True)
    assert plan(wanted(3), seen) == [Delete(pods[1], Reason.RETIRED)]
    assert plan(wanted(3), replace(seen, held=False)) == [Delete(pods[1], Reason.RETIRED), Create(2)]


def busy(count: int, *gone: str) -> dict[str, Standing]:
    return {f"busy-{number}": LEASED for number in range(count)} | dict.fromkeys(gone, RETIRING)


def test_a_hold_begins_among_many_programs_and_lasts_while_one_runs_and_nobody_waits_and_for_a_moment_at_most() -> None:
    hold = Hold()
    looks = [
        (0.0, busy(HELD_FOR), 0, False),
        (0.1, busy(HELD_FOR - 1, "a"), 0, False),
        (1.0, busy(HELD_FOR, "a", "b"), 0, True),
        (1.1, busy(1, "a", "b"), 0, True),
        (1.2, busy(0, "a", "b"), 0, False),
        (1.3, busy(HELD_FOR, "a", "b", "c"), 0, True),
        (1.4, busy(HELD_FOR, "a", "b", "c"), 3, False),
        (1.5, busy(HELD_FOR, "a", "b", "c"), 0, False),
        (1.6, busy(HELD_FOR, "a", "b", "c", "d"), 0, True),
        (1.6 + HOLD_SECONDS, busy(HELD_FOR, "a", "b", "c", "d"), 0, False),
    ]
    for now, standings, waiting, lasts in looks:
        assert hold.see(standings, waiting, 100.0 + now) is lasts, now


def test_no_pod_is_late_by_more_than_a_hold_however_steadily_others_go() -> None:
    hold, step = Hold(), 0.01
    held = [hold.see(busy(HELD_FOR, f"gone-{number}"), 0, 100.0 + number * step) for number in range(1000)]
    longest = max(len(run) for run in "".join("h" if one else " " for one in held).split())
    assert (longest - 1) * step <= HOLD_SECONDS


# -- properties

states = st.sampled_from([None, IDLE, LEASED, WARMING, RETIRING, known(PodState.LEASED, marked=True)])
pods_of_any_state = st.lists(
    st.tuples(
        st.sampled_from([NEW, OLD]),
        st.sampled_from(["Pending", "Running", "Failed"]),
        st.booleans(),
        st.booleans(),
        states,
        st.booleans(),
    ),
    max_size=12,
)


def build(
    drawn: list[tuple[str, str, bool, bool, Standing | None, bool]],
) -> tuple[list[Pod], dict[str, Standing], frozenset[str]]:
    """Pods, how they stand, and those that are aged."""
    pods, registry, aged = [], {}, set()
    for index, (template, phase, ready, deleting, state, is_aged) in enumerate(drawn):
        name = f"pod-{index}"
        ready = ready and phase == "Running"
        pods.append(pod(name, template=template, phase=phase, ready=ready, deleting=deleting))
        if state is not None:
            registry[name] = state
        if is_aged:
            aged.add(name)
    return pods, registry, frozenset(aged)


@given(pods_of_any_state, st.integers(0, 12), st.integers(0, 12))
def test_no_leased_pod_is_ever_deleted(drawn: list[object], replicas: int, may_create: int) -> None:
    pods, registry, aged = build(drawn)  # type: ignore[arg-type]

    for action in plan(wanted(replicas), observed(pods, registry, aged=aged, may_create=may_create)):
        if isinstance(action, Delete) and not action.pod.dead:
            assert registry[action.pod.name].state is PodState.RETIRING


@given(pods_of_any_state, st.integers(0, 12), st.integers(0, 12))
def test_the_pool_never_grows_beyond_its_size_and_the_surge(
    drawn: list[object], replicas: int, may_create: int
) -> None:
    pods, registry, aged = build(drawn)  # type: ignore[arg-type]
    actions = plan(wanted(replicas), observed(pods, registry, aged=aged, may_create=may_create))
    created = sum(action.count for action in actions if isinstance(action, Create))

    assert created <= may_create
    assert created == 0 or created + sum(not one.dead for one in pods) <= replicas + 1


@settings(max_examples=300)
@given(pods_of_any_state, st.integers(0, 8))
def test_from_any_state_the_pool_comes_to_rest_whole(drawn: list[object], replicas: int) -> None:
    """Everything that is asked for happens between two looks; programs end, pods become ready."""
    pods, registry, aged = build(drawn)  # type: ignore[arg-type]
    world = World(pods, registry)

    for _ in range(60):
        actions = plan(wanted(replicas), observed(list(world.pods.values()), dict(world.registry), aged=aged))
        if not actions and world.at_rest:
            break
        world.step(actions)
        assert len(world.pods) <= max(replicas + 1, len(pods))

    serving = [one for one in world.pods.values() if one.template == NEW and one.name not in aged]
    assert len(world.pods) == len(serving) == replicas
    assert all(world.registry[one.name].state is PodState.IDLE for one in serving)


class World:
    """A cluster and a registry that do at once what they are told."""

    def __init__(self, pods: list[Pod], registry: dict[str, Standing]) -> None:
        self.pods = {one.name: one for one in pods}
        self.registry = registry
        self.made = 0

    @property
    def at_rest(self) -> bool:
        return all(one.ready and not one.deleting for one in self.pods.values()) and all(
            state.state is PodState.IDLE for state in self.registry.values()
        )

    def step(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Create(count):
                    for _ in range(count):
                        self.made += 1
                        name = f"made-{self.made}"
                        self.pods[name] = pod(name, ready=False, phase="Pending")
                        self.registry[name] = WARMING
                case Register(one):
                    self.registry[one.name] = IDLE
                case Retire(name, _):
                    state = self.registry.get(name)
                    leased = state is not None and state.state is PodState.LEASED
                    self.registry[name] = known(PodState.LEASED, marked=True) if leased else RETIRING
                case Delete(one, _):
                    self.pods.pop(one.name, None)
                case Forget(name):
                    self.registry.pop(name, None)
        for name, state in list(self.registry.items()):
            if state.state is PodState.LEASED:
                self.registry[name] = RETIRING if state.marked else IDLE
        for name, one in list(self.pods.items()):
            if one.deleting:
                del self.pods[name]
            elif one.phase in ("Pending", "Running"):
                self.pods[name] = replace(one, phase="Running", ready=True)
