"""How many operators a piece of work calls."""

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class Counting(TorchDispatchMode):
    """Counts operators while it is entered.

    Attributes:
        num_calls: All of them.
        num_views: Those that compute nothing.
    """

    num_calls = 0
    num_views = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.num_calls += 1
        self.num_views += func.is_view
        return func(*args, **kwargs or {})
