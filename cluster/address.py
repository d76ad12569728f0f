"""Checks a Ray cluster address from a command line, without contacting it or importing Ray."""

import re

_PLACE = re.compile(r"(?:ray://)?(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})")


def check_address(address: str | None) -> None:
    """Reject a malformed address, which Ray would try to reach for minutes.

    Args:
        address: Address to check; None, for no cluster, is valid.

    Raises:
        ValueError: If the address is none of ``auto``, ``HOST:PORT`` and ``ray://HOST:PORT``.

    Example:
        >>> check_address("ray://head.example:10001")
        >>> check_address("nonsense")
        Traceback (most recent call last):
        ValueError: `--address` must be auto, HOST:PORT or ray://HOST:PORT, but got 'nonsense'
    """
    if address in (None, "auto"):
        return
    place = _PLACE.fullmatch(address or "")
    if place is None or not 0 < int(place["port"]) < 65_536:
        raise ValueError(
            f"`--address` must be auto, HOST:PORT or ray://HOST:PORT, but got {address!r}"
        )
