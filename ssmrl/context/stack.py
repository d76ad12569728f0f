"""Copies networks and optimisers of several learners into stacked tensors, and back."""

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
    """Stacked networks and optimisers of several learners, with an extra axis of seeds.

    Saving and acting still use each learner's own networks and moments. They are copied into the
    stack before an iteration's updates and copied back after them.

    Args:
        learners: Learner of each seed, all on one device.
        take: Function that returns transitions at indices into the replays of all learners.
        config: Configuration of context-sac, with any seed.
        device: Device of the learners.
        graphs: Graph capture of the device; None to run without graphs.

    Attributes:
        networks: Stacked networks of all seeds, except the inference models.
        actor_critic: Updates of actor and critics.
        inference: Updates of the inference models.
        captured: The captured updates by name; empty without graphs.

    Raises:
        ValueError: If the inference models are trained with gradient steps inside an episode.
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
        """Copy the learners' tensors into the stack."""
        for leaf in self._leaves():
            leaf.whole.copy_(_joined(leaf.layout, leaf.own))
        for name in ("center", "inverse_scale"):
            own = [getattr(learner.networks, name) for learner in self._learners]
            getattr(self.networks, name).copy_(torch.stack(own).unsqueeze(1))
        for moved in self._moved():
            states = [optimizer.state[own] for optimizer, own in moved.own]
            if not all(states):  # no update has been made yet
                moved.optimizer.state.pop(moved.leaf.whole, None)
                continue
            kept = moved.optimizer.state[moved.leaf.whole]
            found = {
                name: _joined(moved.leaf.layout, [state[name] for state in states])
                for name in _MOMENTS
            }
            # Equal for all learners, which have made equally many updates.
            found["step"] = states[0]["step"]
            for name, value in found.items():
                if name in kept:
                    kept[name].copy_(value)
                else:
                    kept[name] = value.clone()

    @torch.no_grad()
    def hand_back(self) -> None:
        """Copy the stack's tensors back to the learners."""
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
    """A stacked tensor, each learner's tensor, and the network that defines its layout, if any."""

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
