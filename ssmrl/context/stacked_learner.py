"""Several seeds of context-sac trained together, each as it would be alone."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from ssmrl.config import TrainConfig
from ssmrl.context.graph import Graphs, graphs_of
from ssmrl.context.learner import ContextLearner, Played
from ssmrl.context.replay import StackedReplay
from ssmrl.context.stack import Stack
from ssmrl.context.turns import Turns, take_turns
from ssmrl.device import CPU
from ssmrl.device_memory import device_memory
from ssmrl.learner import Metrics
from ssmrl.meta.diverged import DivergedError
from ssmrl.rollout.play import Collect
from ssmrl.types import Params


class StackedLearner:
    """Learners of several seeds whose updates run as one set of batched operators.

    Each has its own random streams, experience, statistics and networks. Only the updates are
    batched over the seeds.

    Args:
        configs: Configurations of context-sac, equal except for their seeds.
        device: Device of networks and replays.
        graphs_of: Function that returns a device's graph capture, or None.

    Attributes:
        own: Learner of each seed; learners share no learnt state.
        stack: Stack of the learners that made the last iteration; initially all.

    Raises:
        DeviceMemoryError: If the device has too little memory for them.
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
        """Whether its seeds can be stacked: not with gradient steps inside an episode."""
        return not config.meta.num_inner_steps

    def iterate(
        self, members: Sequence[int], collect: Collect
    ) -> tuple[dict[int, Metrics], dict[int, DivergedError]]:
        """Run an iteration of some of the learners; the others do not change.

        Args:
            members: Indices of the learners, which must have made equally many iterations.
            collect: Function that collects rollouts.

        Returns:
            Metrics by index, and the errors of diverged learners by index.

        Raises:
            ValueError: If the learners have made different numbers of iterations.
        """
        learners = {place: self.own[place] for place in members}
        iterations = {place: learner.iteration for place, learner in learners.items()}
        if len(set(iterations.values())) > 1:
            raise ValueError(
                f"`members` must have made the same number of iterations, but got {iterations}; "
                "let those that are behind catch up first"
            )

        def acting() -> dict[int, Params]:
            return {place: learner.params() for place, learner in learners.items()}

        def play(turn: int, params: Mapping[int, Params]) -> dict[int, Played]:
            return {
                place: learner.play(collect, turn, params[place])
                for place, learner in learners.items()
            }

        def keep(played: Mapping[int, Played]) -> None:
            for place, learner in learners.items():
                learner.keep(played[place])

        cpu_started, started = time.process_time(), time.perf_counter()
        turns = take_turns(
            self._config.meta,
            iterations[members[0]],
            acting=acting,
            play=play,
            keep=keep,
            learn=partial(self._learn, tuple(members)),
        )
        num = len(members)
        seconds = (time.perf_counter() - started) / num
        cpu_seconds = (time.process_time() - cpu_started) / num
        made: dict[int, Metrics] = {}
        diverged: dict[int, DivergedError] = {}
        for place, learner in learners.items():
            own = Turns(
                [played[place] for played in turns.played],
                None if turns.statistics is None else turns.statistics[place],
                turns.sample_seconds / num,
                turns.update_seconds / num,
            )
            try:
                made[place] = replace(
                    learner.conclude(own), seconds=seconds, cpu_seconds=cpu_seconds
                )
            except DivergedError as error:
                diverged[place] = error
        return made, diverged

    def _learn(
        self, members: tuple[int, ...], turn: int
    ) -> Callable[[], dict[int, dict[str, float]]]:
        """Start a turn's updates; the returned function reads the statistics of each learner."""
        stack, learners = self._stacked(members), [self.own[place] for place in members]
        chances = [learner.chance(turn) for learner in learners]
        generators = [chance.generator for chance in chances]
        both = list(zip(learners, chances, strict=True))
        newest = [learner.newest_lanes(chance.rng) for learner, chance in both]
        inputs, codes = (torch.cat(parts) for parts in zip(*newest, strict=True))
        stack.take_up()
        of_inference = stack.inference.begin(
            inputs, codes, learners[0].num_inference_updates, generators
        )
        drawn = []
        for place, (learner, chance) in zip(members, both, strict=True):
            own = learner.drawn(chance)
            first = place * self._replay.env_steps_of_one
            drawn.append(own._replace(places=own.places + first))
        of_actor_critic = stack.actor_critic.begin(drawn, generators)
        stack.hand_back()

        def read() -> dict[int, dict[str, float]]:
            found = zip(of_inference(), of_actor_critic(), strict=True)
            return dict(zip(members, (first | second for first, second in found), strict=True))

        return read

    def _stacked(self, members: tuple[int, ...]) -> Stack:
        """The stack of these learners, rebuilt if the members have changed."""
        if members != self._members:
            self.stack, self._members = self._made(members), members
        return self.stack

    def _made(self, members: tuple[int, ...]) -> Stack:
        learners = [self.own[place] for place in members]
        graphs = self._graphs_of(self._device)
        return Stack(learners, self._replay.take, self._config, self._device, graphs)


def _no_graphs(device: torch.device) -> Graphs | None:
    """No graph capture: a stacked learner makes no updates by itself."""
    return None


def _check(configs: Sequence[TrainConfig]) -> None:
    if not configs:
        raise ValueError("`configs` must not be empty; give one configuration for each seed")
    first = configs[0]
    if any(replace(config, seed=first.seed) != first for config in configs):
        raise ValueError("`configs` must be equal except for their seeds; change only `seed`")
    seeds = [config.seed for config in configs]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"`configs` must have different seeds, but got {seeds}; drop duplicates")
