"""Context-sac on one screen: collect, infer, update, in that order."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ssmrl.checkpoint import CheckpointError, read_tensors, write_tensors
from ssmrl.config import TrainConfig
from ssmrl.context.by_memory import NETWORKS, PLAYED
from ssmrl.context.graph import Captured, Graphs, graphs_of
from ssmrl.context.inference import inference_inputs, with_rewards
from ssmrl.context.inference_training import InferenceTraining
from ssmrl.context.networks import ContextNetworks, hidden_code
from ssmrl.context.replay import Replay, Transitions, paid_by
from ssmrl.context.sac import Batch, Losses, SoftActorCritic
from ssmrl.device import CPU, adam_options, on_cpu
from ssmrl.envs.families import get_family
from ssmrl.envs.hidden_code import HiddenCode
from ssmrl.learner import Learner, Metrics
from ssmrl.meta.diverged import DivergedError
from ssmrl.optimizer_state import load_optimizer_tensors, optimizer_tensors
from ssmrl.rollout.assignment import train_assignment
from ssmrl.rollout.play import Collect, Mode, Play
from ssmrl.rollout.returns import episode_return
from ssmrl.rollout.worker import env_shape
from ssmrl.seeding import Purpose, stream
from ssmrl.types import Params

MAX_TEMPERATURE = 100.0
_GATHERED = 16  # updates whose batches are gathered together: enough to spare calls, not the cache
_COST_OF_ONE = 10  # of an update on its own, in units of a graph's start: what a remainder costs


class ContextLearner(Learner):
    """Soft actor-critic whose policy is told the hidden task by a memory that infers it.

    Training sees what a test does not: the hidden variable, by which the inference model is taught,
    replayed transitions are paid anew, and some of the lanes are told what to do.

    Args:
        config: Of context-sac; its seed decides everything but what is collected.
        networks: Trained in place; fresh ones if left out.
        device: Where networks and replay are. Random numbers are drawn on the CPU, so that they
            are the same everywhere.
        graphs_of: How a device captures updates, if it does.
        code: What stands for the hidden task in training; the family's own if left out.

    Attributes:
        networks: All that learns.
        replay: What was played.
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
    ) -> None:
        meta = config.meta
        self._config, self._code = config, hidden_code(config) if code is None else code
        self._family = get_family(config.env.task)
        self._device = device
        self.networks = (networks or ContextNetworks(config, *env_shape(config.env))).to(device)
        self.replay = Replay(config, device)
        graphs = graphs_of(device)
        options = adam_options(device, captured=graphs is not None)
        self._sac = SoftActorCritic(self.networks, meta, **options)
        self._training = InferenceTraining(self.networks.inference, config, device, graphs)
        self.captured: dict[str, Captured] = {}
        if graphs is not None:
            name = "the updates of actor and critics"
            self.captured["actor_critic"] = Captured(self._whole_turns, graphs, name)
        if self._training.captured is not None:
            self.captured["inference"] = self._training.captured
        self._optimizers = self._sac.optimizers | {"inference": self._training.optimizer}
        self._lanes: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        self.iteration = 0
        self.env_steps_per_iteration = meta.num_lanes * meta.episodes_per_task * config.env.horizon
        self.num_episodes = self.num_reported_episodes = meta.episodes_per_task

    def iterate(self, collect: Collect) -> Metrics:
        """A meta-episode of new tasks, then updates of the inference model, actor and critics."""
        config, meta = self._config, self._config.meta
        started = time.perf_counter()
        played = self.iteration * self.env_steps_per_iteration
        assignment = train_assignment(config, self.iteration, meta.num_lanes)
        mode = Mode.RANDOM if played < meta.random_env_steps else Mode.EXPLORE
        trajectories = collect(self.params(), Play(assignment, 1, meta.episodes_per_task, mode))
        parameters = np.array([task.parameters for task in assignment.tasks])
        self.replay.add(trajectories, torch.from_numpy(self._code.encode(parameters)).float())
        sampled = time.perf_counter()
        if mode is Mode.RANDOM:
            self.networks.set_statistics(self.replay.observations())
            self._lanes.clear()
        words = stream(config.seed, Purpose.UPDATES, self.iteration).generate_state(4)
        generator = torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)
        self.iteration += 1
        rng = np.random.default_rng(words)
        statistics = self._infer(generator, rng) | self._update(generator, rng)
        statistics["replay_env_steps"] = float(self.replay.num_env_steps)
        self._check(statistics)
        returns = [float(episode_return(trajectory).mean()) for trajectory in trajectories]
        return Metrics(
            self.iteration,
            played + self.env_steps_per_iteration,
            returns[0],
            returns[-1],
            sampled - started,
            time.perf_counter() - sampled,
            statistics,
        )

    def optimizers(self) -> dict[str, torch.optim.Adam]:
        """By the name of what each moves."""
        return dict(self._optimizers)

    def params(self) -> Params:
        """What acting needs, on the CPU: all but the critics and the temperature."""
        return {
            name: value.detach().cpu()
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
        try:
            for number in Replay.kept_after(self._config, iteration):
                self.replay.restore(number, read_tensors(_segment(folder, number))[0])
        except (FileNotFoundError, CheckpointError) as error:
            self.replay.clear()
            raise CheckpointError(
                f"the experience that the checkpoint needs is not whole: {error}"
            ) from error
        for path in folder.glob("*.safetensors"):
            if int(path.stem) >= iteration:  # played after the checkpoint, so it is played again
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
        """A segment for each iteration that the replay holds."""
        for number in self.replay.kept:
            path = _segment(folder, number)
            if not path.exists():
                write_tensors(path, self.replay.segment(number), {"iteration": str(number)})

    def prune_experience(self, folder: Path) -> None:
        """Delete the segments that left the replay."""
        kept = {_segment(folder, number) for number in self.replay.kept}
        for path in folder.glob("*.safetensors"):
            if path not in kept:
                path.unlink()

    def _infer(self, generator: torch.Generator, rng: np.random.Generator) -> dict[str, float]:
        """Updates of the inference model on the newest meta-episodes."""
        meta = self._config.meta
        inputs, code = self._newest_lanes(rng)
        num_updates = round(meta.inference_updates_per_env_step * self.env_steps_per_iteration)
        return self._training.update(inputs, code, num_updates, generator)

    def _newest_lanes(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Inputs and codes of the meta-episodes that the inference model learns from.

        Where rewards tell the task, every meta-episode is there a second time, paid by another
        task. Otherwise what a lane does would give its task away, since it does what it believes:
        the model would learn to believe itself, and a wrong belief would never be given up.

        References:
            Ortega et al. 2021, "Shaking the foundations: delusions in sequence models for
            interaction and control", section 3.
        """
        meta = self._config.meta
        window = max(1, meta.inference_env_steps // self.env_steps_per_iteration)
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

    def _update(self, generator: torch.Generator, rng: np.random.Generator) -> dict[str, float]:
        """Updates of actor and critics on the whole replay."""
        meta, networks = self._config.meta, self.networks
        num_updates = round(meta.updates_per_env_step * self.env_steps_per_iteration)
        places = torch.randint(
            self.replay.num_env_steps, (num_updates, meta.batch_size), generator=generator
        ).to(self._device)
        num_other = round(meta.relabelled * meta.batch_size) if self._family.reward else 0
        others = torch.from_numpy(self._family.train.sample_array(rng, num_updates * num_other))
        others = others.to(self._device)
        parameters = others.float().unflatten(0, (num_updates, num_other))
        codes = self._code.encode(others).float().unflatten(0, (num_updates, num_other))
        drawn = (places, parameters, codes)
        if "actor_critic" in self.captured:
            losses = self._replayed_updates(*drawn, generator)
        else:
            losses = None
            for start in range(0, num_updates, _GATHERED):
                part = [value[start : start + _GATHERED] for value in drawn]
                part.append(self._noise(len(part[0]), generator).to(self._device))
                found = self.updates(*part, start=start)
                losses = losses if found is None else found
        return {
            "temperature": float(networks.log_temperature.detach().exp()),
            **(
                {}
                if losses is None
                else {
                    f"{name}_loss" if name != "entropy" else name: float(value)
                    for name, value in losses._asdict().items()
                }
            ),
        }

    def _noise(self, num_updates: int, generator: torch.Generator) -> Tensor:
        """For the actions of some updates, ``(U, 2, M, A)``, on the CPU."""
        shape = (2, self._config.meta.batch_size, self.networks.action_dim)
        return torch.randn(num_updates, *shape, generator=generator)

    def _replayed_updates(
        self, places: Tensor, parameters: Tensor, codes: Tensor, generator: torch.Generator
    ) -> Losses | None:
        """As many at once as are captured, and what remains one after another."""
        # Drawn in the same parts as elsewhere: a generator's numbers depend on them.
        parts = [self._noise(len(part), generator) for part in places.split(_GATHERED)]
        drawn = (places, parameters, codes, torch.cat(parts).to(self._device))
        length = cycle_length(len(places), self._config.meta.actor_every)
        losses: Losses | None = None
        for start in range(0, len(places), length):
            part = [value[start : start + length] for value in drawn]
            if len(part[0]) == length:
                losses = Losses(*self.captured["actor_critic"](*part))
            else:
                found = self.updates(*part)
                losses = losses if found is None else found
        return losses

    def _whole_turns(self, *drawn: Tensor) -> Losses:
        losses = self.updates(*drawn)
        assert losses is not None, "a graph holds whole turns of the actor"
        return losses

    def updates(
        self, places: Tensor, parameters: Tensor, codes: Tensor, noise: Tensor, *, start: int = 0
    ) -> Losses | None:
        """Updates one after another; reads no tensor's value.

        Args:
            places: Which transitions, ``(U, M)``.
            parameters: Hidden variables of the other tasks, ``(U, L, P)``.
            codes: Theirs, ``(U, L, Z)``.
            noise: Standard normal numbers, ``(U, 2, M, A)``.
            start: Updates of the iteration before these.

        Returns:
            Of the last one that moved the actor, if one did.
        """
        batches = self.batches(places, parameters, codes)
        losses: Losses | None = None
        for offset in range(len(noise)):
            found = self._sac.update(
                Batch(*(leaf[offset] for leaf in batches)),
                noise[offset],
                moves_actor=(start + offset + 1) % self._config.meta.actor_every == 0,
            )
            losses = losses if found is None else found
        return losses

    def batches(self, places: Tensor, parameters: Tensor, codes: Tensor) -> Batch:
        """Transitions for some updates, the first of each batch paid by other tasks.

        Args:
            places: Which transitions, ``(U, M)``.
            parameters: Hidden variables of the other tasks, ``(U, L, P)``.
            codes: Theirs, ``(U, L, Z)``.

        Returns:
            A batch whose leaves are ``(U, M, ...)``.
        """
        raw = self.replay.take(places.flatten())
        raw = Transitions(*(leaf.unflatten(0, places.shape) for leaf in raw))
        num_other = codes.shape[1]
        reward = raw.reward
        if num_other:
            other = paid_by(raw.motion[:, :num_other], parameters, self._config)
            reward = torch.cat([other, reward[:, num_other:]], dim=1)
        return Batch(
            self.networks.normalised(raw.observation),
            raw.action,
            reward,
            self.networks.normalised(raw.next_observation),
            raw.continues,
            torch.cat([codes, raw.code[:, num_other:]], dim=1),
        )

    def _check(self, statistics: Mapping[str, float]) -> None:
        after = f"after {self.iteration * self.env_steps_per_iteration} env steps"
        broken = [name for name, value in statistics.items() if not math.isfinite(value)]
        if broken:
            raise DivergedError(
                f"{', '.join(broken)} must be finite, but is not {after}; lower "
                "`meta.learning_rate` or `meta.outer_lr`"
            )
        if statistics["temperature"] > MAX_TEMPERATURE:
            raise DivergedError(
                f"the temperature must stay below {MAX_TEMPERATURE:g}, but ran away to "
                f"{statistics['temperature']:.3g} {after}; lower `meta.learning_rate`"
            )


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


def _segment(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}.safetensors"
