"""An OpenAI-compatible server on loopback that answers from a script, well or badly."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

Step: TypeAlias = Callable[["_Handler"], None]


@dataclass
class ScriptedServer:
    """What the server was asked, and where it is."""

    base_url: str
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


def says(text: str | None, **more: Any) -> Step:
    """An answer in words."""
    return lambda handler: handler.answer({"role": "assistant", "content": text, **more})


def calls(name: str, arguments: Any, *, times: int = 1) -> Step:
    """A native call of one tool, or several of them in one reply."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    tool_calls = [
        {"id": f"call_{7 + number}", "type": "function", "function": function}
        for number in range(times)
    ]
    return says(None, tool_calls=tool_calls)


def status(code: int, text: str = "", *, retry_after: str | None = None) -> Step:
    """An HTTP error."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return lambda handler: handler.send(code, json.dumps({"error": text}).encode(), headers)


def raw(body: bytes) -> Step:
    """Any bytes, with status 200."""
    return lambda handler: handler.send(200, body)


def event(delta: dict[str, Any], **more: Any) -> bytes:
    """A piece of a stream."""
    choice = {"index": 0, "delta": delta, "finish_reason": None} | more
    return f"data: {json.dumps({'choices': [choice]})}\n\n".encode()


def streams(
    *pieces: bytes, pause_s: float = 0.0, end: bytes = b"data: [DONE]\n\n", forever: bool = False
) -> Step:
    """An answer in pieces, with pauses between them; the last piece for ever if asked to."""

    def step(handler: "_Handler") -> None:
        handler.send(200, b"", {"Content-Type": "text/event-stream", "Connection": "close"}, False)
        for piece in pieces:
            time.sleep(pause_s)
            handler.wfile.write(piece)
            handler.wfile.flush()
        while forever and not handler.script.closing.wait(pause_s):
            handler.wfile.write(pieces[-1])
            handler.wfile.flush()
        handler.wfile.write(end)

    return step


def cut(handler: "_Handler") -> None:
    """Half of an answer, and the end of the connection."""
    body = handler.completion({"role": "assistant", "content": "{}"})
    handler.send(200, body[: len(body) // 2], {"Content-Length": str(len(body))})


def drips_body(handler: "_Handler") -> None:
    """A byte now and then, after a header that promises many."""
    handler.send(200, b"", {"Content-Length": "100000"})
    _drip(handler, b" ")


def drips_header(handler: "_Handler") -> None:
    """A header that does not end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    _drip(handler, b"x")


def hangs(handler: "_Handler") -> None:
    """Nothing, until the other side leaves or the test ends."""
    handler.script.closing.wait(10)


def echoes_key(handler: "_Handler") -> None:
    """An error that quotes the credentials."""
    status(400, f"bad header {handler.headers['Authorization']}")(handler)


def says_key(handler: "_Handler") -> None:
    """An answer that quotes the credentials."""
    says(f"your key is {handler.headers['Authorization']}")(handler)


@contextmanager
def serving(steps: Iterable[Step]) -> Iterator[ScriptedServer]:
    """A server that takes the steps in turn, and the last one for ever."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.script = _Script(
        list(steps), ScriptedServer(f"http://127.0.0.1:{server.server_port}/v1")
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.script.seen
    finally:
        server.script.closing.set()
        server.shutdown()
        server.server_close()


@dataclass
class _Script:
    steps: list[Step]
    seen: ScriptedServer
    closing: threading.Event = field(default_factory=threading.Event)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    script: _Script


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    @property
    def script(self) -> _Script:
        return self.server.script

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        seen = self.script.seen
        seen.requests.append(body | {"path": self.path})
        seen.headers.append(dict(self.headers))
        step = self.script.steps[min(len(seen.requests), len(self.script.steps)) - 1]
        self.close_connection = True
        with suppress(OSError):  # the other side may have left
            step(self)

    def answer(self, message: dict[str, Any]) -> None:
        self.send(200, self.completion(message))

    def completion(self, message: dict[str, Any]) -> bytes:
        usage = {"prompt_tokens": 100, "completion_tokens": 11, "total_tokens": 111}
        return json.dumps({"choices": [{"index": 0, "message": message}], "usage": usage}).encode()

    def send(
        self,
        code: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        has_length: bool = True,
    ) -> None:
        self.send_response(code)
        length = {"Content-Length": str(len(body))} if has_length else {}
        for name, value in (length | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a test's output is the test's."""


def _drip(handler: _Handler, piece: bytes) -> None:
    while not handler.script.closing.is_set():
        handler.wfile.write(piece)
        handler.wfile.flush()
        time.sleep(0.02)
