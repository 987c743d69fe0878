"""`warmpool demo`: the main job on this machine, shown. Questions answered by programs, attacks held, a burst.

Everything goes through the gateway's HTTP API, as a chat backend would; nothing here is known to the product.
"""

import asyncio
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, get_args

import aiohttp
import click
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import Progress
from rich.syntax import Syntax
from rich.table import Table

from servers.catalogue.importer import Format
from warmpool.errors import PlatformError
from warmpool.local import stack
from warmpool.local.attacks import ATTACKS, Attack
from warmpool.local.up import until_interrupted

QUESTIONS: Final = (
    "What is the cheapest floor lamp in stock?",
    "How many backpacks between 40 and 120 euros are available, by category?",
    "What is our stock of rain jackets worth?",
)
BURST: Final = 200
_TIMEOUT: Final = aiohttp.ClientTimeout(total=60)


@click.command()
@click.option("--question", "questions", multiple=True, help="Ask this instead; may be given again.")
@click.option("--products", default=2000, show_default=True, help="Size of the generated catalogue.")
@click.option("--seed", default=1, show_default=True, help="Of the generated catalogue: another seed, other answers.")
@click.option(
    "--catalog", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A file to import instead."
)
@click.option("--format", type=click.Choice(get_args(Format)), default="woocommerce-csv", show_default=True)
def demo(questions: tuple[str, ...], products: int, seed: int, catalog: Path | None, format: Format) -> None:
    """Show the whole of it in under two minutes, and leave nothing behind."""
    plan = replace(stack.Plan(), products=products, seed=seed, catalogue=catalog, format=format)
    sys.exit(until_interrupted(_demo(plan, questions or QUESTIONS)))


async def _demo(plan: stack.Plan, questions: tuple[str, ...]) -> None:
    console = Console(highlight=False)
    console.rule("[bold]Starting[/]")
    async with stack.running(plan, lambda line: console.print(f"  {line}")) as running:
        headers = {"Authorization": f"Bearer {running.api_key}"}
        async with aiohttp.ClientSession(running.url, headers=headers, timeout=_TIMEOUT) as session:
            shown = Demo(console, session)
            await shown.ask(questions, has_stand_in=running.has_stand_in)
            await shown.attack()
            await shown.burst()
        console.rule("[bold]Ending[/]")


class Demo:
    """Sends requests and prints what came back."""

    def __init__(self, console: Console, session: aiohttp.ClientSession) -> None:
        self._console = console
        self._session = session

    async def ask(self, questions: tuple[str, ...], *, has_stand_in: bool) -> None:
        self._console.rule("[bold]Questions, answered by programs[/]")
        if has_stand_in:
            self._console.print(
                "  No model is configured: a [bold]stand-in that follows rules[/] writes the programs.\n"
                "  It speaks the real API; set OPENAI_API_KEY or WARMPOOL_MODEL__BASE_URL for a language model."
            )
        for question in questions:
            self._show_chat(question, await self._post("/v1/chat", {"message": question}))

    def _show_chat(self, question: str, chat: dict[str, Any]) -> None:
        execution = chat["execution"] or {}
        self._console.print(f"\n[bold]Q: {escape(question)}[/]")
        if execution:
            self._console.print(Panel(Syntax(execution["program"].strip(), "python", word_wrap=True), title="program"))
            result = json.dumps(execution["result"], ensure_ascii=False)
            self._console.print(f"  result   {escape(result[:400])}{' ...' if len(result) > 400 else ''}")
        usage, timings = chat["usage"], chat["timings"]
        wall = execution.get("usage", {}).get("wall_seconds", 0)
        calls = execution.get("usage", {}).get("tool_calls", 0)
        self._console.print(f"  answer   [green]{escape(chat['answer'])}[/]")
        turns = len(chat["turns"])
        if any(turn["kind"] == "repair" for turn in chat["turns"]):
            self._console.print("  repair   the first program failed; its error, with line and type, went back once")
        self._console.print(
            f"  model    {escape(chat['model'])}: {usage['prompt']} + {usage['completion']} tokens in {turns} turns\n"
            f"  timings  {timings['total'] * 1000:.0f} ms in all; model {timings['model'] * 1000:.0f}, "
            f"sandbox {wall * 1000:.0f} with {calls} tool call{'s' if calls != 1 else ''}"
        )

    async def attack(self) -> None:
        self._console.rule("[bold]Attacks, held[/]")
        table = Table("ATTACK", "STATUS", "WHAT IT GOT")
        failed = []
        for attack in ATTACKS:
            answer = await self._post("/v1/executions", {"code": attack.code, "limits": attack.limits or {}})
            error = answer["error"] or {}
            got = f"{error.get('type')}: {error.get('message')}" if error else json.dumps(answer["result"])
            table.add_row(attack.title, answer["status"], escape(got))
            failed += [] if answer["status"] in attack.held else [attack]
        self._console.print(table)
        await self._check(failed)

    async def _check(self, failed: list[Attack]) -> None:
        after = await self._post("/v1/executions", {"code": "return 'still here'"})
        self._console.print(f"  the next program: {after['status']}, {after['result']!r}")
        if failed or after["status"] != "ok":
            raise PlatformError(
                f"an attack was not held: {', '.join(attack.title for attack in failed) or 'the pool is gone'}"
            )

    async def burst(self) -> None:
        self._console.rule(f"[bold]{BURST} programs at once[/]")
        seconds: list[float] = []
        with Progress(console=self._console, transient=True) as progress:
            task = progress.add_task("running", total=BURST)

            async def one(number: int) -> bool:
                began = time.perf_counter()
                answer = await self._post("/v1/executions", {"code": f"return sum(range({number}))"})
                seconds.append(time.perf_counter() - began)
                progress.advance(task)
                return bool(answer["status"] == "ok" and answer["result"] == sum(range(number)))

            began = time.perf_counter()
            right = await asyncio.gather(*(one(number) for number in range(BURST)))
            elapsed = time.perf_counter() - began
        seconds.sort()
        self._console.print(
            f"  {sum(right)} of {BURST} right in {elapsed:.2f} s ({BURST / elapsed:.0f} a second); "
            f"p50 {seconds[BURST // 2] * 1000:.0f} ms, p99 {seconds[BURST * 99 // 100] * 1000:.0f} ms"
        )
        if not all(right):
            raise PlatformError(f"{BURST - sum(right)} of {BURST} programs did not end as they should")

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        async with self._session.post(path, json=body) as response:
            answer: dict[str, Any] = await response.json(content_type=None)
            if response.status >= 400:
                raise PlatformError(f"{path} answered {response.status}: {answer.get('detail', answer)}")
            return answer
