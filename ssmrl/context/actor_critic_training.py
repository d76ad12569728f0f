"""How actor and critics learn from the replay: of one seed, or of several at once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ssmrl.config import TrainConfig
from ssmrl.context.graph import Captured, Graphs
from ssmrl.context.networks import ContextNetworks
from ssmrl.context.replay import Transitions, paid_by
from ssmrl.context.sac import Batch, Losses, SoftActorCritic
from ssmrl.device import CPU, adam_options, handed_over
from ssmrl.heartbeat import beat

_GATHERED = 16  # updates whose batches are gathered together: enough to spare calls, not the cache
_COST_OF_ONE = 10  # of an update on its own, in units of a graph's start: what a remainder costs


class Drawn(NamedTuple):
    """What chance decides of some updates, but for the noise of the actions.

    Attributes:
        places: Which transitions, ``(U, *R, M)``.
        parameters: Hidden variables of the other tasks, ``(U, *R, L, P)``.
        codes: Theirs, ``(U, *R, L, Z)``.
    """

    places: Tensor
    parameters: Tensor
    codes: Tensor


class ActorCriticTraining:
    """Makes updates of actor and critics on batches from the replay.

    Args:
        networks: Of one seed, or stacked: then tensors have an axis ``R`` of seeds.
        take: Transitions of the replay by their place.
        config: Of context-sac.
        device: Where networks and replay are.
        graphs: How updates are captured, if they are.

    Attributes:
        sac: Owns the optimisers.
        captured: The updates that are replayed, if any are.

    Raises:
        ValueError: If the device cannot multiply as ``meta.matmul`` says.
    """

    def __init__(
        self,
        networks: ContextNetworks,
        take: Callable[[Tensor], Transitions],
        config: TrainConfig,
        device: torch.device = CPU,
        graphs: Graphs | None = None,
    ) -> None:
        self._networks, self._take, self._config, self._device = networks, take, config, device
        self._products = _products(config.meta.matmul, device)
        if config.meta.matmul == "bfloat16":
            for part in (networks.actor, networks.critic, networks.target):
                part.product_dtype = torch.bfloat16
        options = adam_options(device, captured=graphs is not None)
        self.sac = SoftActorCritic(networks, config.meta, **options)
        self.captured: Captured | None = None
        if graphs is not None:
            name = "the updates of actor and critics"
            self.captured = Captured(self._whole_turns, graphs, name)

    def begin(
        self, drawn: Sequence[Drawn], generators: Sequence[torch.Generator]
    ) -> Callable[[], list[dict[str, float]]]:
        """Make updates, or have a device make them.

        Args:
            drawn: For each seed, without the axis of seeds.
            generators: Of each seed: draws the noise of its actions.

        Returns:
            What waits for them, and gives of each seed the temperature, and the losses of the last
            update that moved the actor.
        """
        whole = self._joined(drawn, dim=1)
        if self.captured is not None:
            losses = self._replayed_updates(self.captured, whole, generators)
        else:
            losses = None
            for start in range(0, len(whole.places), _GATHERED):
                beat()
                part = [value[start : start + _GATHERED] for value in whole]
                part.append(handed_over(self._noise(len(part[0]), generators), self._device))
                found = self.updates(*part, start=start)
                losses = losses if found is None else found
        values = {"temperature": self._networks.log_temperature.detach().exp()}
        if losses is not None:
            values |= {
                f"{name}_loss" if name != "entropy" else name: value
                for name, value in losses._asdict().items()
            }
        # A copy: what a graph gives is overwritten by its next replay.
        of_each = torch.stack([value.reshape(-1) for value in values.values()], 1)
        return lambda: [dict(zip(values, own, strict=True)) for own in of_each.tolist()]

    def updates(
        self,
        places: Int[Tensor, "U *R M"],
        parameters: Float[Tensor, "U *R L P"],
        codes: Float[Tensor, "U *R L Z"],
        noise: Float[Tensor, "U 2 *R M A"],
        *,
        start: int = 0,
    ) -> Losses | None:
        """Updates one after another; reads no tensor's value.

        Args:
            places: Which transitions.
            parameters: Hidden variables of the other tasks.
            codes: Theirs.
            noise: Standard normal numbers.
            start: Updates of the iteration before these.

        Returns:
            Of the last one that moved the actor, if one did.
        """
        batches = self.batches(places, parameters, codes)
        losses: Losses | None = None
        with self._products():
            for offset in range(len(noise)):
                found = self.sac.update(
                    Batch(*(leaf[offset] for leaf in batches)),
                    noise[offset],
                    moves_actor=(start + offset + 1) % self._config.meta.actor_every == 0,
                )
                losses = losses if found is None else found
        return losses

    def batches(
        self,
        places: Int[Tensor, "U *R M"],
        parameters: Float[Tensor, "U *R L P"],
        codes: Float[Tensor, "U *R L Z"],
    ) -> Batch:
        """Transitions for some updates, the first of each batch paid by other tasks.

        Args:
            places: Which transitions.
            parameters: Hidden variables of the other tasks.
            codes: Theirs.

        Returns:
            A batch whose leaves are ``(U, *R, M, ...)``.
        """
        raw = self._take(places.flatten())
        raw = Transitions(*(leaf.unflatten(0, places.shape) for leaf in raw))
        num_other = codes.shape[-2]
        reward = raw.reward
        if num_other:
            other = paid_by(raw.motion[..., :num_other, :], parameters, self._config)
            reward = torch.cat([other, reward[..., num_other:]], dim=-1)
        return Batch(
            self._networks.normalised(raw.observation),
            raw.action,
            reward,
            self._networks.normalised(raw.next_observation),
            raw.continues,
            torch.cat([codes, raw.code[..., num_other:, :]], dim=-2),
        )

    def _joined(self, drawn: Sequence[Drawn], dim: int) -> Drawn:
        return Drawn(*(self._of_all(leaves, dim) for leaves in zip(*drawn, strict=True)))

    def _of_all(self, values: Sequence[Tensor], dim: int) -> Tensor:
        """With an axis of seeds, where the networks have one."""
        is_stacked = self._networks.log_temperature.ndim > 0
        return torch.stack(list(values), dim) if is_stacked else values[0]

    def _noise(self, num_updates: int, generators: Sequence[torch.Generator]) -> Tensor:
        """For the actions of some updates, ``(U, 2, *R, M, A)``, where the generators are."""
        shape = (num_updates, 2, self._config.meta.batch_size, self._networks.action_dim)
        drawn = [torch.randn(shape, generator=each, device=each.device) for each in generators]
        return self._of_all(drawn, 2)

    def _replayed_updates(
        self, captured: Captured, drawn: Drawn, generators: Sequence[torch.Generator]
    ) -> Losses | None:
        """As many at once as are captured, and what remains one after another."""
        # Drawn in the same parts as elsewhere: a generator's numbers depend on them.
        sizes = [len(part) for part in drawn.places.split(_GATHERED)]
        noise = torch.cat([self._noise(size, generators) for size in sizes])
        everything = (*drawn, handed_over(noise, self._device))
        num_updates = len(drawn.places)
        length = cycle_length(num_updates, self._config.meta.actor_every)
        losses: Losses | None = None
        for start in range(0, num_updates, length):
            beat()
            part = [value[start : start + length] for value in everything]
            if len(part[0]) == length:
                losses = Losses(*captured(*part))
            else:
                found = self.updates(*part)
                losses = losses if found is None else found
        return losses

    def _whole_turns(self, *drawn: Tensor) -> Losses:
        losses = self.updates(*drawn)
        assert losses is not None, "a graph holds whole turns of the actor"
        return losses


def _products(matmul: str, device: torch.device) -> Callable[[], AbstractContextManager[None]]:
    """What surrounds updates whose products are to be as exact as that."""
    if matmul != "tf32":
        return nullcontext
    if device.type != "cuda":
        raise ValueError(
            f"`meta.matmul` is 'tf32', which {device.type} does not have; use 'float32' or "
            "'bfloat16', or a CUDA device"
        )
    return tf32


@contextmanager
def tf32() -> Iterator[None]:
    """Products of float32 on CUDA are of TF32 meanwhile."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def cycle_length(num_updates: int, actor_every: int, most: int = _GATHERED) -> int:
    """How many updates one graph holds: whole turns of the actor, with little that remains.

    Args:
        num_updates: Of an iteration.
        actor_every: Updates of a turn.
        most: That one graph should hold; a turn is held whole in any case.

    Example:
        >>> cycle_length(200, 2, 16), cycle_length(202, 2, 16), cycle_length(200, 30, 16)
        (10, 10, 30)
    """
    lengths = range(actor_every, max(most, actor_every) + 1, actor_every)
    return min(lengths, key=lambda n: num_updates // n + _COST_OF_ONE * (num_updates % n))
