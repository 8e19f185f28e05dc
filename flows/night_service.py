"""`eureka nightly serve`: keeps Prefect and a worker up, and looks after what they forget.

Every so often it makes Prefect agree with the archive, begins nights that are due and that nobody
began (the machine was off, Prefect's records were lost), and begins crashed nights again. All of
that is safe to repeat and to do twice: a night is claimed in the archive.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from eurekaflow.flows import launch
from eurekaflow.flows.configure import Surroundings
from eurekaflow.flows.night_plan import DUE_TAG, NIGHT_TAG, newest_due, plan_of
from eurekaflow.flows.night_work import miss
from eurekaflow.flows.prefect_server import HEARTBEATS
from eurekaflow.models.archive import Archive
from eurekaflow.models.daemons import command_line, is_alive, tail
from eurekaflow.models.errors import EurekaError
from eurekaflow.models.machine_lock import holder
from eurekaflow.models.nights import NightRow, ScheduleRow
from eurekaflow.models.states import NightState
from eurekaflow.tasks.metering import tree

PATIENCE = timedelta(seconds=120)  # given to Prefect and its worker before we step in
EVER = datetime.min.replace(tzinfo=UTC)
WORKER_END_S = 60.0  # for a run to save itself when the service ends


@dataclass
class Service:
    """What the loop remembers from one look to the next; losing it costs nothing."""

    here: Surroundings
    url: str
    patience: timedelta = PATIENCE
    worker: subprocess.Popen[bytes] | None = None
    asked: dict[str, datetime] = field(default_factory=dict)  # night -> when it was begun again
    faults: dict[str, tuple[datetime, str]] = field(default_factory=dict)  # of worker and Prefect
    since: datetime = field(default_factory=lambda: datetime.now(UTC))

    def look(self, now: datetime) -> list[str]:
        """One look at everything; what was done, in words. A fault is words, too."""
        done: list[str] = []
        try:
            archive = Archive(self.url)
        except EurekaError as error:
            return [error.message]
        try:
            self.keep_prefect()
            self.keep_worker()
            from eurekaflow.flows.deployments import synchronise

            done += synchronise(archive, now)
            for row in archive.schedules():
                done += self.begin_due(archive, row, now)
                done += self.begin_crashed(archive, row, now)
        except Exception as error:
            done.append(f"{type(error).__name__}: {error}".splitlines()[0])
            self.faults["Prefect"] = now, done[-1]
        finally:
            archive.close()
        return done

    def keep_prefect(self) -> None:
        """Bring Prefect's server back if it is gone, or alive without its database."""
        from eurekaflow.flows.prefect_faults import revive
        from eurekaflow.flows.prefect_server import prefect_status

        if self.here.prefect_api_url is None and not prefect_status(self.here.home).running:
            revive(self.here.home)

    def keep_worker(self) -> None:
        """Start the worker unless it lives."""
        if self.worker is not None and (code := self.worker.poll()) is not None:
            words = f"the worker ended with {code}: {last_words(worker_log(self.here))}"
            self.faults["worker"] = datetime.now(UTC), words
            self.worker = None
        if self.worker is None:
            self.worker = start_worker(self.here)

    def fault(self, due: datetime) -> str:
        """What broke here when a night was due, or since; empty when nothing did."""
        if due < self.since - self.patience:
            return ""  # before this service was there
        return "; ".join(text for at, text in self.faults.values() if at >= due - self.patience)

    def begin_due(self, archive: Archive, row: ScheduleRow, now: datetime) -> list[str]:
        """Begin the newest due night when Prefect has not; skip what is over."""
        if row.paused:
            return []
        found, missed = newest_due(row, plan_of(row.plan), now)
        for due in missed:
            miss(archive, row, due, self.fault(due))
        if found is None or now - found.at < self.patience:
            return [f"{row.name}: missed {due:%Y-%m-%d %H:%M} UTC" for due in missed]
        return self.begin(row, f"due {found.at:%Y-%m-%d %H:%M:%S} UTC", [DUE_TAG], now)

    def begin_crashed(self, archive: Archive, row: ScheduleRow, now: datetime) -> list[str]:
        """Begin nights again that say they run while nobody has them."""
        done: list[str] = []
        for night in archive.nights(row.id, 3):
            if night.state != NightState.RUNNING or holder(self.url, f"night {night.id}"):
                continue
            if archive.at_work(night):  # its lock went with a restart of the database
                continue
            if night.starts > plan_of(row.plan).most_resumes:
                text = f"crashed {night.starts} times; left alone: eureka doctor, eureka runs"
                self.give_up(archive, night, text)
            elif night.deadline_at is not None and night.deadline_at <= now:
                text = "crashed, and its time was over before it could be begun again"
                self.give_up(archive, night, text)
            elif not self.crash_in_prefect(night):
                name = f"{NIGHT_TAG}{night.id}"
                done += self.begin(row, f"{name}, start {night.starts + 1}", [name], now)
        return done

    def give_up(self, archive: Archive, night: NightRow, text: str) -> None:
        """End a crashed night, and leave the report that its process could not write."""
        archive.end_night(night.id, NightState.FAILED, text)
        if (last := archive.last_run(night.schedule_id)) is not None:
            launch.leave_page(self.url, self.here.home, str(last.uuid))

    def crash_in_prefect(self, night: NightRow) -> bool:
        """Have Prefect see that a night's process is gone; its automation begins it again.

        Whether that can be waited for: False once it had its chance, or without such a record.
        """
        from eurekaflow.flows.deployments import declare_crashed

        key = f"crash of night {night.id}, start {night.starts}"
        if key in self.asked or night.flow_run_id is None:
            return datetime.now(UTC) - self.asked.get(key, EVER) < self.patience
        self.asked[key] = datetime.now(UTC)
        return declare_crashed(night.flow_run_id)

    def begin(self, row: ScheduleRow, what: str, tags: list[str], now: datetime) -> list[str]:
        """Ask a worker for a night, once; again when nothing came of it."""
        from prefect.client.orchestration import get_client

        from eurekaflow.flows.deployments import begin_again

        key = f"{row.name} {what}"
        if now - self.asked.get(key, EVER) < 2 * self.patience:
            return []
        self.asked[key] = now
        with get_client(sync_client=True) as client:
            begin_again(client, row.name, tags=tags)
        return [f"{row.name}: began {what}"]


def serve(here: Surroundings, *, interval_s: float, patience_s: float) -> None:
    """Look after the schedules until a signal comes."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with launch.services(here, lambda event: None) as url:
        service = Service(here, url, timedelta(seconds=patience_s))
        try:
            while not stop.is_set():
                for line in service.look(datetime.now(UTC)):
                    print(line, file=sys.stderr, flush=True)
                stop.wait(interval_s)
        finally:
            end_worker(service.worker)


def start_worker(here: Surroundings) -> subprocess.Popen[bytes]:
    """A Prefect worker of the pool, one night at a time, in a process of its own."""
    from eurekaflow.flows.deployments import POOL

    command = [sys.executable, "-P", "-m", "prefect", "worker", "start"]
    options = ["--pool", POOL, "--type", "process", "--limit", "1", "--name", platform.node()]
    variables = {**os.environ, **HEARTBEATS, "EUREKA_HOME": str(here.home)}
    log = worker_log(here)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        return subprocess.Popen(
            [*command, *options],
            env=variables,
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )


def worker_log(here: Surroundings) -> Path:
    """What the worker says."""
    return Path(here.home) / "prefect" / "worker.log"


def last_words(log: Path) -> str:
    """The last line of a log that says something, or where to look."""
    said = [line.strip() for line in tail(log).splitlines() if line.strip()]
    return f"{said[-1]} ({log})" if said else f"see {log}"


def end_worker(worker: subprocess.Popen[bytes] | None) -> None:
    """Terminate what the worker runs, so that runs save themselves, then the worker."""
    if worker is None or worker.poll() is not None:
        return
    end_flows(worker.pid)
    worker.terminate()
    try:
        worker.wait(WORKER_END_S)
    except subprocess.TimeoutExpired:
        worker.kill()


def end_flows(worker: int) -> None:
    """Terminate the flow runs below a worker and wait until they have ended."""
    below = {pid: command_line(pid) for pid in tree(worker) if pid != worker}
    flows = [pid for pid, command in below.items() if "prefect" in command]
    for pid in flows:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    limit = time.monotonic() + WORKER_END_S
    while any(map(is_alive, flows)) and time.monotonic() < limit:
        time.sleep(0.1)
