"""GPU memory that two processes share: one allocation, handed over as a file descriptor.

The trusted worker makes the arena and the candidate's worker maps it, so inputs and outputs cross
without a copy through the host, and the expected outputs never have to. A descriptor works across
namespaces, where handles that name a process do not. This is the one file that speaks to the
vendor's driver (CUDA's virtual memory calls, 11.2 and later); everything else goes through torch.

Standalone: the candidate's worker receives this file as text.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

_DEVICE, _PINNED, _DESCRIPTOR, _READ_WRITE = 1, 1, 1, 3
ALIGNMENT = 512  # bytes between tensors in an arena
Spec = tuple[int, str, tuple[int, ...]]  # offset in bytes, name of a torch dtype, shape


class GpuMemoryError(RuntimeError):
    """The driver refused a call; the message names it."""


class _Location(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int), ("device", ctypes.c_int))


class _Properties(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_int),
        ("handles", ctypes.c_int),
        ("location", _Location),
        ("windows", ctypes.c_void_p),
        ("flags", ctypes.c_ubyte * 8),
    )


class _Access(ctypes.Structure):
    _fields_ = (("location", _Location), ("flags", ctypes.c_int))


def _call(name: str, *arguments: Any) -> None:
    library = ctypes.CDLL("libcuda.so.1")
    status = getattr(library, name)(*arguments)
    if status != 0:
        raise GpuMemoryError(f"{name} returned {status}")


class Arena:
    """Bytes on the current device, mapped into this process; torch must have made its context."""

    def __init__(self, size: int, descriptor: int | None = None) -> None:
        """Allocate at least `size` bytes, or map the allocation behind `descriptor`."""
        properties = _Properties(kind=_PINNED, handles=_DESCRIPTOR, location=_Location(_DEVICE, 0))
        granularity, handle = ctypes.c_size_t(), ctypes.c_uint64()
        _call(
            "cuMemGetAllocationGranularity", ctypes.byref(granularity), ctypes.byref(properties), 0
        )
        self.size = math.ceil(size / granularity.value) * granularity.value
        length = ctypes.c_size_t(self.size)
        if descriptor is None:
            _call("cuMemCreate", ctypes.byref(handle), length, ctypes.byref(properties),
                  ctypes.c_uint64(0))  # fmt: skip
        else:
            _call("cuMemImportFromShareableHandle", ctypes.byref(handle),
                  ctypes.c_void_p(descriptor), _DESCRIPTOR)  # fmt: skip
        self._handle, self._address = handle, ctypes.c_uint64()
        zero = ctypes.c_uint64(0)
        _call("cuMemAddressReserve", ctypes.byref(self._address), length, ctypes.c_size_t(0),
              zero, zero)  # fmt: skip
        _call("cuMemMap", self._address, length, ctypes.c_size_t(0), handle, zero)
        access = _Access(_Location(_DEVICE, 0), _READ_WRITE)
        _call("cuMemSetAccess", self._address, length, ctypes.byref(access), ctypes.c_size_t(1))

    def descriptor(self) -> int:
        """A new file descriptor that another process can map."""
        found = ctypes.c_int(-1)
        _call("cuMemExportToShareableHandle", ctypes.byref(found), self._handle, _DESCRIPTOR,
              ctypes.c_uint64(0))  # fmt: skip
        return found.value

    def tensor(self, spec: Spec) -> Any:
        """A contiguous torch tensor over a part of the arena; its storage is that part alone."""
        import torch

        offset, name, shape = spec
        dtype = getattr(torch, name)
        length = math.prod(shape) * dtype.itemsize
        if offset % ALIGNMENT or offset + length > self.size:
            raise GpuMemoryError(f"{shape} {name} at {offset} does not fit {self.size} bytes")
        part = _Part(self._address.value + offset, length)
        return torch.as_tensor(part, device="cuda").view(dtype).view(*shape)


class _Part:
    """Bytes at an address, as the interface torch wraps without copying."""

    def __init__(self, address: int, length: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": (length,),
            "typestr": "|u1",
            "data": (address, False),
            "version": 3,
        }


def place(tensors: list[tuple[str, tuple[int, ...]]], start: int = 0) -> tuple[list[Spec], int]:
    """Where tensors of these dtypes and shapes go, one after another, and the end in bytes."""
    sizes = {"float64": 8, "int64": 8, "float32": 4, "int32": 4, "float16": 2, "bfloat16": 2}
    specs, end = [], start
    for name, shape in tensors:
        specs.append((end, name, tuple(shape)))
        length = math.prod(shape) * sizes[name]
        end += math.ceil(length / ALIGNMENT) * ALIGNMENT
    return specs, end
