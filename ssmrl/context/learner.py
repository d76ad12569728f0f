"""The learner of context-sac: collect, infer, update; ``turns`` defines the order."""

import math
import statistics
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ssmrl.checkpoint import CheckpointError, read_tensors, write_tensors
from ssmrl.config import TrainConfig
from ssmrl.context.actor_critic_training import ActorCriticTraining, Drawn
from ssmrl.context.by_memory import NETWORKS, PLAYED
from ssmrl.context.graph import Graphs, graphs_of, those_captured
from ssmrl.context.inference import inference_inputs, with_rewards
from ssmrl.context.inference_training import InferenceTraining
from ssmrl.context.networks import ContextNetworks, hidden_code
from ssmrl.context.replay import Replay, paid_by
from ssmrl.context.turns import Turns, take_turns
from ssmrl.device import CPU, generator_on, handed_over, on_cpu
from ssmrl.envs.families import get_family
from ssmrl.envs.hidden_code import HiddenCode
from ssmrl.learner import Learner, Metrics
from ssmrl.meta.diverged import DivergedError
from ssmrl.optimizer_state import load_optimizer_tensors, optimizer_tensors
from ssmrl.rollout.assignment import Assignment, train_assignment
from ssmrl.rollout.play import Collect, Mode, Play
from ssmrl.rollout.returns import episode_return
from ssmrl.rollout.worker import env_shape
from ssmrl.seeding import Purpose, stream
from ssmrl.types import Params, Trajectory

MAX_TEMPERATURE = 100.0


class Played(NamedTuple):
    """The rollouts of a turn: one meta-episode in each of its lanes.

    Attributes:
        assignment: Tasks of the lanes.
        trajectories: Trajectory of each episode.
        mode: Mode the rollouts were collected in.
    """

    assignment: Assignment
    trajectories: list[Trajectory]
    mode: Mode


class Chance(NamedTuple):
    """The randomness of a turn's updates.

    Attributes:
        generator: Generator of the updates' draws.
        rng: Generator of the tasks for relabelling.
    """

    generator: torch.Generator
    rng: np.random.Generator


class ContextLearner(Learner):
    """Soft actor-critic whose policy receives a memory's estimate of the hidden task.

    Unlike a test, training sees the hidden variable. It is the target of the inference model, it
    allows rewards to be relabelled, and in some lanes it is an input of the policy.

    Args:
        config: Configuration of context-sac; its seed decides all but the collected rollouts.
        networks: Networks, trained in place; new ones by default.
        device: Device of networks and replay. A CUDA device also draws the indices and the noise
            of the updates, so they differ from those of the CPU.
        graphs_of: Function that returns a device's graph capture, or None.
        code: Encoding of the hidden task in training; the family's own by default.
        replay: Replay buffer; a new one by default.

    Attributes:
        networks: All trained networks.
        replay: Replay buffer.
        actor_critic: Updates of actor and critics.
        captured: The captured updates by name; empty without graphs.

    Raises:
        ValueError: If the family's hidden variable cannot be inferred, or the replay is too small.
    """

    knows_nothing_at_first = False

    def __init__(
        self,
        config: TrainConfig,
        networks: ContextNetworks | None = None,
        device: torch.device = CPU,
        graphs_of: Callable[[torch.device], Graphs | None] = graphs_of,
        code: HiddenCode | None = None,
        replay: Replay | None = None,
    ) -> None:
        meta = config.meta
        self._config, self._code = config, hidden_code(config) if code is None else code
        self._family = get_family(config.env.task)
        self._device = device
        self.networks = (networks or ContextNetworks(config, *env_shape(config.env))).to(device)
        self.replay = Replay(config, device) if replay is None else replay
        graphs, take = graphs_of(device), self.replay.take
        self.actor_critic = ActorCriticTraining(self.networks, take, config, device, graphs)
        self._inference = InferenceTraining(self.networks.inference, config, device, graphs)
        self.captured = those_captured(
            actor_critic=self.actor_critic.captured, inference=self._inference.captured
        )
        self._optimizers = self.actor_critic.sac.optimizers | {
            "inference": self._inference.optimizer
        }
        self._lanes: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        self.iteration = 0
        self.env_steps_per_iteration = meta.env_steps_per_iteration(config.env.horizon)
        self._env_steps_per_turn = self.env_steps_per_iteration // meta.num_turns
        self.num_inference_updates = round(
            meta.inference_updates_per_meta_episode * meta.lanes_per_turn
        )
        self.num_episodes = self.num_reported_episodes = meta.episodes_per_task

    def iterate(self, collect: Collect) -> Metrics:
        """Collect a meta-episode of new tasks; update the inference model, actor and critics."""
        turns = take_turns(
            self._config.meta,
            self.iteration,
            acting=self.params,
            play=partial(self.play, collect),
            keep=self.keep,
            learn=self._learn,
        )
        return self.conclude(turns)

    def play(self, collect: Collect, turn: int, params: Params) -> Played:
        """Collect a meta-episode of new tasks in the lanes of a turn; this changes no state."""
        config, meta = self._config, self._config.meta
        before = (self.iteration * meta.num_turns + turn) * self._env_steps_per_turn
        of_all = train_assignment(config, self.iteration, meta.num_lanes)
        assignment = of_all.split(meta.num_turns)[turn]
        mode = Mode.RANDOM if before < meta.random_env_steps else Mode.EXPLORE
        play = Play(assignment, 1, meta.episodes_per_task, mode)
        return Played(assignment, collect(params, play), mode)

    def keep(self, played: Played) -> None:
        """Add a turn to the replay; after random actions, fit the normalisation to all of it."""
        parameters = np.array([task.parameters for task in played.assignment.tasks])
        code = torch.from_numpy(self._code.encode(parameters)).float()
        self.replay.add(played.trajectories, code)
        if played.mode is Mode.RANDOM:
            self.networks.set_statistics(self.replay.observations())
            self._lanes.clear()

    def chance(self, turn: int) -> Chance:
        """Randomness of a turn's updates, a function of seed, iteration and turn alone.

        So a checkpoint needs no generator state. A run that is resumed on another device
        continues with that device's numbers.
        """
        address = (self.iteration, turn)[: 2 if self._config.meta.lane_groups else 1]
        words = stream(self._config.seed, Purpose.UPDATES, *address).generate_state(4)
        generator = generator_on(self._device, int(words[0]) << 31 | int(words[1]) >> 1)
        return Chance(generator, np.random.default_rng(words))

    def _learn(self, turn: int) -> Callable[[], dict[str, float]]:
        """Start a turn's updates."""
        chance = self.chance(turn)
        inputs, code = self.newest_lanes(chance.rng)
        generators = [chance.generator]
        of_inference = self._inference.begin(inputs, code, self.num_inference_updates, generators)
        of_actor_critic = self.actor_critic.begin([self.drawn(chance)], generators)
        return lambda: of_inference()[0] | of_actor_critic()[0]

    def conclude(self, turns: Turns[Played, dict[str, float]]) -> Metrics:
        """Finish the iteration and return its metrics.

        Raises:
            DivergedError: If a statistic is not finite, or the temperature is too high.
        """
        self.iteration += 1
        found = (turns.statistics or {}) | {"replay_env_steps": float(self.replay.num_env_steps)}
        self._check(found)
        before, after = (
            statistics.fmean(
                float(episode_return(each.trajectories[episode]).mean()) for each in turns.played
            )
            for episode in (0, -1)
        )
        return Metrics(
            self.iteration,
            self.iteration * self.env_steps_per_iteration,
            before,
            after,
            turns.sample_seconds,
            turns.update_seconds,
            found,
        )

    def optimizers(self) -> dict[str, torch.optim.Adam]:
        """Optimisers by the name of what they update."""
        return dict(self._optimizers)

    def params(self) -> Params:
        """CPU copies of what acting needs: all networks except critics and temperature."""
        return {
            name: on_cpu(value)
            for name, value in self.networks.state_dict().items()
            if name.startswith(PLAYED)
        }

    def tensors(self) -> dict[str, Tensor]:
        """All networks (``networks.*``) and Adam's moments."""
        tensors = {
            f"{NETWORKS}{name}": on_cpu(value) for name, value in self.networks.state_dict().items()
        }
        for name, optimizer in self._optimizers.items():
            tensors |= optimizer_tensors(f"optimizer.{name}", optimizer)
        return tensors

    def load(self, tensors: Mapping[str, Tensor], iteration: int, folder: Path) -> None:
        """Restore the replay's segments, then networks and moments; all of them or none."""
        wanted = Replay.kept_after(self._config, iteration)
        try:
            for number in wanted:
                self.replay.restore(number, read_tensors(_segment(folder, number))[0])
        except (FileNotFoundError, CheckpointError) as error:
            self.replay.clear()
            raise CheckpointError(
                f"the experience that the checkpoint needs is incomplete: {error}"
            ) from error
        for path in folder.glob("*.safetensors"):
            if int(path.stem) >= wanted.stop:  # newer than the checkpoint: collected again
                path.unlink()
        self.networks.load_state_dict(
            {name: tensors[f"{NETWORKS}{name}"] for name in self.networks.state_dict()}
        )
        for name, optimizer in self._optimizers.items():
            load_optimizer_tensors(f"optimizer.{name}", optimizer, tensors)
        for captured in self.captured.values():
            captured.forget()  # the moments are new tensors now
        self.iteration = iteration

    def save_experience(self, folder: Path) -> None:
        """Write a segment for each turn in the replay."""
        for number in self.replay.kept:
            path = _segment(folder, number)
            if not path.exists():
                write_tensors(path, self.replay.segment(number), {"turn": str(number)})

    def prune_experience(self, folder: Path) -> None:
        """Delete the segments that left the replay."""
        kept = {_segment(folder, number) for number in self.replay.kept}
        for path in folder.glob("*.safetensors"):
            if path not in kept:
                path.unlink()

    def newest_lanes(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Inputs and codes of the meta-episodes that the inference model is trained on.

        If the family has a reward formula and ``meta.relabelled`` is not 0, each meta-episode
        appears a second time with rewards relabelled for another task. Without this copy a lane's
        actions would reveal its task, since they follow the estimate. The model would learn to
        trust its own estimate, even a wrong one.

        References:
            Ortega et al. 2021, "Shaking the foundations: delusions in sequence models for
            interaction and control", section 3.
        """
        meta = self._config.meta
        window = max(1, meta.inference_env_steps // self._env_steps_per_turn)
        numbers = self.replay.kept[-window:]
        self._lanes = {
            number: self._lanes[number] if number in self._lanes else self._lane_inputs(number)
            for number in numbers
        }
        inputs, codes, motions = map(torch.cat, zip(*self._lanes.values(), strict=True))
        if self._family.reward is None or meta.relabelled == 0.0:
            return inputs, codes
        others = torch.from_numpy(self._family.train.sample_array(rng, len(inputs)))
        others = others.to(self._device)
        again = with_rewards(inputs, paid_by(motions, others.unsqueeze(1), self._config).float())
        return torch.cat([inputs, again]), torch.cat([codes, self._code.encode(others).float()])

    def _lane_inputs(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        lanes = self.replay.lanes(number, self._config.meta.episodes_per_task)
        seen = self.networks.normalised(lanes["observation"])
        last_action = functional.pad(lanes["action"][:, :-1], (0, 0, 1, 0))
        inputs = inference_inputs(
            seen, last_action, torch.zeros_like(lanes["reward"]), lanes["first"]
        )
        return with_rewards(inputs, lanes["reward"]), lanes["code"], lanes["motion"]

    def drawn(self, chance: Chance) -> Drawn:
        """Replay indices and relabelling tasks for a turn's updates of actor and critics."""
        meta = self._config.meta
        num_updates = round(meta.updates_per_env_step * self._env_steps_per_turn)
        places = torch.randint(
            self.replay.num_env_steps,
            (num_updates, meta.batch_size),
            generator=chance.generator,
            device=chance.generator.device,
        )
        num_other = round(meta.relabelled * meta.batch_size) if self._family.reward else 0
        sampled = self._family.train.sample_array(chance.rng, num_updates * num_other)
        others = torch.from_numpy(sampled)
        parameters = others.float().unflatten(0, (num_updates, num_other))
        codes = self._code.encode(others).float().unflatten(0, (num_updates, num_other))
        drawn = (places, parameters, codes)
        return Drawn(*(handed_over(value, self._device) for value in drawn))

    def _check(self, found: Mapping[str, float]) -> None:
        after = f"after {self.iteration * self.env_steps_per_iteration} env steps"
        broken = [name for name, value in found.items() if not math.isfinite(value)]
        if broken:
            raise DivergedError(
                f"{', '.join(broken)} must be finite, but is not {after}; lower "
                "`meta.learning_rate` or `meta.outer_lr`"
            )
        temperature = found.get("temperature", 0.0)
        if temperature > MAX_TEMPERATURE:
            raise DivergedError(
                f"the temperature must stay below {MAX_TEMPERATURE:g}, but rose to "
                f"{temperature:.3g} {after}; lower `meta.learning_rate`"
            )


def _segment(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}.safetensors"
