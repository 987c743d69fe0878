"""What counts as a program in a model's reply, as tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmpool_gateway.reply import fenced_blocks, program_in

CODE = 'from servers.search import search_products\n\nhits = search_products("lamp")\nreturn len(hits)\n'


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(f"```python\n{CODE}```", id="fenced"),
        pytest.param(f"Here you are:\n\n```python\n{CODE}```\nIt counts the lamps.", id="prose around"),
        pytest.param(f"```py\n{CODE}```", id="short label"),
        pytest.param(f"```Python\n{CODE}```", id="capital label"),
        pytest.param(f"```python3 title=lamps.py\n{CODE}```", id="label with attributes"),
        pytest.param(f"```\n{CODE}```", id="no label"),
        pytest.param(f"~~~python\n{CODE}~~~", id="tildes"),
        pytest.param(f"````python\n{CODE}````", id="four backticks"),
        pytest.param(f"```python\n{CODE}", id="cut off before the fence closes"),
        pytest.param("```python\r\n" + CODE.replace("\n", "\r\n") + "```\r\n", id="windows line ends"),
        pytest.param(
            "1. Run\n   ```python\n" + "".join(f"   {line}\n" for line in CODE.splitlines()) + "   ```", id="in a list"
        ),
        pytest.param(CODE, id="unfenced"),
        pytest.param(f"Sure, this does it:\n\n{CODE}", id="unfenced behind prose"),
        pytest.param(
            f"Sure, this does it:\n{CODE}\n\nIt counts the lamps.\n\nAsk me more!", id="unfenced between prose"
        ),
        pytest.param(f"<think>```python\nreturn 1\n```no</think>\n```python\n{CODE}```", id="reasoning first"),
        pytest.param(f'```json\n{{"a": 1}}\n```\n```python\n{CODE}```', id="another language first"),
        pytest.param(f"```python\nreturn 0\n```\nBetter:\n```python\n{CODE}```", id="a sketch, then the program"),
        pytest.param(
            f'```python\n{CODE}```\nIt will return\n```json\n{{"count": 3}}\n```', id="an example of the result"
        ),
    ],
)
def test_the_program_is_found(reply: str) -> None:
    assert (program_in(reply) or "").split() == CODE.split()
    assert (program_in(reply) or "").endswith(")\n")


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param("", id="nothing"),
        pytest.param("There are 12 lamps.", id="a sentence"),
        pytest.param("Yes", id="a word, which is Python too"),
        pytest.param("42", id="a number"),
        pytest.param("Yes (maybe)", id="prose that parses as a call"),
        pytest.param('{"count": 12}', id="JSON"),
        pytest.param('```json\n{"count": 12}\n```', id="fenced JSON"),
        pytest.param('```\n{"count": 12}\n```', id="fenced JSON without a label"),
        pytest.param("```bash\npip install lamp\n```", id="a shell"),
        pytest.param("```python\n\n```", id="an empty block"),
        pytest.param("import duties may apply to lamps.", id="prose that begins like an import"),
        pytest.param("<think>```python\nreturn 1\n```</think>Twelve.", id="a program only in the reasoning"),
        pytest.param("Use `search_products` for that.", id="inline code"),
    ],
)
def test_prose_is_no_program(reply: str) -> None:
    assert program_in(reply) is None


def test_blocks_that_lean_on_each_other_are_one_program() -> None:
    reply = (
        "First search:\n```python\nfrom servers.search import search_products\nhits = search_products('lamp')\n```\n"
    )
    reply += "then count:\n```python\nreturn len(hits)\n```"
    assert program_in(reply) == (
        "from servers.search import search_products\nhits = search_products('lamp')\n\nreturn len(hits)\n"
    )


def test_a_fenced_block_with_a_syntax_error_is_still_the_program() -> None:
    assert program_in("```python\nreturn len(\n```") == "return len(\n"


def test_a_careless_escape_is_no_warning_of_ours() -> None:
    assert program_in("```\nimport re\nreturn re.findall('\\d', '1')\n```") is not None


def test_several_unclosed_fences_end_with_the_text() -> None:
    assert [block.code for block in fenced_blocks("```python\na = 1\n~~~\nb = 2")] == ["a = 1\n~~~\nb = 2"]


@given(st.text(alphabet="`~ab =1\n\r\t()python<>/thik", max_size=200))
def test_any_text_is_read_without_an_error(text: str) -> None:
    program = program_in(text)
    assert program is None or program.strip()
