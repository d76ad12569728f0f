"""Context-sac on one screen: collect, infer, update; in which order is told in ``turns``."""

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
    """A meta-episode of the lanes of a turn.

    Attributes:
        assignment: Their tasks.
        trajectories: Of each episode.
        mode: How they were played.
    """

    assignment: Assignment
    trajectories: list[Trajectory]
    mode: Mode


class Chance(NamedTuple):
    """The randomness of a turn's updates.

    Attributes:
        generator: Draws for all of them.
        rng: Draws other tasks.
    """

    generator: torch.Generator
    rng: np.random.Generator


class ContextLearner(Learner):
    """Soft actor-critic whose policy is told the hidden task by a memory that infers it.

    Training sees what a test does not: the hidden variable, by which the inference model is taught,
    replayed transitions are paid anew, and some of the lanes are told what to do.

    Args:
        config: Of context-sac; its seed decides everything but what is collected.
        networks: Trained in place; fresh ones if left out.
        device: Where networks and replay are, and where the indices and the noise of the updates
            are drawn, if it is a CUDA device: then they are others than on the CPU.
        graphs_of: How a device captures updates, if it does.
        code: What stands for the hidden task in training; the family's own if left out.
        replay: Where experience is kept; a fresh one if left out.

    Attributes:
        networks: All that learns.
        replay: What was played.
        actor_critic: Makes the updates of actor and critics.
        captured: The updates that are replayed, by name; none where nothing is captured.

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
        """A meta-episode of new tasks, and updates of the inference model, actor and critics."""
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
        """Have a meta-episode of new tasks played by the lanes of a turn; nothing is changed."""
        config, meta = self._config, self._config.meta
        before = (self.iteration * meta.num_turns + turn) * self._env_steps_per_turn
        of_all = train_assignment(config, self.iteration, meta.num_lanes)
        assignment = of_all.split(meta.num_turns)[turn]
        mode = Mode.RANDOM if before < meta.random_env_steps else Mode.EXPLORE
        play = Play(assignment, 1, meta.episodes_per_task, mode)
        return Played(assignment, collect(params, play), mode)

    def keep(self, played: Played) -> None:
        """Add it to the replay; as long as actions are random, normalise by all that is there."""
        parameters = np.array([task.parameters for task in played.assignment.tasks])
        code = torch.from_numpy(self._code.encode(parameters)).float()
        self.replay.add(played.trajectories, code)
        if played.mode is Mode.RANDOM:
            self.networks.set_statistics(self.replay.observations())
            self._lanes.clear()

    def chance(self, turn: int) -> Chance:
        """Of a turn's updates: a function of the seed, the iteration and the turn alone.

        So a checkpoint need not hold the state of a generator. One that goes on elsewhere goes on
        with what is drawn there.
        """
        address = (self.iteration, turn)[: 2 if self._config.meta.lane_groups else 1]
        words = stream(self._config.seed, Purpose.UPDATES, *address).generate_state(4)
        generator = generator_on(self._device, int(words[0]) << 31 | int(words[1]) >> 1)
        return Chance(generator, np.random.default_rng(words))

    def _learn(self, turn: int) -> Callable[[], dict[str, float]]:
        """Begin a turn's updates."""
        chance = self.chance(turn)
        inputs, code = self.newest_lanes(chance.rng)
        generators = [chance.generator]
        of_inference = self._inference.begin(inputs, code, self.num_inference_updates, generators)
        of_actor_critic = self.actor_critic.begin([self.drawn(chance)], generators)
        return lambda: of_inference()[0] | of_actor_critic()[0]

    def conclude(self, turns: Turns[Played, dict[str, float]]) -> Metrics:
        """What the iteration did: its last part.

        Raises:
            DivergedError: If a number is not finite.
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
        """By the name of what each moves."""
        return dict(self._optimizers)

    def params(self) -> Params:
        """A copy of what acting needs, on the CPU: all but the critics and the temperature."""
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
        """Every segment of the replay, then networks and moments; all of it or nothing."""
        wanted = Replay.kept_after(self._config, iteration)
        try:
            for number in wanted:
                self.replay.restore(number, read_tensors(_segment(folder, number))[0])
        except (FileNotFoundError, CheckpointError) as error:
            self.replay.clear()
            raise CheckpointError(
                f"the experience that the checkpoint needs is not whole: {error}"
            ) from error
        for path in folder.glob("*.safetensors"):
            if int(path.stem) >= wanted.stop:  # played after the checkpoint, so it is played again
                path.unlink()
        self.networks.load_state_dict(
            {name: tensors[f"{NETWORKS}{name}"] for name in self.networks.state_dict()}
        )
        for name, optimizer in self._optimizers.items():
            load_optimizer_tensors(f"optimizer.{name}", optimizer, tensors)
        for captured in self.captured.values():
            captured.forget()  # the moments are other tensors now
        self.iteration = iteration

    def save_experience(self, folder: Path) -> None:
        """A segment for each turn that the replay holds."""
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
        """Inputs and codes of the meta-episodes that the inference model learns from.

        Where rewards tell the task, every meta-episode is there a second time, paid by another
        task. Otherwise what a lane does would give its task away, since it does what it believes:
        the model would learn to believe itself, and a wrong belief would never be given up.

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
        """Places and other tasks for a turn's updates of actor and critics."""
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
                f"the temperature must stay below {MAX_TEMPERATURE:g}, but ran away to "
                f"{temperature:.3g} {after}; lower `meta.learning_rate`"
            )


def _segment(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}.safetensors"
