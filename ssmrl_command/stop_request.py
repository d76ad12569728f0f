"""Ctrl-C during training: the iteration is finished first, so that nothing is lost."""

import os
import signal
from typing import Any


class StopRequest:
    """Within the block, a first Ctrl-C or SIGTERM is recorded, and a second one exits at once.

    Attributes:
        exit_code: 130 or 143 after a first signal; 0 before.
    """

    def __init__(self) -> None:
        self.exit_code = 0

    def __enter__(self) -> "StopRequest":
        signals = (signal.SIGINT, signal.SIGTERM)
        self._previous = {number: signal.signal(number, self._note) for number in signals}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        if self.exit_code:
            os._exit(128 + number)
        self.exit_code = 128 + number
        # Not print: the signal may interrupt a running print.
        os.write(2, b"\nstopping after this iteration; again to stop at once\n")
