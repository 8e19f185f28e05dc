"""The prompt template: order, direction words, cuts, the brief form, shrinking."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eurekaflow.models.prompt import PromptParts, render, shrink, state_note

PARTS = PromptParts(
    statement="Find a small h.",
    direction="min",
    metric="C5",
    entry_point="run",
    parent_program="def run():\n    return [0.5]\n",
    parent_score=0.41,
    grandparent_score=0.45,
    target=0.3808,
    stdout_tail="it worked",
    state_note=state_note("initial_h_values", 50),
    budget_s=1000.0,
)


def test_the_sections_come_in_the_fixed_order() -> None:
    text = render(PARTS).text
    found = [
        text.index(part)
        for part in (
            "Find a small h.",
            "```python\ndef run():",
            "0.450000 -> 0.410000",
            "0.380800, 0.029200 away",
            "it worked",
            "initial_h_values",
            "`run`",
            "1000 seconds",
            "different algorithm",
            "earns nothing",
        )
    ]
    assert found == sorted(found)


def test_direction_words_follow_the_problem() -> None:
    assert "lower is better" in render(PARTS).text
    maximised = render(replace(PARTS, direction="max", target=0.5)).text
    assert "Maximise" in maximised
    assert "higher is better" in maximised
    assert "0.090000 away" in maximised
    assert "lower" not in maximised


def test_a_start_without_a_program_shows_none() -> None:
    text = render(replace(PARTS, parent_program="")).text
    assert "```python\n" not in text.replace("a ```python block", "")
    assert "start from" not in text


def test_a_parent_without_a_parent_shows_its_own_score() -> None:
    assert "It is now 0.410000." in render(replace(PARTS, grandparent_score=None)).text


def test_a_reached_target_is_said_to_be_reached() -> None:
    assert "already reached" in render(replace(PARTS, parent_score=0.38)).text


def test_long_output_is_cut_to_its_last_500_characters_and_marked() -> None:
    text = render(replace(PARTS, stdout_tail="x" * 600 + "end")).text
    assert "[earlier output cut]" in text
    assert "x" * 497 + "end" in text
    assert "x" * 498 not in text


def test_output_already_marked_by_the_judge_is_not_cut_again() -> None:
    tail = "[earlier output cut]\n" + "y" * 500
    assert tail in render(replace(PARTS, stdout_tail=tail)).text


def test_a_program_with_fences_inside_is_shown_whole() -> None:
    program = 'TEXT = """\n```python\n```\n"""\n'
    text = render(replace(PARTS, parent_program=program)).text
    assert f"````python\n{program.strip()}\n````" in text


@pytest.mark.parametrize(
    ("language", "tag", "words"),
    [("python", "python", "Python program"), ("cpp", "cpp", "C++20 program"),
     ("json", "json", "solution"), ("text", "text", "solution")],
)  # fmt: skip
def test_one_template_serves_every_language(language: str, tag: str, words: str) -> None:
    text = render(replace(PARTS, language=language)).text
    assert f"```{tag} block" in text
    assert words in text


def test_the_brief_form_keeps_statement_program_and_score() -> None:
    prompt = render(replace(PARTS, brief=True, opening="```python\ndef run():\n"))
    assert prompt.opening == "```python\ndef run():\n"
    assert len(prompt.text) < len(render(PARTS).text) / 2
    for part in ("Find a small h.", "def run():", "0.41", "lower"):
        assert part in prompt.text


def test_shrinking_drops_sections_in_the_fixed_order() -> None:
    long = replace(PARTS, parent_program="\n".join(f"line{i}" for i in range(300)))
    texts, level = [], 0
    while (parts := shrink(long, level)) is not None:
        texts.append(render(parts).text)
        level += 1
    assert [len(t) for t in texts] == sorted((len(t) for t in texts), reverse=True)
    assert "it worked" in texts[0]
    assert "it worked" not in texts[1]
    assert "0.450000" in texts[1]
    assert "0.450000" not in texts[2]
    assert "line299" in texts[2]
    assert "line299" not in texts[3]
    assert "more lines cut" in texts[3]
    assert "line9\n" in texts[-1]


def test_equal_parts_give_equal_prompts() -> None:
    assert render(PARTS) == render(replace(PARTS))
