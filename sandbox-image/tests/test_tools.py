"""Tool calls out of a real child: the generated stubs, the one channel, its limits and its errors."""

import copy
import pickle
from collections.abc import Iterator
from textwrap import dedent

import pytest
from support.sandbox import Run, Sandbox
from support.unprivileged import Place

from warmpool.tools import ToolDefinition, stub_package
from warmpool_sandbox.tools import ToolError

ANYTHING = {"type": "object", "additionalProperties": True}
ECHO = ToolDefinition(
    name="echo",
    category="shop",
    description="Give the arguments back.",
    input_schema={
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "limit": {"type": "integer", "default": 10},
            "note": {"type": "string"},
        },
        "required": ["text"],
    },
    output_schema=ANYTHING,
    read_only=True,
)
ECHOES = {"shop.echo": {"echo": True}}


@pytest.fixture(scope="module")
def tools_sandbox(sandbox_place: Place) -> Iterator[Sandbox]:
    folder = sandbox_place.root / "tools"
    folder.mkdir()
    stub_package([ECHO], folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    made = Sandbox(sandbox_place, sandbox_place.home(), tools=folder)
    yield made
    made.close()


def test_tools_of_a_config_map_are_found_through_its_links(sandbox_place: Place):
    """The kubelet puts the files below a dated folder and links to it, so that it can exchange them at once."""
    volume = sandbox_place.root / "config-map"
    dated = volume / "..2026_01_01_00_00_00.1"
    dated.mkdir(parents=True)
    stub_package([ECHO], dated)
    for path in (volume, dated, *dated.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (volume / "..data").symlink_to(dated.name)
    (volume / "servers").symlink_to("..data/servers")
    sandbox = Sandbox(sandbox_place, sandbox_place.home(), tools=volume)
    try:
        ran = sandbox.run("from servers.shop import echo\necho('a')", tools=ECHOES)
        assert ran.outcome.value == {"text": "a", "limit": 10}
    finally:
        sandbox.close()


@pytest.fixture
def run(tools_sandbox: Sandbox):
    def run(code: str, **options) -> Run:
        ran = tools_sandbox.run(
            "from servers import parallel, ToolError\nfrom servers.shop import echo\n" + dedent(code), **options
        )
        assert ran.outcome.clean, ran.outcome
        return ran

    return run


def test_a_tool_is_called_like_a_function(run):
    ran = run("echo('é', limit=3)", tools=ECHOES)
    assert (ran.outcome.value, ran.outcome.usage.tool_calls) == ({"text": "é", "limit": 3}, 1)
    assert ran.calls == [{"tool": "shop.echo", "arguments": {"text": "é", "limit": 3}}]


def test_what_is_not_given_does_not_travel(run):
    assert run("echo('a')", tools=ECHOES).calls[0]["arguments"] == {"text": "a", "limit": 10}
    assert run("echo('a', note=None)", tools=ECHOES).calls[0]["arguments"] == {"text": "a", "limit": 10}


def test_calls_one_after_the_other_are_answered_each(run):
    ran = run("[echo(str(n))['text'] for n in range(50)]", tools=ECHOES)
    assert ran.outcome.value == [str(n) for n in range(50)]
    assert (ran.most_open, ran.outcome.usage.tool_calls) == (1, 50)


@pytest.mark.parametrize(
    "value", [None, 0, "é\x00\ud800", [], {"a": [1, 10**30]}, "x" * 1_500_000], ids=lambda v: repr(v)[:20]
)
def test_a_result_is_any_json_value(run, value):
    length = len(str(value))
    assert run("len(str(echo('a')))", tools={"shop.echo": {"value": value}}).outcome.value == length


def test_calls_run_at_once_and_their_results_keep_the_order(run):
    ran = run("[r['text'] for r in parallel(lambda n: echo(str(n)), range(16))]", tools={"shop.echo": {"hold": 8}})
    assert ran.outcome.value == [str(n) for n in range(16)]
    assert ran.most_open == 8


def test_threads_and_asyncio_may_call_too(run):
    code = """
    import asyncio, threading
    seen = []
    threads = [threading.Thread(target=lambda n=n: seen.append(echo(str(n))["text"])) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    async def main():
        return await asyncio.gather(*(asyncio.to_thread(echo, str(n)) for n in range(4)))
    sorted(seen) + [r["text"] for r in asyncio.run(main())]
    """
    assert run(code, tools={"shop.echo": {"hold": 4}}).outcome.value == ["0", "1", "2", "3"] * 2


ERROR = {
    "type": "ToolError",
    "code": "not_found",
    "message": "no such product",
    "fields": {"id": 4, "nearest": [3, 5]},
}


def test_a_tools_error_is_an_exception_with_its_fields(run):
    code = """
    try:
        echo('a')
    except ToolError as e:
        [str(e), e.code, e.fields, e.id, e.nearest, getattr(e, 'colour', None)]
    """
    value = run(code, tools={"shop.echo": {"error": ERROR}}).outcome.value
    assert value == ["no such product", "not_found", {"id": 4, "nearest": [3, 5]}, 4, [3, 5], None]


def test_a_tools_error_that_is_not_caught_ends_the_program_with_its_fields(run):
    outcome = run("x = 1\necho('a')", tools={"shop.echo": {"error": ERROR}}).outcome
    assert (outcome.status, outcome.error.type, outcome.error.message) == ("user_error", "ToolError", "no such product")
    assert outcome.error.fields == {"code": "not_found", "id": 4, "nearest": [3, 5]}
    assert outcome.error.line == 4
    assert "servers" not in outcome.error.traceback


def test_an_errors_fields_may_have_any_name(run):
    fields = {"message": "m", "code": "c", "self": 1, "fields": {}, "args": 2}
    error = {"code": "clash", "message": "names", "fields": fields}
    code = "try:\n    echo('a')\nexcept ToolError as e:\n    [str(e), e.code, e.fields]"
    assert run(code, tools={"shop.echo": {"error": error}}).outcome.value == ["names", "clash", fields]


@pytest.mark.parametrize("error", [{}, {"message": "m"}, {"fields": None}, {"code": "c", "fields": {}}])
def test_an_error_without_all_its_parts_is_one_all_the_same(run, error):
    code = "try:\n    echo('a')\nexcept ToolError as e:\n    e.code"
    outcome = run(code, tools={"shop.echo": {"error": error}}).outcome
    assert outcome.value == error.get("code", "tool_failed")


def test_the_first_error_of_calls_at_once_is_raised(run):
    outcome = run("parallel(echo, ['a', 'b', 'c'])", tools={"shop.echo": {"error": ERROR}}).outcome
    assert outcome.error.type == "ToolError"


CAUGHT = """
def attempt(n):
    try:
        return echo(str(n))["text"]
    except ToolError as e:
        return [e.code, str(e)]
"""


def test_calls_above_the_limit_are_refused_with_its_value(run):
    code = f"{CAUGHT}\n[attempt(n) for n in range(5)]"
    ran = run(code, tools=ECHOES, limits={"tool_calls": 3})
    assert ran.outcome.value[:3] == ["0", "1", "2"]
    assert ran.outcome.value[3:] == [["too_many_calls", "tool_calls = 3 reached; ask for more at once"]] * 2
    assert len(ran.calls) == 3


def test_more_calls_at_once_than_the_limit_are_refused_with_its_value(run):
    code = f"""{CAUGHT}
import queue, threading
answers = queue.Queue()
for n in range(3):
    threading.Thread(target=lambda n=n: answers.put(attempt(n)), daemon=True).start()
answers.get()  # the others are never answered
"""
    ran = run(code, tools={"shop.echo": {"silent": True}}, limits={"tool_calls_at_once": 2})
    assert ran.outcome.value == ["too_many_at_once", "tool_calls_at_once = 2 reached"]
    assert ran.most_open == 2


def test_parallel_keeps_to_the_limit_of_calls_at_once(run):
    ran = run("len(parallel(echo, 'abcdef'))", tools={"shop.echo": {"hold": 2}}, limits={"tool_calls_at_once": 2})
    assert (ran.outcome.value, ran.most_open) == (6, 2)


def test_arguments_above_the_limit_are_refused_with_their_size(run):
    code = f"{CAUGHT}\nattempt('x' * 300_000)"
    ran = run(code, tools=ECHOES)
    code, message = ran.outcome.value
    assert code == "arguments_too_large"
    assert "over 262144" in message
    assert ran.calls == []


@pytest.mark.parametrize("arguments", ["{'a': object()}", "{'a': float('nan')}", "{'a': b'x'}", "{1j: 2}"])
def test_arguments_that_are_not_json_are_the_programs_own_error(run, arguments):
    code = f"from warmpool_sandbox.tools import call\ncall('shop.echo', {arguments})"
    outcome = run(code, tools=ECHOES, validate=False).outcome
    assert (outcome.status, outcome.error.type in ("TypeError", "ValueError")) == ("user_error", True)


def test_a_program_that_waits_for_a_tool_for_ever_ends_at_the_deadline(run):
    ran = run("echo('a')", tools={"shop.echo": {"silent": True}}, limits={"wall_seconds": 0.3})
    assert (ran.outcome.status, ran.outcome.usage.tool_calls) == ("timeout", 1)
    assert ran.seconds < 1.3


def test_a_late_answer_of_one_program_never_reaches_the_next(run):
    run(
        "import threading\nthreading.Thread(target=echo, args=('late',)).start()\n1",
        tools={"shop.echo": {"silent": True}},
    )
    assert run("echo('mine')['text']", tools=ECHOES).outcome.value == "mine"


def test_discovery_needs_no_call(run):
    ran = run("import servers\n[servers.list_categories(), servers.search_tools('arguments')]")
    assert ran.outcome.value == [["shop"], ["shop.echo"]]
    assert ran.calls == []


def test_an_error_can_be_copied_and_asked_for_what_it_lacks():
    error = ToolError("no", code="gone", id=4)
    assert (error.id, copy.copy(error).id, pickle.loads(pickle.dumps(error)).fields) == (4, 4, {"id": 4})
    with pytest.raises(AttributeError, match="colour"):
        _ = error.colour
