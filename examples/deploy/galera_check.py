"""Answers HAProxy's question whether a Galera node may be used: 200 when it is in the majority, in sync and writable,
else 503 with what it says of itself.

    python3 galera_check.py --port 9200 -- --defaults-file=/etc/galera-check.cnf

What follows ``--`` is for the client `mariadb`. The account needs no right but to connect. galera-check.service starts it.
"""

import argparse
import http.server
import subprocess

SECONDS = 1.5  # for the node to answer: less than HAProxy's `timeout check`
QUERY = (
    "SHOW STATUS WHERE variable_name IN ('wsrep_cluster_status', 'wsrep_ready', 'wsrep_local_state_comment');"
    "SHOW VARIABLES LIKE 'read_only'"
)
GOOD = {
    "wsrep_cluster_status": "Primary",
    "wsrep_ready": "ON",
    "wsrep_local_state_comment": "Synced",
    "read_only": "OFF",
}


class Check(http.server.BaseHTTPRequestHandler):
    """One question, one query."""

    client_options: list[str] = []  # noqa: RUF012  set once, before the first request

    def do_GET(self) -> None:
        """200 or 503, and the node's state as text."""
        command = ["mariadb", *self.client_options, "--batch", "--skip-column-names", "--execute", QUERY]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
            state = dict(line.split("\t") for line in done.stdout.splitlines())
            text = done.stdout or done.stderr
        except subprocess.TimeoutExpired:
            state, text = {}, f"no answer within {SECONDS} s\n"
        body = text.encode()
        self.send_response(200 if state == GOOD else 503)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """A check each second is not worth a line."""


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(description="Answer 200 while a Galera node may be used.")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on")
    parser.add_argument("--port", type=int, default=9200)
    parser.add_argument("client_options", nargs="*", help="options of the client `mariadb`, after --")
    options = parser.parse_args()
    Check.client_options = options.client_options
    http.server.ThreadingHTTPServer((options.host, options.port), Check).serve_forever()


if __name__ == "__main__":
    main()
