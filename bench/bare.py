"""The floor under an HTTP server in Python: one epoll loop that gives every request the same bytes, which were built beforehand.

    python3 bench/bare.py PORT FILE      # FILE holds a whole answer, head and body

It looks for the end of a request and does nothing else: no parsing, no checks, no database.
"""

from __future__ import annotations

import pathlib
import select
import socket
import sys

BACKLOG = 1024
RECEIVE_BYTES = 256 * 1024


class Peer:
    """One connection: what came of the next request, and what of the answers is not sent yet."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.received = b""
        self.unsent = memoryview(b"")
        self.is_waiting = False  # for room in the socket

    def requests(self) -> int:
        """How many whole requests have come; they are dropped."""
        count = 0
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            _, found, tail = self.received[: end + 2].lower().partition(b"\r\ncontent-length:")
            total = end + 4 + (int(tail[: tail.index(b"\r")]) if found else 0)
            if len(self.received) < total:
                break
            self.received = self.received[total:]
            count += 1
        return count

    def send(self) -> bool:
        """Send what the socket takes; True when nothing is left."""
        try:
            self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except BlockingIOError:
            return False
        return not self.unsent


def serve(port: int, answer: bytes) -> None:
    """Until it is killed."""
    listener = socket.create_server(("127.0.0.1", port), backlog=BACKLOG)
    listener.setblocking(False)
    epoll, peers = select.epoll(), dict[int, Peer]()
    epoll.register(listener, select.EPOLLIN)
    while True:
        for descriptor, event in epoll.poll():
            if descriptor == listener.fileno():
                sock, _ = listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peers[sock.fileno()] = Peer(sock)
                epoll.register(sock, select.EPOLLIN)
                continue
            peer = peers[descriptor]
            try:
                if event & ~select.EPOLLOUT:
                    data = peer.socket.recv(RECEIVE_BYTES)
                    if not data:
                        raise ConnectionResetError
                    peer.received += data
                    if count := peer.requests():
                        peer.unsent = memoryview(bytes(peer.unsent) + answer * count)
                if peer.unsent and peer.send() == peer.is_waiting:
                    peer.is_waiting = not peer.is_waiting
                    epoll.modify(
                        descriptor, select.EPOLLIN | select.EPOLLOUT if peer.is_waiting else select.EPOLLIN
                    )
            except OSError:  # the client has gone
                del peers[descriptor]
                peer.socket.close()


if __name__ == "__main__":
    serve(int(sys.argv[1]), pathlib.Path(sys.argv[2]).read_bytes())
