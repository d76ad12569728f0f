"""Updates of actor and critics from the replay, for one seed or several seeds at once."""

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

_GATHERED = 16  # updates per gather of batches: fewer calls, and the batches still fit the cache
_COST_OF_ONE = 10  # cost of a single update outside a graph, in units of one graph launch


class Drawn(NamedTuple):
    """Random draws for some updates, except for the noise of the actions.

    Attributes:
        places: Replay indices of the transitions, ``(U, *R, M)``.
        parameters: Hidden variables of the relabelling tasks, ``(U, *R, L, P)``.
        codes: Codes of these hidden variables, ``(U, *R, L, Z)``.
    """

    places: Tensor
    parameters: Tensor
    codes: Tensor


class ActorCriticTraining:
    """Makes updates of actor and critics on batches from the replay.

    Args:
        networks: Networks of one seed, or stacked ones with an axis ``R`` of seeds.
        take: Function that returns the replay's transitions at given indices.
        config: Configuration of context-sac.
        device: Device of networks and replay.
        graphs: Graph capture of the device; None to run without graphs.

    Attributes:
        sac: Update steps, and their optimisers.
        captured: The captured updates; None without graphs.

    Raises:
        ValueError: If the device does not support ``meta.matmul``.
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
        """Run updates, or start them on the device.

        Args:
            drawn: Random draws of each seed, without the axis of seeds.
            generators: Generator of each seed's action noise.

        Returns:
            Function that waits for the updates. It returns, per seed, the temperature and the
            losses of the last update that moved the actor.
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
        # A copy, since a graph's outputs are overwritten by its next replay.
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
        """Run updates one after another, without reading any tensor's value.

        Args:
            places: Replay indices of the transitions.
            parameters: Hidden variables of the relabelling tasks.
            codes: Codes of these hidden variables.
            noise: Standard normal numbers.
            start: Number of the iteration's updates before these.

        Returns:
            Losses of the last update that moved the actor; None if none did.
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
        """Batches for some updates; the first ``L`` rewards of each are relabelled.

        Args:
            places: Replay indices of the transitions.
            parameters: Hidden variables of the relabelling tasks.
            codes: Codes of these hidden variables.

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
        """The values of all seeds, stacked along ``dim`` if the networks are stacked."""
        is_stacked = self._networks.log_temperature.ndim > 0
        return torch.stack(list(values), dim) if is_stacked else values[0]

    def _noise(self, num_updates: int, generators: Sequence[torch.Generator]) -> Tensor:
        """Action noise of some updates, ``(U, 2, *R, M, A)``, on the generators' device."""
        shape = (num_updates, 2, self._config.meta.batch_size, self._networks.action_dim)
        drawn = [torch.randn(shape, generator=each, device=each.device) for each in generators]
        return self._of_all(drawn, 2)

    def _replayed_updates(
        self, captured: Captured, drawn: Drawn, generators: Sequence[torch.Generator]
    ) -> Losses | None:
        """Run whole cycles as graph replays, and the remaining updates one by one."""
        # Same chunks as without graphs, since a generator's numbers depend on them.
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
        assert losses is not None, "a graph must hold whole cycles of the actor"
        return losses


def _products(matmul: str, device: torch.device) -> Callable[[], AbstractContextManager[None]]:
    """Context manager that sets this precision of matrix products for updates."""
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
    """Use TF32 for float32 products on CUDA inside this context."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def cycle_length(num_updates: int, actor_every: int, most: int = _GATHERED) -> int:
    """Number of updates in one graph: whole cycles of the actor, with a small remainder.

    Args:
        num_updates: Updates of an iteration.
        actor_every: Critic updates per actor update; together they are one cycle.
        most: Largest number of updates in a graph, unless a single cycle is longer.

    Example:
        >>> cycle_length(200, 2, 16), cycle_length(202, 2, 16), cycle_length(200, 30, 16)
        (10, 10, 30)
    """
    lengths = range(actor_every, max(most, actor_every) + 1, actor_every)
    return min(lengths, key=lambda n: num_updates // n + _COST_OF_ONE * (num_updates % n))
