"""`bharatrouter up`: the whole product as children of one process, which starts, watches, restarts and stops
them.

It holds a lock on the home folder, so that two products never share one state. PostgreSQL and Valkey start
first, unless they are given by URL; then the migrations run, then everything that serves. Whatever dies is
started again. When this process is killed, the kernel ends every child with it.
"""

import fcntl
import http.client
import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from adapters.child import log_tail, start_child, stop_child
from adapters.embedded import CannotStart, Postgres, Valkey, make_home
from adapters.settings import Settings, key_pepper, running_product
from adapters.sign_in import is_loopback

STOPPED, FAILED, LOCKED = 0, 1, 3

_DELAY_SECONDS_MIN = 0.1
_DELAY_SECONDS_MAX = 5.0
_SETTLED_AFTER_SECONDS = 30
_DATABASE_SECONDS_MAX = 300  # recovery after a crash may take minutes
_READY_SECONDS_MAX = 120
_PARTING_SECONDS = 2  # for a gateway to end the calls that took longer than it may wait for
_LOG_BYTES_MAX = 10_000_000
_LISTEN_BACKLOG = 4096
_DEMO_MODEL = "sarvam-105b"
_PAYMENT_SECRETS = ("BR_RAZORPAY_KEY_ID", "BR_RAZORPAY_KEY_SECRET", "BR_RAZORPAY_WEBHOOK_SECRETS")
_SIMULATED_KEY_ID = "rzp_test_simulator00000"
_IDENTITY_SECRETS = (
    "BR_GITHUB_CLIENT_ID",
    "BR_GITHUB_CLIENT_SECRET",
    "BR_GOOGLE_CLIENT_ID",
    "BR_GOOGLE_CLIENT_SECRET",
)


def up(settings: Settings, *, program: Sequence[str | Path] = (), output: IO[str] | None = None) -> int:
    """Runs the product until it is told to stop; call it from the main thread. Answers the exit code of the
    process: 0 after Ctrl-C or SIGTERM, 1 when it could not start, 3 when another one holds the home.

    `program` is the command line that `serve`, `migrate` and the others are appended to; by default the
    `bharatrouter` beside this Python.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("children die with the thread that started them: call this from the main thread")
    if not program:
        program = [Path(sys.executable).with_name("bharatrouter")]
    say = partial(_say, sys.stdout if output is None else output)
    try:
        make_home(settings.home)
        with _lock(settings.home), _Signals() as signals:
            product = _Product(settings, program, say, signals)
            try:
                product.start()
                product.watch()
            except _Stop:
                say("Stopping …")
            finally:
                product.stop()
            say("Stopped.")
            return STOPPED
    except _Locked as failure:
        say(str(failure))
        return LOCKED
    except _Stop:
        return STOPPED
    except (CannotStart, PermissionError) as failure:
        say(f"BharatRouter cannot start. {failure}")
        return FAILED


def has_provider_key(environment: Mapping[str, str]) -> bool:
    """Whether any provider is configured: a variable `BR_KEY_…` that is not the pepper of our own keys."""
    return any(name.startswith("BR_KEY_") and name != "BR_KEY_PEPPER" and value for name, value in environment.items())


class _Stop(Exception):
    """The operator wants the product to stop."""


class _Locked(Exception):
    """Another product runs from this home."""


class _Signals:
    """SIGINT, SIGTERM and SIGHUP as a request to stop that `pause` hears, and no interruption anywhere
    else.
    """

    _WISHES = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.wishes = 0
        self._reader, self._writer = socket.socketpair()

    def __enter__(self) -> "_Signals":
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._wakeup_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        # What is ignored stays so: `nohup` and a shell's `&` mean it.
        self._handlers_before = {
            number: signal.signal(number, self._heard)
            for number in self._WISHES
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        # A handler that does nothing is still one: without it the end of a child would wake nobody.
        self._handlers_before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)
        self._reader.close()
        self._writer.close()

    def pause(self, seconds: float) -> None:
        """Sleeps, less long when a signal comes or a child ends."""
        if select.select([self._reader], [], [], max(0.0, seconds))[0]:
            with suppress(BlockingIOError):
                self._reader.recv(4096)

    def _heard(self, *_: object) -> None:
        self.wishes += 1


@dataclass(kw_only=True)
class _Watched:
    """A child that is started again when it ends."""

    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    log: Path
    process: subprocess.Popen[bytes]
    started_at: float
    delay_seconds: float = _DELAY_SECONDS_MIN
    restart_at: float | None = None


class _Product:
    def __init__(
        self, settings: Settings, program: Sequence[str | Path], say: Callable[[str], None], signals: _Signals
    ) -> None:
        self._settings = settings
        self._program = program
        self._say = say
        self._signals = signals
        self._home = settings.home
        self._environment = dict(os.environ) | {"BHARATROUTER_HOME": str(settings.home)}
        self._watched: list[_Watched] = []
        self._servers: list[Postgres | Valkey] = []
        self._listener: socket.socket | None = None
        self._simulator_url = settings.simulator_url
        self._payments_url: str | None = None
        self._identity_url: str | None = None
        self._starting = True

    def start(self) -> None:
        """Everything up to the line that can be pasted. Raises CannotStart, or _Stop when asked to stop
        meanwhile.
        """
        settings = self._settings
        self._listener = _bind(settings.host, settings.port)
        self._environment.setdefault("BR_PUBLIC_URL", self._address)
        if settings.smtp_url is None and settings.smtp_host is None:
            self._environment.setdefault("BR_MAIL_FOLDER", str(self._home / "mail"))
        key_pepper(settings)
        self._start_servers()
        self._run_to_its_end("migrate")
        self._start_simulators()
        for number in range(1, settings.web_processes + 1):
            fd = self._listener.fileno()
            self._watch_command(f"gateway-{number}", "serve", "--fd", str(fd), pass_fds=(fd,))
        self._watch_command("projector", "project")
        self._watch_command("worker", "work")
        self._watch_command("scheduler", "schedule")
        self._listener.listen(_LISTEN_BACKLOG)
        self._write_run_file()
        self._wait_until(self._gateway_is_ready, "the gateway", seconds_max=_READY_SECONDS_MAX)
        self._starting = False
        self._announce()

    def watch(self) -> None:
        """Starts again whatever dies, until the operator wants to stop: raises _Stop."""
        while True:
            self._look_after_children()
            soonest = min((child.restart_at for child in self._watched if child.restart_at), default=None)
            self._pause(1.0 if soonest is None else min(1.0, soonest - time.monotonic()))

    def stop(self) -> None:
        """Gateways first, so that calls in flight can still be settled; the database last. A second Ctrl-C is
        taken as haste: nothing is waited for but the servers, which lose nothing.
        """
        (self._home / "run.json").unlink(missing_ok=True)
        if self._listener is not None:
            self._listener.close()
        gateways = [child for child in self._watched if child.name.startswith("gateway-")]
        simulators = [child for child in self._watched if child.name in ("simulator", "payments", "identity")]
        servers = [child for child in self._watched if child.name in ("postgres", "valkey")]
        workers = [child for child in self._watched if child not in gateways + simulators + servers]
        for group in (gateways, workers, simulators):
            self._stop_group(group)
        for server in reversed(self._servers):
            server.stop()

    @property
    def _address(self) -> str:
        """Where the operator reaches the product from this machine."""
        assert self._listener is not None
        host, port = self._listener.getsockname()[:2]
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
        return f"http://{host}:{port}"

    def _start_servers(self) -> None:
        given = {"DATABASE_URL": self._settings.database_url, "REDIS_URL": self._settings.redis_url}
        kinds: dict[str, type[Postgres] | type[Valkey]] = {"DATABASE_URL": Postgres, "REDIS_URL": Valkey}
        for name, url in given.items():
            if url is None:
                server = kinds[name](self._home)
                _keep_short(server.log)
                self._servers.append(server)
                self._watch(server.name, partial(_started, server), log=server.log)
                url = server.url
            self._environment[name] = url
        for server in self._servers:
            self._wait_until(server.is_ready, server.name, seconds_max=_DATABASE_SECONDS_MAX)

    def _start_simulators(self) -> None:
        """Stand in for the providers while none is configured; and while nobody but this machine can reach us, for
        Razorpay if it has no key, and for GitHub and Google if we are registered with neither."""
        started = []
        if self._simulator_url is None and not has_provider_key(self._environment):
            started.append("simulator")
            self._start_simulator("simulator")
        if self._settings.razorpay_key_id is None and self._is_local():
            started.append("payments")
            made = (_SIMULATED_KEY_ID, secrets.token_urlsafe(24), secrets.token_urlsafe(24))
            self._environment |= dict(zip(_PAYMENT_SECRETS, made, strict=True))
            webhook, state = f"{self._address}/webhooks/razorpay", str(self._home / "payments.json")
            self._start_simulator("payments", "--webhook", webhook, "--state", state, "payments")
        if self._may_simulate_sign_in():
            started.append("identity")
            self._environment |= {name: secrets.token_urlsafe(24) for name in _IDENTITY_SECRETS}
            self._start_simulator("identity", "identity")
        for name in started:
            self._wait_until(partial(self._announced, name), f"the {name} child", seconds_max=_READY_SECONDS_MAX)
        if "simulator" in started:
            self._simulator_url = self._announced("simulator")
        if self._simulator_url is not None:
            self._environment["BR_SIMULATOR_URL"] = self._simulator_url
        if "payments" in started:
            self._environment["BR_RAZORPAY_URL"] = self._payments_url = self._announced("payments")
        if "identity" in started:
            url = self._identity_url = self._announced("identity")
            self._environment |= {"BR_GITHUB_URL": f"{url}/github", "BR_GITHUB_API_URL": f"{url}/github/api"}
            self._environment["BR_GOOGLE_URL"] = f"{url}/google"

    def _may_simulate_sign_in(self) -> bool:
        settings = self._settings
        return settings.github_client_id is None and settings.google_client_id is None and self._is_local()

    def _is_local(self) -> bool:
        """With simulators anybody is whoever they say, and pays with nothing: they are for developers at their own
        machine."""
        reached_at = urlsplit(self._environment["BR_PUBLIC_URL"]).hostname
        return is_loopback(self._settings.host) and is_loopback(reached_at)

    def _start_simulator(self, name: str, *arguments: str) -> None:
        """Started again, it keeps the address that it announced before."""
        announcement = self._announcement(name)
        announcement.unlink(missing_ok=True)

        def port() -> str:
            return self._announced(name).rpartition(":")[2] or "0"

        self._watch_command(name, "simulate", "--announce", str(announcement), "--port", port, *arguments)

    def _announced(self, name: str) -> str:
        """The address that a simulator has announced; empty before it has."""
        announcement = self._announcement(name)
        text = announcement.read_text() if announcement.exists() else ""
        return text.strip().rstrip("/") if text.endswith("\n") else ""

    def _announcement(self, name: str) -> Path:
        return self._home / f"{name}.url"

    def _watch_command(self, name: str, *arguments: str | Callable[[], str], pass_fds: Sequence[int] = ()) -> None:
        """A subcommand of the product as a child; an argument that is a function is asked at each start."""
        log = self._log(name)

        def start() -> subprocess.Popen[bytes]:
            words = [argument if isinstance(argument, str) else argument() for argument in arguments]
            return start_child(
                [*self._program, *words],
                log=log,
                death_signal=signal.SIGKILL,
                environment=self._environment,
                pass_fds=pass_fds,
            )

        self._watch(name, start, log=log)

    def _watch(self, name: str, start: Callable[[], subprocess.Popen[bytes]], *, log: Path) -> None:
        now = time.monotonic()
        self._watched.append(_Watched(name=name, start=start, log=log, process=start(), started_at=now))

    def _look_after_children(self) -> None:
        changed = False
        for child in self._watched:
            now = time.monotonic()
            if child.restart_at is None and child.process.poll() is not None:
                self._mourn(child, now)
            if child.restart_at is not None and child.restart_at <= now:
                try:
                    child.process, child.started_at, child.restart_at = child.start(), now, None
                    changed = True
                except (CannotStart, OSError) as failure:
                    self._say(f"{child.name} cannot be started: {failure}")
                    child.restart_at = now + _DELAY_SECONDS_MAX
        if changed:
            self._write_run_file()

    def _mourn(self, child: _Watched, now: float) -> None:
        """Says what is known of a child's end, and when it is to come back."""
        ending = f"{child.name} ended ({_how(child.process.returncode)})"
        last_words = f"; its last words in {child.log}:\n{log_tail(child.log)}"
        if self._starting:
            raise CannotStart(f"{ending}{last_words}")
        if now - child.started_at >= _SETTLED_AFTER_SECONDS:
            child.delay_seconds = _DELAY_SECONDS_MIN
        child.restart_at = now + child.delay_seconds
        self._say(f"{ending}, starting it again in {child.delay_seconds:.1f} s{last_words}")
        child.delay_seconds = min(child.delay_seconds * 2, _DELAY_SECONDS_MAX)

    def _run_to_its_end(self, *arguments: str, capture: bool = False) -> bytes:
        """Runs one subcommand, answers its output where that is captured; raises CannotStart when it
        fails.
        """
        log = self._log(arguments[0])
        process = start_child(
            [*self._program, *arguments],
            log=log,
            death_signal=signal.SIGKILL,
            environment=self._environment,
            capture=capture,
        )
        try:
            while process.poll() is None:
                self._look_after_children()
                self._pause(1.0)
            output = b"" if process.stdout is None else process.stdout.read()
        finally:
            if process.poll() is None:
                stop_child(process, how=signal.SIGTERM, patience_seconds=5, finally_how=signal.SIGKILL)
            if process.stdout is not None:
                process.stdout.close()
        if process.returncode != 0:
            ending = f"`{arguments[0]}` failed ({_how(process.returncode)})"
            raise CannotStart(f"{ending}; {log} ends with:\n{log_tail(log)}")
        return output

    def _wait_until(self, true: Callable[[], object], what: str, *, seconds_max: float) -> None:
        deadline = time.monotonic() + seconds_max
        while not true():
            self._look_after_children()
            if time.monotonic() > deadline:
                logs = self._home / "log"
                raise CannotStart(f"{what} is not ready after {seconds_max:.0f} s; see the logs in {logs}")
            self._pause(0.03)

    def _gateway_is_ready(self) -> bool:
        connection = http.client.HTTPConnection(self._address.removeprefix("http://"), timeout=1)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _announce(self) -> None:
        """The address, a key and a line to paste."""
        say = self._say
        say(f"\nBharatRouter is ready at {self._address}")
        if self._simulator_url is not None:
            say("No provider key is set, so the answers come from a simulator on this machine.")
        if self._payments_url is not None:
            say("No Razorpay key is set, so payments are simulated too: no money moves.")
        if self._identity_url is not None:
            say(f"Sign-in is simulated too, for this machine alone; be whoever you like at {self._address}/sign-in")
        try:
            made = json.loads(self._run_to_its_end("dev-key", "--json", capture=True))
        except (CannotStart, ValueError) as failure:
            say(f"There is no development key this time. {failure}")
        else:
            body = json.dumps({"model": _DEMO_MODEL, "messages": [{"role": "user", "content": "Namaste!"}]})
            say(
                f"\nA development key, with ₹{made['balance_inr']} to spend, is\n\n    {made['key']}\n\n"
                f"Try it:\n\n    curl {self._address}/v1/chat/completions"
                f" -H 'Authorization: Bearer {made['key']}'"
                f" -H 'Content-Type: application/json' -d '{body}'\n"
            )
        say(f"Logs: {self._home / 'log'} · stop with Ctrl-C")

    def _write_run_file(self) -> None:
        """What other commands need to find the product; it holds the database's password."""
        if self._listener is None:
            return
        facts = {
            "pid": os.getpid(),
            "address": self._address,
            "database_url": self._environment["DATABASE_URL"],
            "redis_url": self._environment["REDIS_URL"],
            "simulator_url": self._simulator_url,
            "payments_url": self._payments_url,
            "identity_url": self._identity_url,
            "pids": {child.name: child.process.pid for child in self._watched},
        }
        if self._payments_url is not None:  # keys of a real account stay where the operator keeps them
            facts |= {name.removeprefix("BR_").lower(): self._environment[name] for name in _PAYMENT_SECRETS}
        draft = self._home / "run.json.draft"
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as file:
            json.dump(facts, file, indent=2)
        draft.rename(self._home / "run.json")

    def _stop_group(self, group: Sequence[_Watched]) -> None:
        """All at once, each with the whole patience."""
        for child in group:
            child.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self._settings.stop_seconds + _PARTING_SECONDS
        while any(child.process.poll() is None for child in group):
            if time.monotonic() > deadline or self._signals.wishes > 1:
                for child in group:
                    child.process.kill()
            self._signals.pause(0.2)

    def _pause(self, seconds: float) -> None:
        if not self._signals.wishes:
            self._signals.pause(seconds)
        if self._signals.wishes:
            raise _Stop

    def _log(self, name: str) -> Path:
        log = self._home / "log" / f"{name}.log"
        _keep_short(log)
        return log


def _say(output: IO[str], text: str) -> None:
    with suppress(OSError, ValueError):  # the terminal may be gone; the product goes on
        print(text, file=output, flush=True)


def _started(server: Postgres | Valkey) -> subprocess.Popen[bytes]:
    server.start()
    assert server.process is not None
    return server.process


@contextmanager
def _lock(home: Path) -> Iterator[None]:
    """Holds the home; the kernel lets go of it when this process ends, however it ends. Raises _Locked."""
    with (home / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            address = running_product(home).get("address")
            raise _Locked(
                f"BharatRouter runs already: process {file.read().strip()} holds {home}"
                + (f" and answers at {address}." if address else ".")
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _bind(host: str, port: int) -> socket.socket:
    """Takes the port before anything is started; the gateways inherit it. Raises CannotStart."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as failure:
        raise CannotStart(
            f"{host} port {port} cannot be taken ({failure.strerror}). Set PORT to another, or HOST."
        ) from None
    return listener


def _keep_short(log: Path) -> None:
    """A log that has grown long makes room for a new one; the one before it is kept."""
    if log.exists() and log.stat().st_size > _LOG_BYTES_MAX:
        log.replace(log.with_suffix(".log.before"))


def _how(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
