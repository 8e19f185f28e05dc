"""Frames between the supervisor and its GPU workers: 8 bytes of length, then bytes."""

from __future__ import annotations

import json
import socket
import struct
import time

LENGTH = struct.Struct(">Q")
LARGEST = 1 << 22  # what a worker may say at once


class FrameRefused(EOFError):
    """The other side sent bytes that are no frame of ours."""


def receive(
    channel: socket.socket, largest: int = LARGEST, *, within_s: float | None = None
) -> bytes:
    """The next frame, whole within `within_s`, or each part of it within the channel's timeout.

    Raises EOFError when the other side has gone, TimeoutError when it takes longer.
    """
    ends = None if within_s is None else time.monotonic() + within_s
    (length,) = LENGTH.unpack(_exactly(channel, LENGTH.size, ends))
    if length > largest:
        raise FrameRefused(f"a frame of {length} bytes, allowed are {largest}")
    return _exactly(channel, length, ends)


def _exactly(channel: socket.socket, count: int, ends: float | None) -> bytes:
    data = bytearray()
    while len(data) < count:
        if ends is not None:
            if (left := ends - time.monotonic()) <= 0:
                raise TimeoutError
            channel.settimeout(left)
        part = channel.recv(min(count - len(data), 1 << 20))
        if not part:
            raise EOFError("it ended")
        data += part
    return bytes(data)


def send(channel: socket.socket, message: object) -> None:
    """Send one frame of JSON."""
    data = json.dumps(message).encode()
    channel.sendall(LENGTH.pack(len(data)) + data)
