"""Long loops without the checks of types that these tests otherwise make at every call."""

from collections.abc import Iterator
from contextlib import contextmanager

from jaxtyping import config


@contextmanager
def unchecked_types() -> Iterator[None]:
    """For what is long and calls only what shorter tests call, too; also as a decorator.

    The checks take up to half of the time of a loop over steps.
    """
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", before)
