"""Context-sac on one screen: collect, infer, update, in that order."""

import math
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssmrl.checkpoint import read_tensors, write_tensors
from ssmrl.config import TrainConfig
from ssmrl.context.by_memory import NETWORKS, PLAYED
from ssmrl.context.inference import inference_inputs, inference_loss
from ssmrl.context.networks import ContextNetworks, hidden_code
from ssmrl.context.replay import Replay, rewarded
from ssmrl.context.sac import Batch, Losses, SoftActorCritic
from ssmrl.envs.families import get_family
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


class ContextLearner(Learner):
    """Soft actor-critic whose policy is told the hidden task by a memory that infers it.

    Training sees what a test does not: the hidden variable, by which the inference model is taught,
    replayed transitions are paid anew, and some of the lanes are told what to do.

    Args:
        config: Of context-sac; its seed decides everything but what is collected.
        networks: Trained in place; fresh ones if left out.

    Raises:
        ValueError: If the family's hidden variable cannot be inferred, or the replay is too small.
    """

    knows_nothing_at_first = False

    def __init__(self, config: TrainConfig, networks: ContextNetworks | None = None) -> None:
        meta = config.meta
        self._config, self._code = config, hidden_code(config)
        self._family = get_family(config.env.task)
        self.networks = networks or ContextNetworks(config, *env_shape(config.env))
        self.replay = Replay(config)
        self._sac = SoftActorCritic(self.networks, meta)
        self._inference = list(self.networks.inference.parameters())
        self._optimizers = self._sac.optimizers | {
            "inference": torch.optim.Adam(self._inference, meta.outer_lr, fused=True)
        }
        self._inputs: dict[int, tuple[Tensor, Tensor]] = {}
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
            self._inputs.clear()
        words = stream(config.seed, Purpose.UPDATES, self.iteration).generate_state(4)
        generator = torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)
        self.iteration += 1
        statistics = self._infer(generator) | self._update(generator, np.random.default_rng(words))
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
        """Actor, inference and statistics; the critics are not needed to act."""
        return {
            name: value.detach()
            for name, value in self.networks.state_dict().items()
            if name.startswith(PLAYED)
        }

    def tensors(self) -> dict[str, Tensor]:
        """All networks (``networks.*``) and Adam's moments."""
        tensors = {
            f"{NETWORKS}{name}": value.clone() for name, value in self.networks.state_dict().items()
        }
        for name, optimizer in self._optimizers.items():
            tensors |= optimizer_tensors(f"optimizer.{name}", optimizer)
        return tensors

    def load(self, tensors: Mapping[str, Tensor], iteration: int, folder: Path) -> None:
        """Networks, moments, and every segment of the replay."""
        self.networks.load_state_dict(
            {name: tensors[f"{NETWORKS}{name}"] for name in self.networks.state_dict()}
        )
        for name, optimizer in self._optimizers.items():
            load_optimizer_tensors(f"optimizer.{name}", optimizer, tensors)
        self.iteration = iteration
        for path in folder.glob("*.safetensors"):
            if int(path.stem) >= iteration:  # played after the checkpoint, so it is played again
                path.unlink()
        for number in Replay.kept_after(self._config, iteration):
            self.replay.restore(number, read_tensors(_segment(folder, number))[0])

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

    def _infer(self, generator: torch.Generator) -> dict[str, float]:
        """Updates of the inference model on the newest meta-episodes."""
        meta = self._config.meta
        inputs, code = self._newest_lanes()
        loss = error = torch.zeros(())
        num_updates = round(meta.inference_updates_per_env_step * self.env_steps_per_iteration)
        size = min(meta.inference_batch, len(inputs))
        for _ in range(num_updates):
            chosen = torch.randint(len(inputs), (size,), generator=generator)
            wanted = code[chosen].unsqueeze(1)
            estimate = self.networks.inference.scan(inputs[chosen])
            loss = inference_loss(estimate, wanted.expand_as(estimate.mean))
            gradients = torch.autograd.grad(loss, self._inference)
            for parameter, gradient in zip(self._inference, gradients, strict=True):
                parameter.grad = gradient
            self._optimizers["inference"].step()
            error = (estimate.mean - wanted).detach().abs().mean()
        return {"inference_loss": float(loss.detach()), "inference_error": float(error)}

    def _newest_lanes(self) -> tuple[Tensor, Tensor]:
        """Inputs and codes of the meta-episodes that the inference model learns from."""
        meta = self._config.meta
        window = max(1, meta.inference_env_steps // self.env_steps_per_iteration)
        numbers = self.replay.kept[-window:]
        self._inputs = {
            number: self._inputs[number] if number in self._inputs else self._lane_inputs(number)
            for number in numbers
        }
        inputs, codes = zip(*self._inputs.values(), strict=True)
        return torch.cat(inputs), torch.cat(codes)

    def _lane_inputs(self, number: int) -> tuple[Tensor, Tensor]:
        lanes = self.replay.lanes(number, self._config.meta.episodes_per_task)
        seen = self.networks.normalised(lanes["observation"])
        last_action = torch.nn.functional.pad(lanes["action"][:, :-1], (0, 0, 1, 0))
        last_reward = torch.nn.functional.pad(lanes["reward"][:, :-1], (1, 0))
        return inference_inputs(seen, last_action, last_reward, lanes["first"]), lanes["code"]

    def _update(self, generator: torch.Generator, rng: np.random.Generator) -> dict[str, float]:
        """Updates of actor and critics on the whole replay."""
        meta, networks = self._config.meta, self.networks
        num_updates = round(meta.updates_per_env_step * self.env_steps_per_iteration)
        places = torch.randint(
            self.replay.num_env_steps, (num_updates, meta.batch_size), generator=generator
        )
        num_other = round(meta.relabelled * meta.batch_size) if self._family.reward else 0
        others = torch.from_numpy(self._family.train.sample_array(rng, num_updates * num_other))
        parameters = others.float().unflatten(0, (num_updates, num_other))
        codes = self._code.encode(others).float().unflatten(0, (num_updates, num_other))
        losses: Losses | None = None
        for number in range(num_updates):
            noise = torch.randn(2, meta.batch_size, networks.action_dim, generator=generator)
            batch = self.batch(places[number], parameters[number], codes[number])
            found = self._sac.update(batch, noise, moves_actor=(number + 1) % meta.actor_every == 0)
            losses = losses if found is None else found
        return {
            "temperature": float(networks.log_temperature.exp()),
            **(
                {}
                if losses is None
                else {
                    f"{name}_loss" if name != "entropy" else name: float(value)
                    for name, value in losses._asdict().items()
                }
            ),
        }

    def batch(self, places: Tensor, parameters: Tensor, codes: Tensor) -> Batch:
        """Transitions of the replay, the first of them paid by other tasks.

        Args:
            places: Which transitions, ``(M,)``.
            parameters: Hidden variables of the other tasks, ``(L, P)``.
            codes: Theirs, ``(L, Z)``.
        """
        raw = self.replay.take(places)
        reward, code = raw.reward, raw.code
        if len(parameters):
            reward = rewarded(reward, raw.motion, self._config, parameters)
            code = torch.cat([codes, code[len(codes) :]])
        return Batch(
            self.networks.normalised(raw.observation),
            raw.action,
            reward,
            self.networks.normalised(raw.next_observation),
            raw.continues,
            code,
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


def _segment(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}.safetensors"
