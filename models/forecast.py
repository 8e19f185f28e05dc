"""How much memory a run needs, from the model's configuration alone: does it fit, what to change.

Approximate by design: a forecast made before anything is loaded, within about a quarter of what
was measured for dense models of the Llama kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BF16, FP32 = 2, 4
ADAM = 4 * FP32  # of a trained number: weight, gradient, two moments
LOGITS = 1024 * (FP32 + BF16)  # chunk of tokens whose logits exist at once, bytes per entry


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The numbers of a configuration that memory depends on."""

    layers: int
    width: int
    heads: int
    groups: int
    size: int  # of a head
    inner: int  # of the feed-forward part, or of one expert
    vocabulary: int
    experts: int
    chosen: int  # experts of a token
    tied: bool

    @classmethod
    def of(cls, config: Any) -> Sizes:
        """From a transformers configuration or the contents of a config.json."""
        known = config if isinstance(config, Mapping) else config.to_dict()
        known = known.get("text_config") or known  # of a model that also sees images

        def whole(name: str, default: int = 0) -> int:
            return int(known.get(name) or default)

        width, heads = whole("hidden_size"), whole("num_attention_heads", 1)
        experts = whole("num_local_experts") or whole("num_experts", 1)
        dense = whole("intermediate_size")
        return cls(
            layers=whole("num_hidden_layers"),
            width=width,
            heads=heads,
            groups=whole("num_key_value_heads", heads),
            size=whole("head_dim", width // heads),
            inner=whole("moe_intermediate_size", dense) if experts > 1 else dense,
            vocabulary=whole("vocab_size"),
            experts=experts,
            chosen=whole("num_experts_per_tok", 1),
            tied=bool(known.get("tie_word_embeddings")),
        )

    @property
    def attention(self) -> int:
        """Weights of a layer's attention."""
        return self.width * self.size * (2 * self.heads + 2 * self.groups)

    @property
    def parameters(self) -> int:
        feed = 3 * self.width * self.inner * self.experts
        tables = self.vocabulary * self.width * (1 if self.tied else 2)
        return self.layers * (self.attention + feed) + tables

    def adapter(self, rank: int, *, experts: bool = False) -> int:
        """Trained numbers of a LoRA adapter on every linear layer and the output head.

        `experts`: on those of a mixture as well.
        """
        query, key = self.heads * self.size, self.groups * self.size
        attention = 2 * (self.width + query) + 2 * (self.width + key)
        feed = 3 * (self.width + self.inner) if self.experts == 1 else 0
        if experts and self.experts > 1:  # gate and up are one parameter there
            feed = self.experts * (2 * self.width + 3 * self.inner)
        return rank * (self.layers * (attention + feed) + self.width + self.vocabulary)

    @property
    def key_bytes(self) -> int:
        """Keys and values of one token in all layers."""
        return 2 * self.layers * self.groups * self.size * BF16


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Bytes a run needs on its device, where sampling and update take turns."""

    weights: int
    adapter: int  # with Adam's moments and gradients
    sampling: int  # keys, values and logits of all rows in flight
    row: int  # of one row: the others can wait
    update: int  # activations of the smallest micro-batch, logits of a chunk
    available: int

    @property
    def needed(self) -> int:
        return self.weights + self.adapter + max(self.row, self.update)

    @property
    def fits(self) -> bool:
        return self.needed <= self.available

    @property
    def all_rows_fit(self) -> bool:
        return self.weights + self.adapter + max(self.sampling, self.update) <= self.available


def forecast(
    config: Any,
    *,
    available: int,
    rows: int,
    tokens: int,
    prompt: int,
    lora_rank: int,
    checkpointing: bool,
    lora_experts: bool = False,
    weight_bytes: int = BF16,
) -> Forecast:
    """Memory for `rows` responses of up to `tokens` tokens in flight and their update.

    `prompt`: tokens of the longest prompt. One response must fit the update; how many more fit is
    chosen at run time.
    """
    sizes = Sizes.of(config)
    each = activation_bytes(config, learning=True, checkpointing=checkpointing)
    head = sizes.vocabulary * (sizes.width + lora_rank) * BF16  # the sampler's own copy
    row = tokens * sizes.key_bytes + sizes.vocabulary * FP32
    return Forecast(
        weights=sizes.parameters * weight_bytes,
        adapter=sizes.adapter(lora_rank, experts=lora_experts) * (ADAM + BF16) + head,
        sampling=rows * row,
        row=row,
        update=(prompt + tokens) * each + sizes.vocabulary * LOGITS,
        available=available,
    )


def advice(found: Forecast, *, checkpointing: bool) -> str:
    """What to change where not everything fits; "" where it does."""
    if found.all_rows_fit:
        return ""
    if found.fits:
        return "lower --set max_new_tokens or --group-size, or let responses wait for each other"
    if found.weights + found.adapter > found.available:
        return "use a smaller model (--model), or a device with more memory"
    if not checkpointing and found.update >= found.row:
        return "--set checkpointing=true, which keeps few activations and computes them twice"
    return "lower --set max_new_tokens"


def activation_bytes(config: Any, *, learning: bool, checkpointing: bool) -> int:
    """Of one token in a micro-batch: what the backward pass keeps, or one layer's at a time."""
    s = Sizes.of(config)
    across = s.size * (s.heads + 2 * s.groups)
    feed = s.inner * s.chosen
    # Inputs and outputs of linear layers, float32 copies in norms, the gated activation's parts.
    layer = BF16 * (9 * s.width + 4 * across + 4 * feed) + FP32 * 2 * s.width
    if not learning:
        return layer + BF16 * 4 * s.width
    if checkpointing:
        return s.layers * BF16 * s.width + 2 * layer
    return s.layers * layer
