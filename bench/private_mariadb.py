"""A MariaDB server of one's own, for tests and benchmarks: a temporary folder, a free port, killed at will.

With ``MYSQLD`` in the environment, the path of MySQL's server binary, it is a MySQL.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import getpass
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import pymysql

START_SECONDS = 60.0
STOP_SECONDS = 20.0
FOLDERS = "/usr/sbin:/usr/libexec:/usr/local/sbin:/usr/local/bin:/usr/local/libexec:/opt/homebrew/bin"


# MySQL's root may come from "localhost" only, which a server that resolves no names knows nobody by.
MYSQL_INIT = "CREATE USER root@'127.0.0.1'; GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\n"


class MariaDBMissing(Exception):
    """There is no mariadbd on this machine."""


def _binary(*names: str) -> str:
    path = os.environ.get("PATH", "") + ":" + FOLDERS
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return found
    raise MariaDBMissing(f"no {names[0]} in PATH: install MariaDB (Debian: apt-get install mariadb-server)")


def free_port() -> int:
    """A TCP port of loopback that nothing listens on now.

    It lies below the ports that the system gives to outgoing connections (from 32768 on by default): a server
    that is killed and started again must find its port free.
    """
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def die_with_parent() -> None:
    """In a child before exec: SIGKILL when the thread that started it ends, so start servers from the main
    thread."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


@functools.cache
def _empty_data(mysql: str) -> pathlib.Path:
    """A data folder as the installer makes it, made once per process; every server starts on a copy."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="qtm-mariadb-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if mysql:
        init = folder / "init.sql"
        init.write_text(MYSQL_INIT)
        command = [mysql, "--no-defaults", "--initialize-insecure", f"--init-file={init}"]
    else:
        install = _binary("mariadb-install-db", "mysql_install_db")
        command = [install, "--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]
    # A tmpdir of its own: an installer that starts at the same time clears the shared one.
    command += [f"--datadir={folder / 'data'}", f"--tmpdir={folder}", f"--user={getpass.getuser()}"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise RuntimeError(
            f"the data folder of MariaDB could not be made:\n{(done.stdout + done.stderr)[-6000:]}"
        )
    return folder / "data"


class PrivateMariaDB:
    """Starts ``mariadbd`` on 127.0.0.1. Use it as a context manager, or call `start` and `remove`.

    Its commits are durable; ``is_durable=False`` leaves out only the waits for the disk, for tests: its data
    then survives a kill of the server, but not of the machine.

    Raises MariaDBMissing without the binary, RuntimeError with the end of the server's log when it does not
    start.
    """

    def __init__(
        self, options: Sequence[str] = (), buffer_pool: str = "256M", is_durable: bool = True
    ) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="qtm-mariadb-"))
        self.data = self.folder / "data"
        self.port = free_port()
        self._options = [*options, *([] if is_durable else ["--innodb-flush-method=nosync"])]
        self._buffer_pool = buffer_pool
        self._mysql = os.environ.get("MYSQLD", "")
        self._server = self._mysql or _binary("mariadbd", "mysqld")
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ended = False  # by us

    def __enter__(self) -> PrivateMariaDB:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def start(self) -> None:
        """Start it, on new or existing data, and wait until it answers."""
        self.launch()
        self.await_answer()

    def launch(self, *options: str) -> None:
        """Start it, on new or existing data, and do not wait."""
        if not self.data.exists():
            shutil.copytree(_empty_data(self._mysql), self.data)
        # where a cluster has a script
        environment = {**os.environ, "PATH": f"{self.folder}:{os.environ.get('PATH', '')}"}
        self._is_ended = False
        # preexec_fn: only a system call, and servers start before other threads do
        self._process = subprocess.Popen(
            self._command(options),
            preexec_fn=die_with_parent,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def run_once(self, *options: str) -> str:
        """Have the server do one thing and end; its whole log."""
        subprocess.run(
            self._command(options), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        return (self.folder / "log.err").read_text(errors="replace")

    def _command(self, options: Sequence[str]) -> list[str]:
        return [
            self._server,
            "--no-defaults",
            f"--user={getpass.getuser()}",
            f"--datadir={self.data}",
            f"--socket={self.folder / 's'}",
            f"--pid-file={self.folder / 'pid'}",
            f"--log-error={self.folder / 'log.err'}",
            # at its start a server clears what others left, or keep, in a shared one
            f"--tmpdir={self.folder}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--performance-schema=OFF",
            f"--innodb-buffer-pool-size={self._buffer_pool}",
            "--innodb-flush-log-at-trx-commit=1",
            "--max-connections=300",
            *(["--mysqlx=OFF"] if self._mysql else []),
            *self._options,
            *options,
        ]

    def await_answer(self, sql: str = "SELECT 1", answer: object = 1) -> None:
        """Wait until the first value of a query is ``answer``. Raises RuntimeError when the server ends, and
        after 60 s."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process and self._process.poll() is None:
            with contextlib.suppress(pymysql.Error):
                if self.execute(sql)[0][0] == answer:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"MariaDB did not start:\n{self._log_tail()}")

    def _log_tail(self) -> str:
        log = self.folder / "log.err"
        return log.read_text(errors="replace")[-6000:] if log.exists() else "(no log)"

    def stop(self) -> None:
        """Send SIGTERM, and SIGKILL after 20 s. If the server has ended by itself, write the end of its log to
        stderr."""
        if self._process and self._process.poll() is not None and not self._is_ended:
            sys.stderr.write(
                f"MariaDB has ended by itself, with {self._process.returncode}:\n{self._log_tail()}\n"
            )
        elif self._process and self._process.poll() is None:
            self._is_ended = True
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """SIGKILL, at once."""
        if self._process:
            self._is_ended = True
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP: it keeps its connections and answers none."""
        if self._process:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        if self._process:
            self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """Stop it and delete its folder."""
        self.thaw()
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def create_database(self, name: str) -> str:
        """An empty database of this name; its URL for qtm."""
        self.execute(f"DROP DATABASE IF EXISTS {name}", f"CREATE DATABASE {name}")
        return f"mysql://root@127.0.0.1:{self.port}/{name}"

    def execute(self, *statements: str) -> list[tuple[object, ...]]:
        """Run statements as root; the rows of the last one."""
        connection = pymysql.connect(
            host="127.0.0.1", port=self.port, user="root", autocommit=True, ssl_disabled=True
        )
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            connection.close()
