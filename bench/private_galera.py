"""A Galera cluster of one's own, for tests and benchmarks: three MariaDB nodes on loopback, each killed or frozen at will."""

from __future__ import annotations

import os
import re
import shutil

from private_mariadb import MariaDBMissing, PrivateMariaDB, free_port

PROVIDERS = (
    "/usr/lib/galera/libgalera_smm.so",
    "/usr/lib64/galera-4/libgalera_smm.so",
    "/usr/lib64/galera/libgalera_smm.so",
)
# A node that does not answer is given up after 3 s (5 by default). The cache holds the writes that a
# returning node has missed.
PROVIDER_OPTIONS = "evs.keepalive_period=PT0.5S;evs.suspect_timeout=PT3S;evs.inactive_timeout=PT6S;gcache.size=16M;gcache.recover=yes"
JOIN_TRIES = 3
IS_READY = "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'wsrep_ready'"
# How a joining node asks another for the writes that it has missed. The usual scripts can copy all data too,
# which takes seconds and does not work as root; here all nodes begin with the same data, and the address is a
# file of the joiner's.
TRANSFER = """\
#!/bin/sh
while [ $# -gt 0 ]; do
  case "$1" in
    --role) role=$2 ;; --address) address=$2 ;; --datadir) data=$2 ;; --gtid) gtid=$2 ;; --parent) parent=$2 ;; --bypass) bypass=1 ;;
  esac
  shift
done
if [ "$role" = joiner ]; then
  rm -f "$data/gtid"
  echo "ready $data/gtid"
  until [ -e "$data/gtid" ]; do
    kill -0 "$parent" || exit 1
    sleep 0.05
  done
  cat "$data/gtid"
else
  [ "$bypass" ] || exit 1
  echo "$gtid" >"$address.new"
  mv "$address.new" "$address"
  echo "done $gtid"
fi
"""


class GaleraMissing(MariaDBMissing):
    """There is no Galera library on this machine."""


def galera_library() -> str:
    """The path of Galera's library. Raises GaleraMissing."""
    for path in PROVIDERS:
        if os.path.exists(path):
            return path
    raise GaleraMissing("no libgalera_smm.so: install Galera (Debian: apt-get install galera-4)")


class PrivateGalera:
    """A cluster of ``size`` nodes, which are PrivateMariaDB. Use it as a context manager, or call `start` and
    `remove`.

    Raises GaleraMissing or MariaDBMissing, RuntimeError with the end of a node's log when it does not start.
    """

    def __init__(self, size: int = 3, is_durable: bool = True) -> None:
        library = galera_library()
        ports = [(free_port(), free_port()) for _ in range(size)]  # of the group, and of a state transfer
        cluster = ",".join(f"127.0.0.1:{group}" for group, _ in ports)
        self.nodes: list[PrivateMariaDB] = []
        for number, (group, transfer) in enumerate(ports):
            own = f"gmcast.listen_addr=tcp://127.0.0.1:{group};ist.recv_addr=127.0.0.1:{transfer};{PROVIDER_OPTIONS}"
            options = [
                *(
                    "--wsrep-on=ON",
                    f"--wsrep-provider={library}",
                    "--wsrep-cluster-name=qtm",
                    f"--wsrep-node-name=node{number}",
                ),
                f"--wsrep-cluster-address=gcomm://{cluster}",
                *(f"--wsrep-node-address=127.0.0.1:{group}", f"--wsrep-provider-options={own}"),
                *("--wsrep-sst-method=qtm", "--wsrep-slave-threads=2"),
                *("--binlog-format=ROW", "--innodb-autoinc-lock-mode=2", "--innodb-log-file-size=16M"),
            ]
            self.nodes.append(PrivateMariaDB(options, buffer_pool="32M", is_durable=is_durable))

    def __enter__(self) -> PrivateGalera:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def start(self) -> None:
        """Start all nodes on new data, which is the same everywhere, so that no node needs another's; wait
        until all are synced."""
        first, *others = self.nodes
        for node in self.nodes:
            script = node.folder / "wsrep_sst_qtm"
            script.write_text(TRANSFER)
            script.chmod(0o755)
        self.bootstrap()
        first.stop()
        for node in others:
            shutil.copytree(
                first.data, node.data, ignore=shutil.ignore_patterns("galera.cache", "gvwstate.dat")
            )
        self.bootstrap()
        for node in others:
            self._join(node)
        self.await_ready()

    def _join(self, node: PrivateMariaDB) -> None:
        """Start a node beside those that run. A donor that is about to take part in another change of the
        cluster refuses a transfer, and the node ends: then it is started again."""
        for tries_left in reversed(range(JOIN_TRIES)):
            node.launch()
            try:
                return node.await_answer(IS_READY, "ON")
            except RuntimeError:
                if not tries_left:
                    raise
                node.kill()

    def bootstrap(self) -> None:
        """Start the first node alone, as a new cluster."""
        self.nodes[0].launch("--wsrep-new-cluster")
        self.nodes[0].await_answer(IS_READY, "ON")

    def rejoin(self, *nodes: PrivateMariaDB) -> None:
        """Start nodes that were killed, at the write where their data stand, as a service manager would; wait
        until all are ready."""
        for node in nodes:
            found = node.run_once("--wsrep-recover")
            position = re.findall(r"WSREP: Recovered position: (\S+)", found)[-1]
            node.launch(f"--wsrep-start-position={position}")
        self.await_ready()

    def await_ready(self) -> None:
        """Until every node takes statements."""
        for node in self.nodes:
            node.await_answer(IS_READY, "ON")

    def remove(self) -> None:
        """End all, and delete their folders."""
        for node in self.nodes:
            node.kill()
        for node in self.nodes:
            node.remove()

    def create_database(self, name: str) -> tuple[str, list[str]]:
        """An empty database of this name: its URL that names all nodes, and those of each node alone."""
        self.nodes[0].execute(f"DROP DATABASE IF EXISTS {name}", f"CREATE DATABASE {name}")
        for node in self.nodes[1:]:  # until it is there, too
            node.execute("SET wsrep_sync_wait = 1", "SHOW DATABASES")
        places = [f"127.0.0.1:{node.port}" for node in self.nodes]
        return f"mysql://root@{','.join(places)}/{name}", [f"mysql://root@{place}/{name}" for place in places]
