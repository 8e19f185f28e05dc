"""MLA decode: one step of multi-head latent attention, as a kernel against the clock.

Scored as in the field: the time at 6144 cached rows; the geometric mean over both timed cases is
in the metrics (`all_cases_us`). Official and strict draw the same inputs here.
"""

from __future__ import annotations

from dataclasses import replace

from eurekaflow.verifiers import mla_texts
from eurekaflow.verifiers.gpu_plan import Plan
from eurekaflow.verifiers.gpu_problem import Kernel, gpu_model, records_of
from eurekaflow.verifiers.gpu_verdict import OFFICIAL
from eurekaflow.verifiers.trimul import cases

LAST = 1  # the benchmark that the field's leaderboard scores


class MlaDecode(Kernel):
    """Minimise the time of one decode step at 6144 rows."""

    name = "mla-decode"
    aliases = ("mla_decode_nvidia",)
    version = "3"
    title = "MLA decode, a GPU kernel"
    target = 1700.0
    task = "mla-decode"
    starter = plain_starter = "mla_kernel.py"
    statement_text = mla_texts.FULL
    records = records_of(mla_texts.RECORDS, gpu_model())
    triton_required = False  # Triton or torch.compile

    def plan(self, mode: str) -> Plan:
        plan = Plan(
            task=self.task,
            entry=self.entry_point,
            benchmarks=cases("BENCHMARKS", "mla_task.py"),
            tests=[{"prefill": rows} for rows in (128, 512, 1024, 2048)],
            hidden=cases("HIDDEN_SHAPES", "mla_task.py"),
            scored=(LAST,),
        )
        return replace(plan, mode=OFFICIAL, hidden=()) if mode == OFFICIAL else plan
