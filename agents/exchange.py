"""One HTTP request with a hard end in time and in bytes; it knows nothing of models."""

import queue
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urlsplit


class ExchangeError(RuntimeError):
    """There was no whole answer; the message says why, and quotes nothing of the request."""


@dataclass(frozen=True)
class Response:
    """What a server answered.

    Attributes:
        status: HTTP status.
        body: All of it.
        retry_after_s: How long the server asks to wait [s]; None if it does not.
        is_stream: Whether the body came in pieces, as lines of events.
    """

    status: int
    body: bytes
    retry_after_s: float | None
    is_stream: bool = False


@dataclass(frozen=True)
class Stream:
    """How the lines of a stream of events are read.

    Attributes:
        has_news: Whether a line shows that the answer goes on: then the time begins anew.
        is_end: Whether nothing follows a line.
        max_bytes: A longer stream is an error.
    """

    has_news: Callable[[bytes], bool]
    is_end: Callable[[bytes], bool]
    max_bytes: int


def check_url(url: str) -> str:
    """The URL, if a request can go there and nothing but a place is in it.

    Raises:
        ValueError: If it is not ``http://`` or ``https://`` with a host, or has a user, a query or
            a fragment. The message quotes none of it, since a password may stand there.
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
    the request goes to the place that was named, or nowhere.

    Args:
        url: Where to, as ``check_url`` lets it pass.
        body: What to post.
        headers: Sent with it.
        timeout_s: From the look-up of the name to the last byte [s]; also for a server that sends a
            byte now and then. Of a stream, from one line with news to the next.
        max_bytes: A longer answer is an error.
        stream: How to read a stream of events, if one comes; as any other answer if left out.
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
        # None is a sign of life.
        self._outcome: queue.SimpleQueue[Response | ExchangeError | None] = queue.SimpleQueue()
        self._socket: socket.socket | None = None

    def response(self) -> Response:
        """What the server answers, whole, and in time.

        Raises:
            ExchangeError: If time or bytes are used up, the connection fails or ends early, or
                somebody calls ``abort``.
        """
        # Neither the look-up of a name nor a header that drips obeys the timeout of a socket. A
        # thread that is left behind holds a socket that is shut, or a look-up that ends by itself.
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
        """End it from another thread."""
        self._outcome.put(ExchangeError("given up"))

    def _run(self) -> None:
        try:
            self._outcome.put(self._exchange())
        except ExchangeError as error:
            self._outcome.put(error)
        except (OSError, HTTPException, ValueError) as error:
            # A ValueError comes from a host that is no name. The text may quote what was sent.
            self._outcome.put(ExchangeError(f"no answer: {_reason(error)}"))

    def _exchange(self) -> Response:
        parts = urlsplit(self._url)
        make = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        deadline = time.monotonic() + self._timeout_s
        connection = make(parts.hostname or "", parts.port, timeout=self._timeout_s)
        try:
            connection.connect()
            self._socket = connection.sock
            if time.monotonic() >= deadline:  # nobody waits any more: do not send
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
