"""One HTTP POST request with hard limits on its time and on the bytes of its answer."""

import queue
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urlsplit


class ExchangeError(RuntimeError):
    """There was no complete answer; the message says why, and quotes nothing of the request."""


@dataclass(frozen=True)
class Response:
    """A server's answer.

    Attributes:
        status: HTTP status.
        body: The whole body.
        retry_after_s: Pause that the server asks for [s]; None if it does not.
        is_stream: Whether the body is a stream of events, one per line.
    """

    status: int
    body: bytes
    retry_after_s: float | None
    is_stream: bool = False


@dataclass(frozen=True)
class Stream:
    """How the lines of a stream of events are read.

    Attributes:
        has_news: Tests whether a line has new content, which restarts the timeout.
        is_end: Tests whether a line is the last one.
        max_bytes: Maximum length of the stream [bytes].
    """

    has_news: Callable[[bytes], bool]
    is_end: Callable[[bytes], bool]
    max_bytes: int


def check_url(url: str) -> str:
    """The URL, if it is a plain address that a request can be sent to.

    Raises:
        ValueError: If it is not ``http://`` or ``https://`` with a host, or has a user, a query or
            a fragment. The message does not quote it, since it may contain a password.
    """
    parts = urlsplit(url)
    try:
        has_place = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        has_place = False
    has_more = "@" in parts.netloc or parts.query or parts.fragment
    if not has_place or has_more or not (url.isascii() and url.isprintable()) or " " in url:
        raise ValueError(
            "a base URL must look like `http://127.0.0.1:8000/v1`, without user, password, query "
            "or fragment; a key belongs in the environment."
        )
    return url


class Exchange:
    """One request and its answer, on a thread of its own.

    Redirects are not followed, and neither proxies nor credentials are taken from the environment:
    the request goes to the given URL only.

    Args:
        url: URL of the request, accepted by ``check_url``.
        body: Body of the POST request.
        headers: Headers of the request.
        timeout_s: Time limit from the name look-up to the last byte [s], even if bytes keep
            arriving. For a stream, the limit between two lines with new content.
        max_bytes: Maximum length of the answer [bytes].
        stream: How to read a stream of events; None to read it like any other answer.
    """

    def __init__(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        timeout_s: float,
        max_bytes: int,
        stream: Stream | None = None,
    ) -> None:
        self._url, self._body, self._headers = url, body, headers
        self._timeout_s, self._max_bytes, self._stream = timeout_s, max_bytes, stream
        # None means that new content arrived.
        self._outcome: queue.SimpleQueue[Response | ExchangeError | None] = queue.SimpleQueue()
        self._socket: socket.socket | None = None

    def response(self) -> Response:
        """The complete answer of the server.

        Raises:
            ExchangeError: If time or bytes are used up, the connection fails or ends early, or
                ``abort`` is called.
        """
        # A socket timeout bounds neither the name look-up nor headers that arrive byte by byte, so
        # a thread does the work. If abandoned, it ends: the socket is shut, a look-up times out.
        threading.Thread(target=self._run, name="endpoint", daemon=True).start()
        try:
            while (outcome := self._outcome.get(timeout=self._timeout_s)) is None:
                pass
        except queue.Empty:
            raise ExchangeError(f"no whole answer within {self._timeout_s:.3g} s") from None
        finally:
            self._shut()
        if isinstance(outcome, ExchangeError):
            raise outcome
        return outcome

    def abort(self) -> None:
        """Abort the exchange from another thread."""
        self._outcome.put(ExchangeError("given up"))

    def _run(self) -> None:
        try:
            self._outcome.put(self._exchange())
        except ExchangeError as error:
            self._outcome.put(error)
        except (OSError, HTTPException, ValueError) as error:
            # A ValueError comes from an invalid host. Its text may quote the request.
            self._outcome.put(ExchangeError(f"no answer: {_reason(error)}"))

    def _exchange(self) -> Response:
        parts = urlsplit(self._url)
        make = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        deadline = time.monotonic() + self._timeout_s
        connection = make(parts.hostname or "", parts.port, timeout=self._timeout_s)
        try:
            connection.connect()
            self._socket = connection.sock
            if time.monotonic() >= deadline:  # the caller has stopped waiting: do not send
                raise ExchangeError("no connection in time")
            connection.request("POST", parts.path, self._body, dict(self._headers))
            response = connection.getresponse()
            kind = response.getheader("Content-Type", "")
            if self._stream is not None and kind.startswith("text/event-stream"):
                return Response(response.status, self._lines(response, self._stream), None, True)
            body = response.read(self._max_bytes + 1)
            if len(body) > self._max_bytes:
                raise ExchangeError(f"the answer has more than {self._max_bytes} bytes")
            if response.length:
                raise ExchangeError(f"the answer was cut: {response.length} bytes are missing")
            return Response(response.status, body, _seconds(response.getheader("Retry-After")))
        finally:
            connection.close()

    def _lines(self, response: HTTPResponse, stream: Stream) -> bytes:
        lines, left = [], stream.max_bytes
        while line := response.readline(left + 1):
            left -= len(line)
            if left < 0:
                raise ExchangeError(f"the answer has more than {stream.max_bytes} bytes")
            lines.append(line)
            if stream.is_end(line):
                break
            if stream.has_news(line):
                self._outcome.put(None)
        return b"".join(lines)

    def _shut(self) -> None:
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it is closed already


def _reason(error: Exception) -> str:
    words: dict[type[Exception], str] = {
        ConnectionRefusedError: "connection refused",
        ConnectionResetError: "connection reset",
        socket.gaierror: "the host has no address",
        TimeoutError: "timed out",
    }
    return words.get(type(error), type(error).__name__)


def _seconds(header: str | None) -> float | None:
    return float(header) if header is not None and header.isdigit() and len(header) < 6 else None
