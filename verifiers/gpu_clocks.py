"""The GPU's clocks at a moment, as the driver's own tool says them; nothing where it is absent."""

from __future__ import annotations

import shutil
import subprocess

QUESTION = ["--query-gpu=clocks.sm,clocks.mem", "--format=csv,noheader,nounits", "--id=0"]
PATIENCE_S = 20.0


def now(tool: str = "nvidia-smi") -> dict[str, float]:
    """{"clock_sm_mhz": …, "clock_mem_mhz": …} of the first GPU, or {}."""
    found = shutil.which(tool)
    if found is None:
        return {}
    try:
        done = subprocess.run(
            [found, *QUESTION], capture_output=True, text=True, timeout=PATIENCE_S, check=True
        )
        sm, memory = map(float, done.stdout.splitlines()[0].split(","))
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return {}
    return {"clock_sm_mhz": sm, "clock_mem_mhz": memory}
