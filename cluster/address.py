"""What may stand for a Ray cluster on a command line; it asks no cluster and imports no Ray."""

import re

_PLACE = re.compile(r"(?:ray://)?(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})")


def check_address(address: str | None) -> None:
    """Refuse what names no cluster, over which Ray would brood for minutes.

    Args:
        address: None for no cluster, which is fine.

    Raises:
        ValueError: If it is none of ``auto``, ``HOST:PORT`` and ``ray://HOST:PORT``.

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
