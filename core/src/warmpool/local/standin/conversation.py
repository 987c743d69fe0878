"""Which turn of a chat a conversation has come to, and what to say there.

A program is asked for, or mended after an error, or its result put into words. The stand-in keeps
nothing between requests: like a model it finds the question, the tools, its own last program and
the error or the result in the messages it is sent.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from warmpool.local.standin import answer, program, question

FAILED: Final = re.compile(r"\AThe program failed(?: \(line \d+\))?: (?P<type>\w+): ")
RESULT: Final = re.compile(r"\AResult of the program:\s*```json\n(?P<json>.*)\n```\s*\Z", re.DOTALL)
CONTEXT: Final = re.compile(r"\n\nThe program's global `context` holds: .*\Z", re.DOTALL)

GREETING: Final = re.compile(
    r"\A\W*(?:hi|hello|hey|good (?:morning|evening|day)|thanks?|thank you)\b[\W\w]{0,20}\Z", re.I
)


@dataclass(frozen=True, slots=True)
class Turn:
    role: str
    text: str


def reply_to(turns: Sequence[Turn]) -> str:
    """The next message. Lone surrogates of a question, which UTF-8 cannot carry, become question marks."""
    return _reply_to(turns).encode("utf-8", "replace").decode()


def _reply_to(turns: Sequence[Turn]) -> str:
    last, asked = turns[-1].text, _question(turns)
    understood = question.read(asked)
    if found := RESULT.match(last):
        return answer.answer(understood, _value(found["json"]))
    prompt = "\n".join(turn.text for turn in turns if turn.role in ("system", "developer"))
    tools = program.parse_signatures(prompt)
    if not tools or GREETING.match(asked) or not understood.names_products:
        return answer.without_program(has_tools=bool(tools))
    if found := FAILED.match(last):
        return _fenced(program.mended(understood, tools, error=found["type"]))
    return _fenced(program.first(understood, tools))


def _question(turns: Sequence[Turn]) -> str:
    """The newest message of the user that neither reports an error nor carries a result."""
    for turn in reversed(turns):
        if turn.role == "user" and not FAILED.match(turn.text) and not RESULT.match(turn.text):
            return CONTEXT.sub("", turn.text)
    return ""


def _value(text: str) -> Any:
    """A result that was cut to fit is not always JSON any more; then it is text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _fenced(code: str) -> str:
    return f"```python\n{code}```"
