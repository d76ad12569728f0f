"""Contract of algorithms: rules that custom ones and this project's must pass."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import torch
from torch import Tensor

from ssmrl.checkpoint import Checkpoint
from ssmrl.config import TrainConfig
from ssmrl.knobs import KnobValue
from ssmrl.meta.algorithms import get_algorithm
from ssmrl.rollout.play import Mode
from ssmrl.run import LocalEngine

_TASK = "point"
_SMALL: Mapping[str, KnobValue] = {
    "env.horizon": 10,
    "policy.state_dim": 8,
    "policy.hidden_dim": 8,
    "meta.num_tasks": 2,
    "meta.num_episodes": 3,
    "meta.num_epochs": 2,
    "meta.num_lanes": 4,
    "meta.random_env_steps": 40,
    "meta.replay_env_steps": 120,
    "meta.batch_size": 32,
    "meta.critic_hidden_dim": 16,
    "meta.actor_hidden_dim": 16,
    "meta.updates_per_env_step": 0.1,
    "meta.inference_updates_per_meta_episode": 0.5,
    "meta.inference_batch": 4,
    "evaluation.num_tasks": 3,
    "evaluation.num_episodes": 2,
}
"""Small values of knobs, used if an algorithm has them, so that it learns in a moment."""


class AlgorithmContract:
    """The rules for an algorithm; pytest collects them from a subclass that names it.

    The algorithm learns on ``point`` for a few iterations with small sizes.

    Attributes:
        algorithm: Import path of the algorithm, or one of the short names.
        sizes: Values of its own knobs that make an iteration short.

    Example:
        >>> class TestMine(AlgorithmContract):
        ...     algorithm = "promp"
        >>> TestMine().test_every_knob_goes_through_json()
    """

    algorithm: str
    sizes: ClassVar[Mapping[str, KnobValue]] = {}

    def test_settings_and_policy_are_dataclasses_with_defaults(self) -> None:
        """Their fields are the knobs, and every knob has a default."""
        known = get_algorithm(self.algorithm)
        for name, kind in (("settings", known.settings_type()), ("policy", known.policy_type())):
            assert dataclasses.is_dataclass(kind), (
                f"the {name} must be a dataclass, but got {kind!r}"
            )
            lacking = [
                field.name
                for field in dataclasses.fields(kind)
                if field.default is dataclasses.MISSING
                and field.default_factory is dataclasses.MISSING
            ]
            assert not lacking, f"all fields of the {name} must have defaults, but {lacking} do not"

    def test_every_knob_goes_through_json(self) -> None:
        """Checkpoints and rows hold a configuration as its knobs."""
        for config in (TrainConfig.for_task(_TASK, self.algorithm), self._config()):
            again = TrainConfig.from_json(config.to_json())
            assert again == config, (
                "a configuration must survive a round trip through JSON, but "
                f"{dict(config.knobs().items() - again.knobs().items())} changed"
            )

    def test_an_iteration_learns(self) -> None:
        """An iteration collects the stated env steps, counts them, and changes the weights."""
        engine = self._engine()
        before, per_iteration = engine.tensors(), engine.learner.env_steps_per_iteration
        for number in (1, 2):
            metrics = engine.iterate()
            assert (metrics.iteration, engine.learner.iteration) == (number, number), (
                f"iterations must be counted from 1, but the one after {number - 1} is "
                f"{metrics.iteration}, and the learner says {engine.learner.iteration}"
            )
            assert metrics.env_steps == number * per_iteration, (
                f"`env_steps` must be `env_steps_per_iteration`, {per_iteration}, times "
                f"{number}, but is {metrics.env_steps}"
            )
            for name in ("return_before", "return_after"):
                value = getattr(metrics, name)
                assert math.isfinite(value), f"`{name}` must be finite, but is {value}"
        after = engine.tensors()
        for name, value in after.items():
            is_finite = not value.is_floating_point() or bool(torch.isfinite(value).all())
            assert is_finite, f"weights must stay finite, but {name!r} is not"
        assert _differing(before, after), "an iteration must change a learnt tensor, but none did"

    def test_the_policy_can_be_judged(self) -> None:
        """The policy has a finite return on held-out tasks after adapting to them."""
        engine = self._engine()
        engine.iterate()
        num_episodes = engine.learner.num_episodes
        evaluation = engine.judge(num_episodes=num_episodes, mode=Mode.USED, draw=0)
        score = evaluation.mean_returns()[num_episodes - 1]
        assert math.isfinite(score), f"the return on held-out tasks must be finite, but is {score}"

    def test_equal_configurations_learn_equal_weights(self) -> None:
        """All randomness comes from the seed of the configuration."""
        one, other = self._engine(), self._engine()
        for _ in range(2):
            one.iterate()
            other.iterate()
        differing = _differing(one.tensors(), other.tensors())
        assert not differing, (
            f"equal configurations must learn equal weights, but {differing} differ; take all "
            "randomness from `config.seed`"
        )

    def test_a_checkpoint_goes_on_to_the_same_weights(self) -> None:
        """A resumed run equals an uninterrupted one, bit for bit."""
        engine = self._engine()
        engine.iterate()
        engine.iterate()
        with TemporaryDirectory() as name:
            folder, file = Path(name) / "experience", Path(name) / "kept.safetensors"
            engine.learner.save_experience(folder)
            Checkpoint(self._config(), engine.tensors(), {}).save(file)
            again = self._engine()
            again.load(Checkpoint.load(file).tensors, engine.learner.iteration, folder)
            differing = _differing(engine.tensors(), again.tensors())
            assert not differing, f"`load` must restore what was saved, but {differing} differ"
            engine.iterate()
            again.iterate()
        differing = _differing(engine.tensors(), again.tensors())
        assert not differing, (
            f"a resumed run must reach the same weights, but {differing} differ after another "
            "iteration; save all that they depend on in `tensors` or `save_experience`"
        )

    def _config(self) -> TrainConfig:
        config = TrainConfig.for_task(_TASK, self.algorithm)
        known = config.knobs()
        small = {knob: value for knob, value in _SMALL.items() if knob in known}
        if get_algorithm(self.algorithm).kind == "gradient":  # it needs no hidden state
            small |= {"policy.method": "mlp"} if "policy.method" in known else {}
        return config.with_knobs({**small, **self.sizes})

    def _engine(self) -> LocalEngine:
        return LocalEngine(self._config(), 1)


def _differing(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> list[str]:
    """The names of tensors that differ in any bit or are missing on one side."""
    return [
        name
        for name in sorted(ours.keys() | theirs.keys())
        if name not in ours or name not in theirs or not torch.equal(ours[name], theirs[name])
    ]
