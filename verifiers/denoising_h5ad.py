"""Reading counts from a user's .h5ad file with h5py: dense, CSR and CSC, old and new layouts.

What it checks: the matrix exists, is two-dimensional, and holds whole numbers that are not
negative. scanpy is not needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix

from eurekaflow.verifiers.denoising_data import DataSet
from eurekaflow.verifiers.denoising_metrics import Counts, filtered
from eurekaflow.verifiers.problem import PrerequisiteAbsent


def read(
    path: Path, *, layer: str = "", obs_key: str = "", obs_value: str = "", name: str = ""
) -> DataSet:
    """The filtered counts of a file, of those cells whose `obs_key` is `obs_value` when given.

    Raises PrerequisiteAbsent without h5py and ValueError for what holds no counts.
    """
    try:
        import h5py
    except ImportError:
        raise PrerequisiteAbsent(
            "reading .h5ad files needs h5py, which is not installed",
            "pip install 'eurekaflow[h5ad]'",
        ) from None
    try:
        with h5py.File(path, "r") as file:
            counts = whole(_matrix(file, layer), path)
            if obs_key:
                counts = counts[_selected(file, obs_key, obs_value)]
    except OSError as error:
        raise ValueError(f"{path} cannot be read as .h5ad: {error}") from None
    kept = filtered(counts)
    if min(kept.shape) < 2:
        raise ValueError(f"{path} has {kept.shape[0]} cells and {kept.shape[1]} genes with counts")
    return DataSet(name=name or path.stem, counts=kept)


def whole(values: Any, path: Path) -> Counts:
    """The values as integers. Raises ValueError for fractions, negatives and NaN."""
    if values.ndim != 2:
        raise ValueError(f"{path}: the matrix has {values.ndim} dimensions, needed are 2")
    if not np.isfinite(values).all() or values.min(initial=0) < 0:
        raise ValueError(f"{path}: counts must be finite and not negative")
    counts = np.rint(values).astype(np.int32)
    if not np.array_equal(counts, values):
        raise ValueError(
            f"{path}: the values are no counts (not whole numbers); "
            "name the layer that holds them, such as --layer counts"
        )
    return np.asarray(counts)


def _matrix(file: Any, layer: str) -> Any:
    """The dense matrix of X, of raw/X (`raw`), or of a layer."""
    place = {"": "X", "raw": "raw/X"}.get(layer, f"layers/{layer}")
    if place not in file:
        layers = ", ".join(sorted(file["layers"])) if "layers" in file else "none"
        raise ValueError(f"there is no matrix {place!r}; layers: {layers}")
    stored = file[place]
    if hasattr(stored, "dtype"):
        return stored[:]
    kind = stored.attrs.get("encoding-type", stored.attrs.get("h5sparse_format", "csr"))
    shape = stored.attrs.get("shape", stored.attrs.get("h5sparse_shape"))
    parts = (stored["data"][:], stored["indices"][:], stored["indptr"][:])
    build = csc_matrix if "csc" in str(kind) else csr_matrix
    return build(parts, shape=tuple(shape)).toarray()


def _selected(file: Any, key: str, value: str) -> Any:
    """Which cells have `value` in the column `key` of obs."""
    obs = file["obs"]
    names = obs.dtype.names if hasattr(obs, "dtype") else tuple(obs)
    if key not in names:
        raise ValueError(f"obs has no column {key!r}; it has: {', '.join(names)}")
    column = obs[key]
    if hasattr(column, "keys"):  # categorical: codes into categories
        labels = _text(column["categories"][:])[column["codes"][:]]
    elif "__categories" in obs and key in obs["__categories"]:
        labels = _text(obs["__categories"][key][:])[column[:]]
    else:
        labels = _text(column[:])
    chosen = labels == value
    if not chosen.any():
        seen = ", ".join(sorted(set(labels.tolist()))[:10])
        raise ValueError(f"no cell has {key} = {value!r}; there are: {seen}")
    return chosen


def _text(values: Any) -> Any:
    return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in values])
