"""Networks and optimisers of several learners as one set of tensors, and back."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ssmrl.config import TrainConfig
from ssmrl.context.actor_critic_training import ActorCriticTraining
from ssmrl.context.graph import Graphs, those_captured
from ssmrl.context.inference import StackedInference
from ssmrl.context.inference_training import InferenceTraining
from ssmrl.context.learner import ContextLearner
from ssmrl.context.networks import ContextNetworks, ParallelMLP
from ssmrl.context.replay import Transitions

_MOMENTS = ("exp_avg", "exp_avg_sq")


class Stack:
    """What several learners of one configuration learn by, along one more axis of every tensor.

    Their own networks and moments stay what is saved and played by: they are taken up before an
    iteration's updates and handed back after them.

    Args:
        learners: Of each seed, on one device.
        take: Transitions by their place in the replays of all of them.
        config: Of context-sac, whatever its seed.
        device: Where they are.
        graphs: How updates are captured, if they are.

    Attributes:
        networks: Of all seeds, but for the inference models.
        actor_critic: Makes the updates of these.
        inference: Makes the updates of the inference models.
        captured: The updates that are replayed, by name; none where nothing is captured.

    Raises:
        ValueError: If the inference models are trained for gradient steps inside an episode.
    """

    def __init__(
        self,
        learners: Sequence[ContextLearner],
        take: Callable[[Tensor], Transitions],
        config: TrainConfig,
        device: torch.device,
        graphs: Graphs | None,
    ) -> None:
        self._learners = learners
        models = StackedInference([learner.networks.inference for learner in learners])
        self.networks = ContextNetworks.stacked([learner.networks for learner in learners])
        self.actor_critic = ActorCriticTraining(self.networks, take, config, device, graphs)
        self.inference = InferenceTraining(models, config, device, graphs)
        self.captured = those_captured(
            actor_critic=self.actor_critic.captured, inference=self.inference.captured
        )
        self._optimizers = self.actor_critic.sac.optimizers | {
            "inference": self.inference.optimizer
        }

    @torch.no_grad()
    def take_up(self) -> None:
        """Copy all that is the learners' own."""
        for leaf in self._leaves():
            leaf.whole.copy_(_joined(leaf.layout, leaf.own))
        for name in ("center", "inverse_scale"):
            own = [getattr(learner.networks, name) for learner in self._learners]
            getattr(self.networks, name).copy_(torch.stack(own).unsqueeze(1))
        for moved in self._moved():
            states = [optimizer.state[own] for optimizer, own in moved.own]
            if not all(states):  # nothing has moved yet
                moved.optimizer.state.pop(moved.leaf.whole, None)
                continue
            kept = moved.optimizer.state[moved.leaf.whole]
            found = {
                name: _joined(moved.leaf.layout, [state[name] for state in states])
                for name in _MOMENTS
            }
            # The same for all: they have made the same updates.
            found["step"] = states[0]["step"]
            for name, value in found.items():
                if name in kept:
                    kept[name].copy_(value)
                else:
                    kept[name] = value.clone()

    @torch.no_grad()
    def hand_back(self) -> None:
        """Give each learner its own."""
        for leaf in self._leaves():
            for own, value in zip(leaf.own, _parted(leaf.layout, leaf.whole), strict=True):
                own.copy_(value)
        for moved in self._moved():
            kept = moved.optimizer.state[moved.leaf.whole]
            if not kept:
                continue
            parts = {name: _parted(moved.leaf.layout, kept[name]) for name in _MOMENTS}
            for place, (optimizer, own) in enumerate(moved.own):
                optimizer.state[own] = {
                    "step": kept["step"].clone(),
                    **{name: part[place].clone() for name, part in parts.items()},
                }

    def _leaves(self) -> Iterator["_Leaf"]:
        for moved in self._moved():
            yield moved.leaf
        for name in ("average", "target"):
            networks = getattr(self.networks, name)
            own = [getattr(learner.networks, name).flat for learner in self._learners]
            yield _Leaf(networks.flat, own, networks)

    def _moved(self) -> Iterator["_Moved"]:
        networks = self.networks
        layouts: dict[Tensor, ParallelMLP] = {
            each.flat: each for each in (networks.actor, networks.critic)
        }
        of_each = [learner.optimizers() for learner in self._learners]
        for name, optimizer in self._optimizers.items():
            optimizers = [own[name] for own in of_each]
            parameters = zip(*map(_parameters, optimizers), strict=True)
            for whole, own in zip(_parameters(optimizer), parameters, strict=True):
                leaf = _Leaf(whole, list(own), layouts.get(whole))
                yield _Moved(leaf, optimizer, list(zip(optimizers, own, strict=True)))


class _Leaf(NamedTuple):
    """A stacked tensor, each learner's own, and whose order it has if not one after the other."""

    whole: Tensor
    own: list[Tensor]
    layout: ParallelMLP | None


class _Moved(NamedTuple):
    """A stacked parameter with its optimiser, and each learner's optimiser and parameter."""

    leaf: _Leaf
    optimizer: torch.optim.Adam
    own: list[tuple[torch.optim.Adam, Tensor]]


def _joined(layout: ParallelMLP | None, own: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(own)) if layout is None else layout.joined(own)


def _parted(layout: ParallelMLP | None, whole: Tensor) -> Tensor:
    return whole if layout is None else layout.parted(whole)


def _parameters(optimizer: torch.optim.Adam) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
