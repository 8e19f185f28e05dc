"""A finding of `eureka doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["pass", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """What one check found, and the command that fixes it where there is something to fix."""

    name: str
    status: Status
    message: str
    fix: str = ""
