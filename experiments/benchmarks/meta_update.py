"""One second-order MAML update of a state space model, against ``higher`` and TorchOpt.

Supervised sequences replace rollouts, so that all of them do the same work.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from experiments.benchmarks.harness import Measured, Row, Settings, interleaved_seconds
from ssmrl.meta.maml import MetaMAML
from ssmrl.models.recurrence import recurrence_by_steps
from ssmrl.models.ssm import StateSpaceModel
from ssmrl.types import Params

NUM_TASKS, NUM_SEQUENCES, NUM_STEPS = 20, 10, 100
OBSERVATION_DIM, ACTION_DIM, WIDTH = 17, 6, 128
INNER_LR = 0.1
TOLERANCE = 1e-5
"""Largest difference of two gradients, in units of the largest entry."""
TARGETS = {"higher": 4.0, "TorchOpt": 8.0}


@dataclass(frozen=True)
class Update:
    """A model and the tasks of one update.

    Attributes:
        model: Its parameters are the meta-parameters.
        support_x: ``(N, B, T, I)``.
        support_y: ``(N, B, T, O)``.
        query_x: ``(N, B, T, I)``.
        query_y: ``(N, B, T, O)``.
    """

    model: StateSpaceModel
    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor

    @classmethod
    def drawn(cls, num_steps: int = NUM_STEPS, num_tasks: int = NUM_TASKS) -> "Update":
        """Random sequences; the model has the sizes of the 53 K policy."""
        generator = torch.Generator().manual_seed(0)
        lanes = (num_tasks, NUM_SEQUENCES, num_steps)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = StateSpaceModel(WIDTH, OBSERVATION_DIM, ACTION_DIM, WIDTH)
        dims = (OBSERVATION_DIM, ACTION_DIM) * 2
        return cls(model, *(torch.randn(*lanes, dim, generator=generator) for dim in dims))

    def ours(self) -> Params:
        """The gradient that ``MetaMAML.meta_update`` passes to Adam."""
        _, gradient = MetaMAML(self.model, INNER_LR).meta_gradient(list(self._tasks()))
        return gradient

    def with_higher(self) -> Params:
        """The gradient by a loop over tasks, each with a monkeypatched copy of the model."""
        import higher

        self.model.zero_grad()
        hidden = self.model.init_hidden(NUM_SEQUENCES)
        inner = torch.optim.SGD(self.model.parameters(), lr=INNER_LR)
        for support_x, support_y, query_x, query_y in self._tasks():
            with higher.innerloop_ctx(self.model, inner, copy_initial_weights=False) as patched:
                model, optimizer = patched
                optimizer.step(mse_loss(model(support_x, hidden)[0], support_y))
                query_loss = mse_loss(model(query_x, hidden)[0], query_y)
                (query_loss / len(self.support_x)).backward()
        return self._gradient()

    def with_torchopt(self) -> Params:
        """The gradient by a loop over tasks, with a differentiable optimiser reset after each."""
        import torchopt

        self.model.zero_grad()
        hidden = self.model.init_hidden(NUM_SEQUENCES)
        inner = torchopt.MetaSGD(self.model, lr=INNER_LR)
        model_before = torchopt.extract_state_dict(self.model, by="reference")
        inner_before = torchopt.extract_state_dict(inner, by="reference")
        for support_x, support_y, query_x, query_y in self._tasks():
            inner.step(mse_loss(self.model(support_x, hidden)[0], support_y))
            query_loss = mse_loss(self.model(query_x, hidden)[0], query_y)
            torchopt.recover_state_dict(self.model, model_before)
            torchopt.recover_state_dict(inner, inner_before)
            (query_loss / len(self.support_x)).backward()
        return self._gradient()

    def _tasks(self) -> Iterator[tuple[Tensor, ...]]:
        yield from zip(self.support_x, self.support_y, self.query_x, self.query_y, strict=True)

    def _gradient(self) -> Params:
        return {
            name: torch.zeros_like(value) if value.grad is None else value.grad.clone()
            for name, value in self.model.named_parameters()
        }


def measure(settings: Settings) -> Measured:
    """Time peers with our recurrence, and with the plain loop that autograd records."""
    update = Update.drawn(20, 4) if settings.quick else Update.drawn()
    peers = {"higher": update.with_higher, "TorchOpt": update.with_torchopt}
    expected = update.ours()
    contestants: dict[str, Callable[[], object]] = {"ours": update.ours}
    refused: dict[str, str] = {}
    for name, play in peers.items():
        for with_loop in (False, True):
            label = f"{name}, plain loop" if with_loop else name
            contestant = _by_steps(play) if with_loop else play
            try:
                check_equal(label, expected, contestant())
            except (RuntimeError, TypeError) as error:
                refused[label] = str(error).splitlines()[0]
            else:
                contestants[label] = contestant
    seconds = interleaved_seconds(contestants, settings.repeats)
    return Measured([row for name in peers for row in _rows(name, seconds, refused)])


def check_equal(name: str, expected: Params, gradient: Params) -> None:
    """Check that a peer's meta-gradient equals ours.

    Raises:
        ArithmeticError: If they differ by more than ``TOLERANCE`` of the largest entry.
    """
    scale = max(float(value.abs().max()) for value in expected.values())
    worst = max(float((gradient[key] - value).abs().max()) for key, value in expected.items())
    if not worst <= TOLERANCE * scale:
        raise ArithmeticError(
            f"the meta-gradient of {name} must equal ours to {TOLERANCE:g} of its largest entry "
            f"{scale:.3g}, but differs by {worst:.3g}: the update is not the same one"
        )


def _rows(name: str, seconds: dict[str, float], refused: dict[str, str]) -> list[Row]:
    """Rows of a peer; the target applies to its faster way."""
    labels = {name: "our recurrence", f"{name}, plain loop": "plain loop"}
    ran = [label for label in labels if label in seconds]
    if not ran:
        raise RuntimeError(f"{name} does not work with this model: {refused}")
    best = min(ran, key=lambda label: seconds[label])
    rows = []
    for label in sorted(ran, key=lambda label: label != best):
        rows.append(
            Row(
                f"MAML update against {name} with the model on {labels[label]}",
                seconds[label] / seconds["ours"],
                target=TARGETS[name] if label == best else None,
                note=f"{seconds['ours']:.3f} against {seconds[label]:.3f} s; gradients equal to "
                f"{TOLERANCE:g}{'; its faster way' if label == best and len(ran) > 1 else ''}",
            )
        )
    if missing := [f"{labels[label]}: {refused[label]}" for label in labels if label in refused]:
        rows.append(Row(f"{name} refuses", float(len(missing)), "ways", note="; ".join(missing)))
    return rows


def _by_steps(play: Callable[[], Params]) -> Callable[[], Params]:
    def wrapped() -> Params:
        with _plain_recurrence():
            return play()

    return wrapped


@contextmanager
def _plain_recurrence() -> Iterator[None]:
    """Use the loop that autograd records, for peers that cannot differentiate ours."""
    with mock.patch("ssmrl.models.ssm.recurrence", recurrence_by_steps):
        yield
