"""Errors of the machine under the work: the device, its memory, the disk. None blames the work."""

from __future__ import annotations

import errno

from eurekaflow.models.errors import DeviceUnavailable, EurekaError

# PyTorch's, by name: this module must not need PyTorch. Older versions raise plain RuntimeErrors.
_KINDS = {"OutOfMemoryError", "AcceleratorError", "CudaError"}
_WORDS = ("CUDA error", "CUDA out of memory", "cuBLAS", "CUBLAS", "cuDNN error", "NCCL error")
_FULL = (errno.ENOSPC, errno.EDQUOT)


def device_fault(error: BaseException) -> DeviceUnavailable | None:
    """The error as DeviceUnavailable when the machine is at fault, else None."""
    if isinstance(error, EurekaError):
        return None
    names = {kind.__name__ for kind in type(error).__mro__}
    said = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {said[0] if said else 'no reason given'}"
    if isinstance(error, OSError):
        disk = error.errno in _FULL
        message = f"the disk is full: {error}" if disk else f"the machine failed: {text}"
        fix = "free some space, then: eureka resume" if disk else "eureka doctor; eureka resume"
        return DeviceUnavailable(message, fix)
    words = isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)
    if isinstance(error, MemoryError) or names & _KINDS or words:
        fix = "see who else uses the device, or take smaller sizes; then: eureka resume"
        return DeviceUnavailable(f"the device failed: {text}", fix)
    return None
