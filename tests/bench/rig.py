"""What every measurement over HTTP stands on: the mock provider and the load generator in C, and what /proc tells.

One core carries the system under test, the other everything beside it, so that a slow neighbour is never mistaken for a
slow gateway. This process puts itself on the second core, and what it starts inherits that.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from adapters.child import log_tail, start_child, stop_child
from tests.machine import free_port

HERE = Path(__file__).parent
MODELS = ("mock", "mock-50c-10ms", "mock-50c-50ms")
"""What the provider is asked for: whole answers, and streams of 50 pieces that come every 10 or 50 ms."""

BESIDE_CPU = max(os.sched_getaffinity(0))
TESTED_CPU = min(os.sched_getaffinity(0))
_TICKS = os.sysconf("SC_CLK_TCK")
_READY_SECONDS = 120


class NotUp(Exception):
    """A system that does not answer; the message ends with its last words."""


@dataclass
class Rig:
    """A scratch folder with the two compiled programs, and the processes that were started for this run."""

    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        cpus: Sequence[int] = (BESIDE_CPU,),
        environment: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> subprocess.Popen[bytes]:
        """Starts a process on these cores; its log is `<name>.log` in the folder. It ends with this program at the
        latest. Call from the main thread."""
        process = start_child(
            ["taskset", "-c", ",".join(map(str, cpus)), *command],
            log=self.log_of(name),
            death_signal=signal.SIGKILL,
            environment={**os.environ, **(environment or {})},
            pass_fds=pass_fds,
        )
        self.processes.append(process)
        return process

    def log_of(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def start_provider(self, *, only: str | None = None) -> int:
        """A mock provider; `only` lists that model alone. Answers its port."""
        port = free_port()
        command: list[str | Path] = [self.folder / "upstream", "-p", str(port), "-k", *(["-m", only] if only else [])]
        process = self.start(f"provider-{port}", command)
        wait_until(lambda: _answers(port), process, self.log_of(f"provider-{port}"))
        return port

    def load(
        self, port: int, *arguments: object, headers: Sequence[str] = (), keys: Path | None = None
    ) -> dict[str, object]:
        """Runs the load generator to its end; answers its one line of JSON. Its options are in loadgen.c."""
        command = ["taskset", "-c", str(BESIDE_CPU), str(self.folder / "loadgen"), "-p", str(port)]
        command += [str(argument) for argument in arguments]
        command += ["-K", str(keys)] if keys else []
        command += [word for header in headers for word in ("-H", header)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"the load generator failed ({done.returncode}): {done.stderr}")
        return dict(json.loads(done.stdout))

    def stop_all(self) -> None:
        for process in reversed(self.processes):
            if process.poll() is None:
                stop_child(process, how=signal.SIGTERM, patience_seconds=8, finally_how=signal.SIGKILL)
            with suppress(ProcessLookupError):  # whatever it has left behind in its group
                os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def rig() -> Iterator[Rig]:
    """Compiles the programs into a scratch folder, and leaves nothing behind."""
    affinity = os.sched_getaffinity(0)
    folder = Path(tempfile.mkdtemp(prefix="bharatrouter-bench-"))
    folder.chmod(0o711)  # a server started by root runs as another user
    made = Rig(folder)
    # An end from outside is an end like any other: what was started is stopped.
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        os.sched_setaffinity(0, {BESIDE_CPU})
        for name in ("upstream", "loadgen"):
            subprocess.run(["cc", "-O2", "-o", folder / name, HERE / f"{name}.c"], check=True)
        yield made
    finally:
        made.stop_all()
        signal.signal(signal.SIGTERM, before)
        os.sched_setaffinity(0, affinity)
        shutil.rmtree(folder, ignore_errors=True)


def wait_until(
    true: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, *, seconds: float = _READY_SECONDS
) -> None:
    """Raises NotUp when the process ends first, or in `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        if process.poll() is not None or time.monotonic() > deadline:
            raise NotUp(f"ended with {process.returncode}, or not ready in time:\n{log_tail(log)}")
        time.sleep(0.05)


def ask(port: int, model: str, *, headers: Sequence[str] = (), stream: bool = False) -> str:
    """One call, as a client would make it. Raises OSError for a refusal."""
    body: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    named = {"authorization": "Bearer sk-mock", "content-type": "application/json"}
    named |= {name.lower(): value for name, _, value in (header.partition(": ") for header in headers)}
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), named), timeout=10) as reply:
        return str(reply.read().decode())


def serves(port: int, headers: Sequence[str]) -> bool:
    """Whether it answers whole and streamed."""
    try:
        return "choices" in ask(port, MODELS[0], headers=headers) and "[DONE]" in ask(
            port, MODELS[1], headers=headers, stream=True
        )
    except OSError:
        return False


def calls_seen(provider_port: int) -> int:
    """How many requests the provider has had, not counting questions like this one."""
    with urllib.request.urlopen(f"http://127.0.0.1:{provider_port}/stats", timeout=5) as reply:
        stats = json.load(reply)
    asked = _asked[provider_port] = _asked.get(provider_port, 0) + 1
    return int(stats["requests"]) - asked


_asked: dict[int, int] = {}


def _answers(port: int) -> bool:
    try:
        calls_seen(port)
    except OSError:
        return False
    return True


# What /proc tells


def family(root: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu_seconds(roots: Sequence[int], *, without: Sequence[int] = ()) -> float:
    """CPU that these processes, their descendants and those of them that have ended, have used."""
    total = 0
    for pid in {pid for root in roots for pid in family(root)} - {pid for root in without for pid in family(root)}:
        with suppress(OSError):
            total += sum(map(int, _stat(pid)[11:15]))
    return total / _TICKS


def rss_mb(roots: Sequence[int], *, peak: bool = False) -> float:
    """Resident memory of these processes and their descendants, now or at their peaks, summed process by process."""
    total_kb = 0
    for pid in {pid for root in roots for pid in family(root)}:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:" if peak else "VmRSS:"):
                    total_kb += int(line.split()[1])
    return total_kb / 1024


def set_aside(root: int, mark: str) -> list[int]:
    """Moves the descendants whose command line contains `mark` off the tested core, and answers them."""
    found = [pid for pid in family(root)[1:] if mark in Path(f"/proc/{pid}/cmdline").read_text()]
    for pid in found:
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {BESIDE_CPU})
    return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/pid/stat from the state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
