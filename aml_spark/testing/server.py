"""HTTP and HTTPS on 127.0.0.1, and the proxy by which clients reach it under Azure's own host names."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import select
import socket
import socketserver
import ssl
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from aml_spark.testing.faults import CLOCK

HEADERS = "aml_spark.headers"  # in a request's environment: its headers with their names as they were sent
_STEP = 2**20
_HANDSHAKE = 30  # seconds that a client has for it
_BLOBS = ".blob.core.windows.net"
# What the proxy sends here. Every other host is refused, so that nothing leaves the machine.
HOSTS = (
    "management.azure.com",
    "login.microsoftonline.com",
    "*.api.azureml.ms",
    "*.experiments.azureml.net",
    f"*{_BLOBS}",
    "*.dfs.core.windows.net",
    "*.westeurope.inference.ml.azure.com",
)
_HOST = re.compile("|".join(re.escape(host).replace(r"\*", "[^.]+") for host in HOSTS))


class _Handler(WSGIRequestHandler):
    """Keeps connections, as Azure does; werkzeug's own closes them, which makes a TLS handshake of each request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else the second of two short writes waits for the client's acknowledgement
    server: PlainServer

    def run_wsgi(self) -> None:
        """Answer one request. What it sends is read to its end, or the next one would begin in its middle."""
        environ = self.environ = self.make_environ()
        environ[HEADERS] = self.headers.items()
        body, self._sent = environ["wsgi.input"], False
        if not environ.get("wsgi.input_terminated"):  # it isn't in chunks, which end by themselves
            body = environ["wsgi.input"] = _Body(body, int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input_terminated"] = True
        begun: list[tuple[str, list[tuple[str, str]]]] = []

        def start(status: str, headers: list[tuple[str, str]], _: Any = None) -> Any:
            begun[:] = [(status, headers)]
            return self.wfile.write

        try:
            answer = self.server.app(environ, start)
            try:
                self._send(iter(answer), begun, body)
            finally:
                if hasattr(answer, "close"):
                    answer.close()
        except OSError:
            self.close_connection = True
        except Exception:
            self.close_connection = True
            self.server.log("error", f"Error on request:\n{traceback.format_exc()}")
            if not self._sent:
                self.send_error(500)

    def _send(self, pieces: Iterator[bytes], begun: list[tuple[str, list[tuple[str, str]]]], body: Any) -> None:
        first = next(pieces, b"")
        while body.read(_STEP):
            pass
        (status, headers), names = begun[0], {name.lower() for name, _ in begun[0][1]}
        code, _, reason = status.partition(" ")
        self._sent = True
        self.send_response_only(int(code), reason)
        for name, value in headers:
            self.send_header(name, value)
        if "date" not in names:
            self.send_header("Date", self.date_time_string())
        empty = self.command == "HEAD" or int(code) in (204, 304)
        chunked = not empty and "content-length" not in names
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in itertools.chain([first], pieces):
            if piece and not empty:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def date_time_string(self, timestamp: float | None = None) -> str:
        """What the Date header says."""
        return super().date_time_string((timestamp or time.time()) + self.environ.get(CLOCK, 0))

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: requests hold tokens and signatures."""


class _Body(io.RawIOBase):
    """The body of one request, which has a length, on a connection that goes on after it."""

    def __init__(self, connection: Any, length: int) -> None:
        self._connection, self._left = connection, length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._left)
        data = self._connection.read(wanted)
        if len(data) < wanted:
            raise ConnectionError("the connection ended in the middle of a request")
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self.read(self._left) or b"" if self._left else b""  # in one go; the base class takes 8 KB at a time


class PlainServer(ThreadedWSGIServer):
    """A WSGI application on 127.0.0.1; each connection has a thread.

    Args:
        app: the application.
        port: 0 for a free one.
    """

    request_queue_size = 128

    def __init__(self, app: Any, port: int) -> None:
        super().__init__("127.0.0.1", port, app, _Handler)
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own."""
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection."""
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Listen no more, and end the connections that clients keep."""
        super().server_close()
        for request in list(self._open):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)


class Server(PlainServer):
    """The same behind TLS; the handshake is part of the thread.

    Args:
        app: the application.
        port: 0 for a free one.
        certificate: file with its certificate and key.
    """

    def __init__(self, app: Any, port: int, certificate: Path) -> None:
        super().__init__(app, port)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self.ssl_context = self._context  # tells the handler that the scheme is https

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands, then answer."""
        try:
            with self._context.wrap_socket(request, server_side=True, do_handshake_on_connect=False) as secured:
                self._open.discard(request)  # its place is taken by the wrapped one
                self._open.add(secured)
                try:
                    secured.settimeout(_HANDSHAKE)
                    secured.do_handshake()
                    secured.settimeout(None)
                    super().finish_request(secured, client_address)
                finally:
                    self._open.discard(secured)
        except OSError:  # the client went away, or doesn't trust the certificate
            pass


class Proxy(socketserver.ThreadingTCPServer):
    """Answers CONNECT for Azure's hosts with a connection to the server, and refuses every other host.

    Args:
        port: 0 for a free one.
        target: the server's port.
        blobs: the port of whatever answers for Azure Blob Storage.
        own: the hosts of Azure Blob Storage that the server answers for itself.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128  # with five, the sixth of many that connect at once waits for a second

    def __init__(self, port: int, target: int, blobs: int, own: tuple[str, ...] = ()) -> None:
        super().__init__(("127.0.0.1", port), _Tunnel)
        self.target, self.blobs, self.own = target, blobs, own

    @property
    def url(self) -> str:
        """What HTTPS_PROXY takes."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Tunnel(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True  # as in the server, in both directions
    server: Proxy

    def handle(self) -> None:
        """One CONNECT."""
        method, _, rest = self.rfile.readline(8192).decode("latin-1").partition(" ")
        while self.rfile.readline(8192) not in (b"\r\n", b"\n", b""):
            pass
        host, _, port = rest.split(" ")[0].rpartition(":")
        if method != "CONNECT" or port != "443" or not _HOST.fullmatch(host):
            self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        elsewhere = host.endswith(_BLOBS) and host not in self.server.own
        target = self.server.blobs if elsewhere else self.server.target
        with socket.create_connection(("127.0.0.1", target)) as upstream:
            upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self._pass_on(upstream)

    def _pass_on(self, upstream: socket.socket) -> None:
        other = {self.connection: upstream, upstream: self.connection}
        data = memoryview(bytearray(2**18))
        while True:
            ready, _, _ = select.select(list(other), [], [])
            for source in ready:
                try:
                    size = source.recv_into(data)
                    if not size:
                        return
                    other[source].sendall(data[:size])
                except OSError:
                    return


def serve(server: socketserver.BaseServer) -> threading.Thread:
    """Run a server in a thread until its `shutdown`."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    return thread
