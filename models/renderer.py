"""Turns a prompt into token ids and back: chat template, stop tokens, thinking markers.

The template is the tokenizer's own, so any model with one works. What differs between families is
only how thinking ends: Qwen3-style tags and gpt-oss' harmony channels are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eurekaflow.models.policy import Prompt

SYSTEM = "You are a helpful assistant."
SENTENCE = "My thinking budget is used up, so I give my final answer now."


@dataclass(frozen=True, kw_only=True)
class Thinking:
    """How a family closes its thinking part and opens the final answer."""

    marker: str  # in the output once the final answer is open
    closing: str  # the token that ends the thinking part
    opening: str  # what follows it
    before: str = ""  # between a forced sentence and the closing token


QWEN = Thinking(marker="</think>", closing="</think>", opening="\n\n", before="\n")
HARMONY = Thinking(
    marker="<|channel|>final",
    closing="<|end|>",
    opening="<|start|>assistant<|channel|>final<|message|>",
)
HARMONY_STOPS = ("<|return|>", "<|call|>")


class Renderer:
    """Chat rendering of one tokenizer.

    `date` is what templates with a date show; `stop_ids` are the ids that end a response.
    """

    def __init__(self, tokenizer: Any, *, stop_ids: Sequence[int] = (), date: str) -> None:
        self.tokenizer = tokenizer
        self.thinking = _thinking(str(tokenizer.chat_template or ""))
        known = {*stop_ids, tokenizer.eos_token_id} - {None}
        if self.thinking is HARMONY:  # whatever the model's configuration says
            added = tokenizer.get_added_vocab()
            known |= {added[token] for token in HARMONY_STOPS if token in added}
        self.stop_ids = frozenset(int(i) for i in known)
        # Templates with a date ask this function for today's; a macro of its name answers first.
        fixed = f"{{% macro strftime_now(format) %}}{date}{{% endmacro %}}"
        self._template = f"{fixed}{tokenizer.chat_template}"

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """Token ids of the whole prompt, the opened answer included."""
        ids = self.tokenizer.encode(self.render(prompt), add_special_tokens=False)
        return tuple(int(i) for i in ids)

    def render(self, prompt: Prompt) -> str:
        """The text the model continues."""
        if not self.tokenizer.chat_template:
            return f"{prompt.text}\n{prompt.opening}"
        text = self.tokenizer.apply_chat_template(
            self._messages(prompt.text),
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=not prompt.opening,  # an opened answer leaves no room to think
            reasoning_effort="high",
            chat_template=self._template,
        )
        if prompt.opening and self.thinking is HARMONY:
            return f"{text}<|channel|>final<|message|>{prompt.opening}"
        return f"{text}{prompt.opening}"

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """Text of response tokens; special tokens are dropped unless asked for."""
        text = self.tokenizer.decode(
            list(ids), skip_special_tokens=not special, clean_up_tokenization_spaces=False
        )
        return str(text)

    def texts(self, vocabulary: int) -> list[str]:
        """The text of every single token id below `vocabulary`; "" beyond the tokenizer's."""
        known = min(vocabulary, len(self.tokenizer))
        found = self.tokenizer.batch_decode(
            [[i] for i in range(known)], clean_up_tokenization_spaces=False
        )
        return [*map(str, found), *[""] * (vocabulary - known)]

    def answering(self, ids: Sequence[int]) -> bool:
        """Whether a response has already opened its final answer."""
        return self.thinking is not None and self.thinking.marker in self.decode(ids, special=True)

    def forced(self, ids: Sequence[int]) -> tuple[int, ...]:
        """The tokens that end thinking after `ids` and open the final answer."""
        if self.thinking is None:
            return ()
        tail = self.decode(ids[-1:], special=True)
        if tail.strip() == self.thinking.closing:
            text = self.thinking.opening  # the thinking part is closed: no sentence fits in it
        else:
            sentence = f"\n\n{SENTENCE}{self.thinking.before}"
            text = f"{sentence}{self.thinking.closing}{self.thinking.opening}"
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def _messages(self, text: str) -> list[dict[str, str]]:
        user = {"role": "user", "content": text}
        if self.thinking is HARMONY:  # its template writes the system message itself
            return [user]
        return [{"role": "system", "content": SYSTEM}, user]


def _thinking(template: str) -> Thinking | None:
    if "<|channel|>" in template:
        return HARMONY
    return QWEN if "</think>" in template else None
