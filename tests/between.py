"""A proxy before a real server, which answers in its place, or not at all, as a test demands."""

from __future__ import annotations

import http.client
import select
import socket
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GONE = ("connection", "transfer-encoding", "keep-alive", "content-length")


class Between:
    """Passes requests on to a server on this machine.

    Args:
        port: of the server.

    `fault` is given method and path of each request and says what becomes of it: "" passes it on; a number is the
    status of an answer without the server; "hang" gives no answer; "drop" cuts the connection; "lose" passes the
    request on and cuts the connection in place of the answer.
    """

    def __init__(self, port: int) -> None:
        self.behind = port
        self.fault: Callable[[str, str], str] = lambda method, path: ""
        self.hanging = threading.Event()
        self.struck: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"between": self}))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    def __enter__(self) -> Between:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hanging.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    between: Between

    def handle_one(self) -> None:
        fault = self.between.fault(self.command, self.path)
        if fault:
            self.between.struck.append(f"{fault} {self.command} {self.path}")
        if fault == "hang":
            self.between.hanging.wait()
        if fault in ("hang", "drop"):
            self.close_connection = True
            return
        if fault.isdecimal():
            self.answer(int(fault), [], b'{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "not now"}')
            return
        if "upgrade" in self.headers.get("Connection", "").lower():
            self.tunnel()
            return
        behind = http.client.HTTPConnection("127.0.0.1", self.between.behind)
        with suppress(OSError, http.client.HTTPException), closing(behind):
            behind.request(self.command, self.path, self.body(), dict(self.headers))
            reply = behind.getresponse()
            content = reply.read()
            if fault == "lose":
                self.close_connection = True
                return
            self.answer(reply.status, reply.getheaders(), content)
            return
        self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_one  # noqa: N815

    def body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            del self.headers["Transfer-Encoding"]
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        with suppress(OSError):
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in GONE:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    def tunnel(self) -> None:
        """Pass a websocket on, until either end closes it."""
        self.close_connection = True
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.between.behind)) as behind:
            behind.sendall(f"{self.requestline}\r\n{self.headers}".encode("latin-1"))
            ends = {behind: self.connection, self.connection: behind}
            while True:
                for end in select.select(list(ends), [], [])[0]:
                    if not (data := end.recv(2**16)):
                        return
                    ends[end].sendall(data)

    def log_message(self, *_: Any) -> None: ...
