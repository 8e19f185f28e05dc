"""numpy arrays to and from Postgres arrays in the binary format, and their content hashes.

Postgres' binary array: five int32 (dimensions, has-nulls, element oid, then length and lower bound
of each dimension), then length and big-endian bytes of each element. An empty array has no
dimension, so only its emptiness survives.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg.abc import AdaptContext, Buffer, PyFormat
from psycopg.adapt import Dumper, Loader
from psycopg.pq import Format

_ELEMENTS: dict[
    np.dtype[Any], tuple[int, int, str]
] = {  # numpy dtype -> (element oid, array oid, wire dtype)
    np.dtype("f8"): (701, 1022, ">f8"),
    np.dtype("f4"): (700, 1021, ">f4"),
    np.dtype("i4"): (23, 1007, ">i4"),
    np.dtype("i8"): (20, 1016, ">i8"),
    np.dtype("?"): (16, 1000, "?"),
}
_BY_OID = {element: dtype for dtype, (element, _, _) in _ELEMENTS.items()}
_LOADED = (1022, 1021, 1007, 1000)  # bigint[] stays a list: paths are short


class ArrayDumper(Dumper):
    """Dumps an ndarray of float64, float32, int32, int64 or bool."""

    format = Format.BINARY
    oid = 0

    def get_key(self, obj: npt.NDArray[Any], format: PyFormat) -> Any:
        return (self.cls, obj.dtype.str)

    def upgrade(self, obj: npt.NDArray[Any], format: PyFormat) -> Dumper:
        dumper = ArrayDumper(self.cls, None)
        dumper.oid = _ELEMENTS[obj.dtype][1]
        return dumper

    def dump(self, obj: npt.NDArray[Any]) -> Buffer:
        return to_wire(obj)


class ArrayLoader(Loader):
    """Loads a binary Postgres array without nulls as an ndarray."""

    format = Format.BINARY

    def load(self, data: Buffer) -> npt.NDArray[Any]:
        return from_wire(bytes(data))


def to_wire(array: npt.NDArray[Any]) -> bytes:
    """Postgres' binary form of `array` (any shape)."""
    oid, _, wire = _ELEMENTS[array.dtype]
    if array.size == 0:
        return struct.pack("!iii", 0, 0, oid)
    shape = b"".join(struct.pack("!ii", length, 1) for length in array.shape)
    cells = np.empty(array.size, dtype=[("length", ">i4"), ("value", wire)])
    cells["length"] = array.dtype.itemsize
    cells["value"] = array.ravel()
    return struct.pack("!iii", array.ndim, 0, oid) + shape + cells.tobytes()


def from_wire(data: bytes) -> npt.NDArray[Any]:
    """The array behind Postgres' binary form."""
    dimensions, _, oid = struct.unpack_from("!iii", data)
    dtype = _BY_OID[oid]
    if dimensions == 0:
        return np.empty(0, dtype=dtype)
    shape = struct.unpack_from("!" + "ii" * dimensions, data, 12)[::2]
    wire = np.dtype([("length", ">i4"), ("value", _ELEMENTS[dtype][2])])
    cells = np.frombuffer(data, dtype=wire, offset=12 + 8 * dimensions)
    return cells["value"].astype(dtype).reshape(shape)


def register(context: AdaptContext | psycopg.Connection[Any]) -> None:
    """Teach a connection to send ndarrays, and to receive them on binary cursors."""
    context.adapters.register_dumper(np.ndarray, ArrayDumper)
    for oid in _LOADED:
        context.adapters.register_loader(oid, ArrayLoader)


def text_hash(stored: str) -> bytes:
    """sha256 under which an escaped text is stored."""
    return hashlib.sha256(b"text\0" + stored.encode()).digest()


def array_hash(array: npt.NDArray[np.float64]) -> bytes:
    """sha256 under which a construction is stored: its shape and exact bytes."""
    head = f"float8{list(array.shape)}\0".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array, dtype="<f8").tobytes()).digest()


def dedupe_key(construction: npt.NDArray[np.float64] | None, program: str) -> bytes | None:
    """What makes two nodes the same: the construction by float equality, else the program.

    Minus zero equals zero. Returns None for a node without construction and program.
    """
    if construction is not None and construction.size:
        return array_hash(construction + 0.0)
    return (
        hashlib.sha256(b"program\0" + program.encode("utf-8", "surrogatepass")).digest()
        if (program)
        else None
    )
