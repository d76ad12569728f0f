"""Several seeds of context-sac that learn together, each as it would alone."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from ssmrl.config import TrainConfig
from ssmrl.context.graph import Graphs, graphs_of
from ssmrl.context.learner import ContextLearner, Played
from ssmrl.context.replay import StackedReplay
from ssmrl.context.stack import Stack
from ssmrl.device import CPU
from ssmrl.device_memory import device_memory
from ssmrl.learner import Metrics
from ssmrl.meta.diverged import DivergedError
from ssmrl.rollout.play import Collect


class StackedLearner:
    """Learners of several seeds, whose updates are one set of batched operators.

    Each has its own random streams, experience, statistics and networks. Only the updates are made
    for all at once.

    Args:
        configs: Of context-sac, equal but for their seeds.
        device: Where networks and replays are.
        graphs_of: How a device captures updates, if it does.

    Attributes:
        own: The learner of each seed; what it learns by itself the others never know.
        stack: What those learn by that made the last iteration; at first all.

    Raises:
        DeviceMemoryError: If the device has no room for them.
        ValueError: If the configurations differ in more than their seeds, or cannot be stacked.
    """

    def __init__(
        self,
        configs: Sequence[TrainConfig],
        device: torch.device = CPU,
        graphs_of: Callable[[torch.device], Graphs | None] = graphs_of,
    ) -> None:
        _check(configs)
        self._config, self._device, self._graphs_of = configs[0], device, graphs_of
        with device_memory(self._config):
            self._replay = StackedReplay(self._config, len(configs), device)
            self.own = [
                ContextLearner(config, device=device, graphs_of=_no_graphs, replay=replay)
                for config, replay in zip(configs, self._replay.own, strict=True)
            ]
            self._members = tuple(range(len(configs)))
            self.stack = self._made(self._members)

    @staticmethod
    def can_stack(config: TrainConfig) -> bool:
        """Whether several seeds of it can be stacked: gradient steps inside an episode cannot."""
        return not config.meta.num_inner_steps

    def iterate(
        self, members: Sequence[int], collect: Collect
    ) -> tuple[dict[int, Metrics], dict[int, DivergedError]]:
        """An iteration of some of the learners; the others stay as they are.

        Args:
            members: Their places; all of them have made the same number of iterations.
            collect: Plays.

        Returns:
            By place what each did, and why it diverged where it did.

        Raises:
            ValueError: If they have not.
        """
        learners = {place: self.own[place] for place in members}
        iterations = {place: learner.iteration for place, learner in learners.items()}
        if len(set(iterations.values())) > 1:
            raise ValueError(
                f"`members` must have made the same number of iterations, but got {iterations}; "
                "let those that are behind catch up first"
            )
        started, cpu_started = time.perf_counter(), time.process_time()
        played = {place: learner.play(collect) for place, learner in learners.items()}
        sample_share = (time.perf_counter() - started) / len(members)
        statistics = self._updated(played)
        share = (time.perf_counter() - started) / len(members)
        cpu_share = (time.process_time() - cpu_started) / len(members)
        made: dict[int, Metrics] = {}
        diverged: dict[int, DivergedError] = {}
        for place, learner in learners.items():
            try:
                metrics = learner.conclude(played[place], statistics[place], share - sample_share)
                made[place] = replace(
                    metrics, sample_seconds=sample_share, seconds=share, cpu_seconds=cpu_share
                )
            except DivergedError as error:
                diverged[place] = error
        return made, diverged

    def _updated(self, played: Mapping[int, Played]) -> dict[int, dict[str, float]]:
        """Make the updates of an iteration; the statistics of each."""
        stack = self._stacked(tuple(played))
        learners = [self.own[place] for place in played]
        generators = [each.generator for each in played.values()]
        newest = [self.own[place].newest_lanes(each.rng) for place, each in played.items()]
        inputs, codes = (torch.cat(parts) for parts in zip(*newest, strict=True))
        stack.take_up()
        of_inference = stack.inference.plain_updates(
            inputs, codes, learners[0].num_inference_updates, generators
        )
        drawn = []
        for place, each in played.items():
            own = self.own[place].drawn(each)
            first = place * self._replay.env_steps_of_one
            drawn.append(own._replace(places=own.places + first))
        of_actor_critic = stack.actor_critic.update(drawn, generators)
        stack.hand_back()
        found = zip(of_inference, of_actor_critic, strict=True)
        return dict(zip(played, (first | second for first, second in found), strict=True))

    def _stacked(self, members: tuple[int, ...]) -> Stack:
        """Of these learners; made anew where they are others than before."""
        if members != self._members:
            self.stack, self._members = self._made(members), members
        return self.stack

    def _made(self, members: tuple[int, ...]) -> Stack:
        learners = [self.own[place] for place in members]
        graphs = self._graphs_of(self._device)
        return Stack(learners, self._replay.take, self._config, self._device, graphs)


def _no_graphs(device: torch.device) -> Graphs | None:
    """A learner of a stack makes no updates by itself."""
    return None


def _check(configs: Sequence[TrainConfig]) -> None:
    if not configs:
        raise ValueError("`configs` must be at least one, but are none; give one for each seed")
    first = configs[0]
    if any(replace(config, seed=first.seed) != first for config in configs):
        raise ValueError("`configs` must be equal but for their seeds; stack only such ones")
    seeds = [config.seed for config in configs]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"`configs` must have different seeds, but got {seeds}; leave doubles out")
