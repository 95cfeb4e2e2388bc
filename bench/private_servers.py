"""A PostgreSQL and a Redis of one's own for benchmarks, from the installed binaries: a temporary folder, a free port, durable commits."""

from __future__ import annotations

import abc
import contextlib
import glob
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping

from private_mariadb import FOLDERS, START_SECONDS, STOP_SECONDS, die_with_parent, free_port

POSTGRESQL_FOLDERS = "/usr/lib/postgresql/*/bin"  # of Debian, which are not in PATH


class ServerMissing(Exception):
    """The server's binary is not on this machine."""


class PrivateServer(abc.ABC):
    """A server process on 127.0.0.1 at ``port`` with a folder of its own. A context manager: SIGTERM at the
    end, and SIGKILL after 20 s.

    Raises ServerMissing without the binary, RuntimeError with its log when it does not answer within 60 s.
    """

    def __init__(self, *names: str) -> None:
        path = os.pathsep.join(
            [os.environ.get("PATH", ""), FOLDERS, *sorted(glob.glob(POSTGRESQL_FOLDERS), reverse=True)]
        )
        found = [shutil.which(name, path=path) for name in names]
        if missing := [name for name, place in zip(names, found, strict=True) if not place]:
            raise ServerMissing(f"no {missing[0]} in PATH")
        self.binaries: Mapping[str, str] = {
            name: str(place) for name, place in zip(names, found, strict=True)
        }
        self.port = free_port()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="qtm-server-"))
        self.account: str | None = None  # None: our own
        self._process: subprocess.Popen[bytes] | None = None

    @abc.abstractmethod
    def command(self) -> list[str]:
        """The server's command line."""

    @abc.abstractmethod
    def answers(self) -> bool:
        """Whether it takes commands. Raises OSError while it does not listen."""

    def __enter__(self) -> PrivateServer:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        log = self.folder / "log"
        with log.open("wb") as file:
            # preexec_fn: one system call, so that a killed benchmark leaves no server behind
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                user=self.account,
                stdout=file,
                stderr=file,
                preexec_fn=die_with_parent,
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError):
                if self.answers():
                    return
            time.sleep(0.05)
        raise RuntimeError(f"{self.command()[0]} did not start:\n{log.read_text(errors='replace')[-3000:]}")

    def __exit__(self, *_: object) -> None:
        if self._process and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class PrivateRedis(PrivateServer):
    """Redis that writes every command to the disk before it answers."""

    def __init__(self) -> None:
        super().__init__("redis-server")

    def command(self) -> list[str]:
        """The server's command line."""
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self.folder,
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
        }
        return [
            self.binaries["redis-server"],
            *(str(part) for name, value in options.items() for part in (f"--{name}", value)),
        ]

    def answers(self) -> bool:
        """Whether it takes commands. Raises OSError while it does not listen."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5.0) as sock:
            sock.sendall(b"PING\r\n")
            return sock.recv(64).startswith(b"+PONG")


class PrivatePostgreSQL(PrivateServer):
    """PostgreSQL as it comes: its commits are durable. The account ``qtm`` needs no password."""

    def __init__(self) -> None:
        super().__init__("postgres", "initdb")

    def _start(self) -> None:
        if os.getuid() == 0:
            self.account = "nobody"  # PostgreSQL refuses to run as root
            shutil.chown(self.folder, self.account)
        options = [
            f"--pgdata={self.folder / 'data'}",
            "--auth=trust",
            "--username=qtm",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]
        done = subprocess.run(
            [self.binaries["initdb"], *options],
            cwd=self.folder,
            user=self.account,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"the data folder of PostgreSQL could not be made:\n{done.stderr[-3000:]}")
        super()._start()

    def command(self) -> list[str]:
        """The server's command line."""
        folders = ["-D", str(self.folder / "data"), "-k", str(self.folder)]
        return [self.binaries["postgres"], *folders, "-p", str(self.port), "-c", "listen_addresses=127.0.0.1"]

    def answers(self) -> bool:
        """Whether it takes commands. Raises OSError while it does not listen."""
        startup = b"\0\3\0\0user\0qtm\0database\0postgres\0\0"
        with socket.create_connection(("127.0.0.1", self.port), timeout=5.0) as sock:
            sock.sendall((len(startup) + 4).to_bytes(4, "big") + startup)
            return sock.recv(1) == b"R"  # authentication; an error while it starts is "E"
