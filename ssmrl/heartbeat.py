"""Heartbeats from within a long computation, for watchdogs that detect hangs."""

from collections.abc import Callable

_listeners: list[Callable[[], None]] = []


def beat() -> None:
    """Report progress of the computation: an env step, or a few updates."""
    for listener in _listeners:
        listener()


def listen(listener: Callable[[], None]) -> Callable[[], None]:
    """Register a function to be called at every beat of this process.

    Args:
        listener: Function to call; it must be fast, as there are thousands of beats a second.

    Returns:
        A function that unregisters the listener; it may be called twice.
    """
    _listeners.append(listener)

    def stop() -> None:
        if listener in _listeners:
            _listeners.remove(listener)

    return stop
