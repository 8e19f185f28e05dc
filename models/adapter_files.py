"""The files of one version of the weights: adapter, optimizer, PEFT configuration, manifest.

`adapter_model.safetensors` and `adapter_config.json` are PEFT's names: the folder opens with
`PeftModel.from_pretrained`. `manifest.json` names every other file with its sha256. Files are
written and synced here; moving the folder to its final name is the caller's.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from eurekaflow.models.checkpoints import RESTORE, check, sync_folder
from eurekaflow.models.errors import CheckpointDamaged
from eurekaflow.models.faultpoints import reach

ADAPTER = "adapter_model.safetensors"
OPTIMIZER = "optimizer.safetensors"
CONFIG = "adapter_config.json"
MANIFEST = "manifest.json"


def stage(folder: Path, contents: Mapping[str, bytes]) -> dict[str, str]:
    """Write and sync every file and the manifest; returns sha256 by file name."""
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:  # hashing leaves the interpreter's lock
        digests = pool.map(lambda data: hashlib.sha256(data).hexdigest(), contents.values())
    hashes = dict(zip(contents, digests, strict=True))
    manifest = json.dumps({"format": 1, "files": hashes}, indent=2, sort_keys=True).encode()
    for name, data in {**contents, MANIFEST: manifest}.items():
        with (folder / name).open("wb") as file:
            file.write(data)
            file.flush()
            reach("stage_files.before_fsync")
            os.fsync(file.fileno())
            reach("stage_files.after_fsync")
    reach("stage_files.before_folder_fsync")
    sync_folder(folder)
    reach("stage_files.after_folder_fsync")
    return {**hashes, MANIFEST: hashlib.sha256(manifest).hexdigest()}


def checked(folder: Path, sha256: str) -> dict[str, str]:
    """The manifest's hashes, once every file matches and the adapter is the one asked for.

    An empty `sha256` accepts the adapter that the manifest names. Raises CheckpointDamaged.
    """
    try:
        hashes = {str(k): str(v) for k, v in json.loads(_read(folder))["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointDamaged(f"{folder / MANIFEST} is altered: {error}", RESTORE) from error
    if ADAPTER not in hashes or (sha256 and hashes[ADAPTER] != sha256):
        raise CheckpointDamaged(
            f"{folder} holds adapter {hashes.get(ADAPTER)}, expected {sha256}", RESTORE
        )
    check(folder, hashes)
    return hashes


def _read(folder: Path) -> str:
    try:
        return (folder / MANIFEST).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise CheckpointDamaged(f"{folder / MANIFEST} is missing", RESTORE) from error
