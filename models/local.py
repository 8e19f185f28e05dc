"""The local policy: a Hugging Face folder on this machine, sampled and trained with LoRA.

One copy of the base model and one float32 adapter serve the sampler, the trainer and, switched
off, the base log-probs. On a CPU with fixed threads everything is deterministic, so a wave can be
replayed bit for bit; on CUDA it cannot, and only missing slots are asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import safetensors.torch as st
import torch
from safetensors import SafetensorError

from eurekaflow.models import adapter, adapter_files, expert_adapter
from eurekaflow.models.checkpoints import RESTORE
from eurekaflow.models.decode_step import FusedHead, ModuleDecoder, decoder_of
from eurekaflow.models.errors import CheckpointDamaged, UsageError
from eurekaflow.models.fingerprint import of_policy
from eurekaflow.models.group_sampler import GroupSampler
from eurekaflow.models.llama_forward import ORDER
from eurekaflow.models.loading import device_named, dtype_named, load_model, stop_ids_of
from eurekaflow.models.paged_attention import Shape
from eurekaflow.models.policy import (
    Prompt,
    Response,
    TrainedGroup,
    UpdateReport,
    UpdateSettings,
    Version,
    Wave,
    in_turn,
)
from eurekaflow.models.renderer import Renderer
from eurekaflow.models.sampler import WaveSampler
from eurekaflow.models.trainer import State, Trainer


class LocalPolicy:
    """A causal language model from `folder` with a LoRA adapter on every linear layer.

    `seed` draws the adapter of version 0; `threads` is the number of CPU threads; `date` is what
    chat templates with a date show; `lora_experts` adapts a mixture's experts too. Threads and
    determinism are settings of the whole process. Raises PrerequisiteMissing where the folder or
    the device cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        *,
        lora_rank: int,
        lora_alpha: float,
        seed: int,
        threads: int,
        device: str = "auto",
        dtype: str = "auto",
        date: str = "2026-01-01",
        lora_experts: bool = False,
    ) -> None:
        self.folder, self.seed, self.threads = folder, seed, threads
        self.rank, self.alpha = lora_rank, lora_alpha
        self.device = device_named(device)
        self.dtype = dtype_named(dtype, self.device)
        torch.set_num_threads(threads)
        if self.device.type == "cpu":
            torch.use_deterministic_algorithms(True)
            # Filling new memory costs 3 % and changes nothing: no kernel here reads it unwritten.
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        self._model, tokenizer = load_model(folder, self.device, self.dtype)
        size: dict[str, Any] = {"rank": lora_rank, "alpha": lora_alpha}
        self._layers = adapter.attach(self._model, **size)
        if lora_experts:
            self._layers |= _experts(self._model, folder, **size)
        decoder, head = self._model.get_decoder(), self._model.get_output_embeddings()
        head.cap = getattr(self._model.config, "final_logit_softcapping", None)
        self.renderer = Renderer(tokenizer, stop_ids=stop_ids_of(self._model), date=date)
        self._sampler = WaveSampler(decoder, head, self.renderer)
        self._together: GroupSampler | None = None
        if self.device.type == "cuda":
            self._together = together(decoder, head, self.renderer)
        self._trainer = Trainer(decoder, head, self._layers)
        self._resident: tuple[int, str] | None = None  # number and hash; None: dirty

    @property
    def trainable(self) -> bool:
        return True

    @property
    def replay(self) -> Literal["exact", "salvage"]:
        return "exact" if self.device.type == "cpu" else "salvage"

    @property
    def concurrent(self) -> bool:
        return self.device.type == "cuda"

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        return self.renderer.encode(prompt)

    def fingerprint(self) -> dict[str, str]:
        kind = adapter.matmul_kind(self._model.get_output_embeddings().weight)
        kernel = f"{kind}, order {ORDER}"
        return of_policy(
            self.folder, device=self.device, dtype=self.dtype, threads=self.threads, kernel=kernel
        )

    def holds(self, version: Version) -> bool:
        if self._resident is None:
            return False
        number, sha256 = self._resident
        return sha256 == version.sha256 and (number == version.number or bool(sha256))

    def ensure(self, version: Version) -> None:
        if self.holds(version):
            self._resident = (version.number, version.sha256)
            return
        self._resident = None
        if version.folder is None:
            adapter.reset(self._layers, seed=self.seed)
            self._trainer.restore({})
        else:
            self._read(version.folder, version.sha256)
        self._refresh()
        self._resident = (version.number, version.sha256)

    def sample(self, wave: Wave) -> Iterator[Response]:
        self._number()
        return self._sampler.sample(wave)

    def sample_together(self, waves: Sequence[Wave]) -> Iterator[tuple[int, Response]]:
        self._number()
        if self._together is None:
            return in_turn(self, waves)
        return self._together.sample(waves)

    def update(
        self, groups: Sequence[TrainedGroup], settings: UpdateSettings, staging: Path | None
    ) -> UpdateReport:
        number = self._number()
        self._resident = None  # until the update is whole, the weights are no version
        metrics = self._trainer.update(groups, settings)
        self._refresh()
        files = {} if staging is None else adapter_files.stage(staging, self._contents())
        sha256 = files.get(adapter_files.ADAPTER) or hashlib.sha256(self._weights()).hexdigest()
        self._resident = (number + 1, sha256)
        return UpdateReport(metrics=metrics, files=files, sha256=sha256)

    def save(self, staging: Path) -> dict[str, str]:
        self._number()
        return adapter_files.stage(staging, self._contents())

    def close(self) -> None:
        self._resident = None

    def _refresh(self) -> None:
        if self._together is not None:
            self._together.refresh()

    def _number(self) -> int:
        if self._resident is None:
            raise RuntimeError("no version is resident: call ensure(version) first")
        return self._resident[0]

    def _weights(self) -> bytes:
        weights = {name: p.detach().cpu() for name, p in self._trainer.parameters.items()}
        return st.save(weights, {"format": "pt"})

    def _contents(self) -> dict[str, bytes]:
        moments = {
            f"{kind}/{name}": tensor.cpu().reshape(tensor.shape)
            for name, tensors in self._trainer.state().items()
            for kind, tensor in tensors.items()
        }
        return {
            adapter_files.ADAPTER: self._weights(),
            adapter_files.OPTIMIZER: st.save(moments),
            adapter_files.CONFIG: adapter.peft_config(
                self._layers,
                rank=self.rank,
                alpha=self.alpha,
                experts=expert_adapter.targets(self._layers),
            ),
        }

    def _read(self, folder: Path, sha256: str) -> None:
        adapter_files.checked(folder, sha256)
        try:
            weights = st.load_file(folder / adapter_files.ADAPTER)
            moments = st.load_file(folder / adapter_files.OPTIMIZER)
            self._take(weights, moments)
        except (SafetensorError, KeyError, RuntimeError, OSError) as error:
            raise CheckpointDamaged(
                f"{folder} does not fit this model and rank {self.rank}: {error}", RESTORE
            ) from error

    @torch.no_grad()
    def _take(self, weights: dict[str, torch.Tensor], moments: dict[str, torch.Tensor]) -> None:
        for name, parameter in self._trainer.parameters.items():
            parameter.copy_(weights[name])
        state: State = {}
        for key, tensor in moments.items():
            kind, name = key.split("/", 1)
            where = "cpu" if kind == "step" else self.device
            state.setdefault(name, {})[kind] = tensor.to(where).clone()
        self._trainer.restore(state)


def together(
    decoder: Any, head: adapter.AdaptedLinear, renderer: Renderer, *, fused: bool = True
) -> GroupSampler:
    """The sampler that has all groups in flight; `fused` writes the decode step out if it can."""
    config = decoder.config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    shape = Shape(
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        groups=config.num_key_value_heads,
        size=size,
        dtype=head.weight.dtype,
        device=head.weight.device,
    )
    step = decoder_of(decoder) if fused else ModuleDecoder(decoder)
    return GroupSampler(decoder, step, FusedHead(head), renderer, shape)


def _experts(model: Any, folder: Path, *, rank: int, alpha: float) -> dict[str, adapter.Adapter]:
    """The experts' adapters. Raises UsageError for a model without experts."""
    found = expert_adapter.attach(model, rank=rank, alpha=alpha)
    if not found:
        raise UsageError(
            f"lora_experts is set, but {folder} has no experts that can be adapted",
            "leave it out: --set lora_experts=false",
        )
    return found
