"""Signs of life within a long computation, for whoever watches over it; nothing is computed."""

from collections.abc import Callable

_listeners: list[Callable[[], None]] = []


def beat() -> None:
    """Say that the computation has come a step further: an env step, a few updates."""
    for listener in _listeners:
        listener()


def listen(listener: Callable[[], None]) -> Callable[[], None]:
    """Have a function called at every beat of this process.

    Args:
        listener: Must be fast; there are thousands of beats a second.

    Returns:
        What ends it, and may be called twice.
    """
    _listeners.append(listener)

    def stop() -> None:
        if listener in _listeners:
            _listeners.remove(listener)

    return stop
