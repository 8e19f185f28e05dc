"""What Triton and PyTorch have compiled of a program, carried from one process of it to another.

Standalone (standard library): the candidate's worker receives this file as text. Written and read
beside untrusted code, by processes of the same program only: it can harm nobody else.
"""

from __future__ import annotations

import base64
import contextlib
import io
import os
import tarfile
import tempfile

COMPILED = ("triton", "inductor")  # folders of the scratch folder


def pack() -> str:
    """What Triton and PyTorch have compiled, as text."""
    packed, scratch = io.BytesIO(), tempfile.gettempdir()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
        for name in COMPILED:
            if os.path.isdir(os.path.join(scratch, name)):
                archive.add(os.path.join(scratch, name), name)
    return base64.b64encode(packed.getvalue()).decode()


def unpack(packed: str) -> None:
    """Put back what `pack` gave; what it cannot have given is left, and compiled anew."""
    with (
        contextlib.suppress(tarfile.TarError, ValueError, OSError, EOFError),
        tarfile.open(fileobj=io.BytesIO(base64.b64decode(packed)), mode="r:gz") as archive,
    ):
        archive.extractall(tempfile.gettempdir(), filter="data")
