"""The program in a response: which block wins, what closes it, what an opening adds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eurekaflow.verifiers.extract import TAGS, extract


def test_the_last_block_of_the_language_wins() -> None:
    text = "```python\na = 1\n```\nbetter:\n```python\na = 2\n```\n```json\n{}\n```"
    assert extract(text, language="python") == "a = 2\n"


def test_a_response_without_a_block_has_no_program() -> None:
    assert extract("def run(): pass", language="python") is None
    assert extract("", language="python") is None


@pytest.mark.parametrize("tag", ["python", "py", "python3", "Python", "PY"])
def test_accepted_tags_are_case_insensitive(tag: str) -> None:
    assert extract(f"```{tag}\nx\n```", language="python") == "x\n"


@pytest.mark.parametrize("tag", ["cpp", "c++", "cc", "C++"])
def test_cpp_has_its_own_tags(tag: str) -> None:
    assert extract(f"```{tag}\nint x;\n```", language="cpp") == "int x;\n"
    assert extract(f"```{tag}\nint x;\n```", language="python") is None


def test_an_untagged_block_is_not_python() -> None:
    assert extract("```\nx\n```", language="python") is None


def test_backticks_inside_a_line_do_not_end_the_program() -> None:
    body = 's = "```"\n    """\n    ```python\n    """\n'
    assert extract(f"```python\n{body}```", language="python") == body


def test_a_block_never_closed_runs_to_the_end() -> None:
    assert extract("text\n```python\na = 1\nb = 2", language="python") == "a = 1\nb = 2"


def test_a_closing_fence_may_be_followed_by_words() -> None:
    assert extract("```python\nx\n``` This improves it.", language="python") == "x\n"


def test_a_new_tagged_fence_closes_the_block_before_it() -> None:
    assert extract("```python\na\n```python\nb\n```", language="python") == "b\n"


def test_an_opening_is_put_before_the_response() -> None:
    opening = "```python\ndef run():\n    return "
    assert extract("1\n```", language="python", opening=opening) == "def run():\n    return 1\n"


def test_a_later_block_wins_over_the_opened_one() -> None:
    opening = "```python\ndef run():\n    return "
    text = "1\n```\nor\n```python\nx = 3\n```"
    assert extract(text, language="python", opening=opening) == "x = 3\n"


def test_a_program_in_the_thinking_counts_when_the_message_has_none() -> None:
    assert extract("<think>\n```py\nx\n```\n</think>\nDone.", language="python") == "x\n"


def test_windows_line_ends_are_understood() -> None:
    assert extract("```python\r\nx = 1\r\n```\r\n", language="python") == "x = 1\n"


def test_an_empty_block_is_no_program() -> None:
    assert extract("```python\n\n```", language="python") is None


def test_an_unknown_language_is_an_error() -> None:
    with pytest.raises(ValueError, match="cobol"):
        extract("", language="cobol")


@given(st.text(alphabet="`python\n x", max_size=60), st.sampled_from(sorted(TAGS)))
def test_no_response_crashes_extraction(text: str, language: str) -> None:
    found = extract(text, language=language)
    assert found is None or found.strip()


@given(st.text(alphabet=st.characters(exclude_characters="`\r"), min_size=1))
def test_a_program_comes_back_unchanged(program: str) -> None:
    body = program + "\n"
    expected = body if body.strip() else None
    assert extract(f"words\n```python\n{body}```\nwords", language="python") == expected
