"""HTTPS on 127.0.0.1, and the proxy by which clients reach it under Azure's own host names."""

from __future__ import annotations

import re
import select
import socket
import socketserver
import ssl
import threading
import time
from pathlib import Path
from typing import Any

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from aml_spark.testing.faults import CLOCK

_BLOBS = ".blob.core.windows.net"
# What the proxy sends here. Every other host is refused, so that nothing leaves the machine.
HOSTS = (
    "management.azure.com",
    "login.microsoftonline.com",
    "*.api.azureml.ms",
    "*.experiments.azureml.net",
    f"*{_BLOBS}",
)
_HOST = re.compile("|".join(re.escape(host).replace(r"\*", "[^.]+") for host in HOSTS))


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept, as Azure does

    def date_time_string(self, timestamp: float | None = None) -> str:
        """What the Date header says."""
        return super().date_time_string((timestamp or time.time()) + self.environ.get(CLOCK, 0))

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: requests hold tokens and signatures."""


class Server(ThreadedWSGIServer):
    """A WSGI application behind TLS; each connection has a thread, its handshake too.

    Args:
        app: the application.
        port: 0 for a free one.
        certificate: file with its certificate and key.
    """

    def __init__(self, app: Any, port: int, certificate: Path) -> None:
        super().__init__("127.0.0.1", port, app, _Handler)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self.ssl_context = self._context  # tells the handler that the scheme is https

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands, then answer."""
        try:
            with self._context.wrap_socket(request, server_side=True) as secured:
                super().finish_request(secured, client_address)
        except OSError:  # the client went away, or doesn't trust the certificate
            pass


class Proxy(socketserver.ThreadingTCPServer):
    """Answers CONNECT for Azure's hosts with a connection to the server, and refuses every other host.

    Args:
        port: 0 for a free one.
        target: the server's port.
        blobs: the port of whatever answers for Azure Blob Storage.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128  # with five, the sixth of many that connect at once waits for a second

    def __init__(self, port: int, target: int, blobs: int) -> None:
        super().__init__(("127.0.0.1", port), _Tunnel)
        self.target, self.blobs = target, blobs

    @property
    def url(self) -> str:
        """What HTTPS_PROXY takes."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Tunnel(socketserver.StreamRequestHandler):
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
        target = self.server.blobs if host.endswith(_BLOBS) else self.server.target
        with socket.create_connection(("127.0.0.1", target)) as upstream:
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
