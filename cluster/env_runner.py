"""Rollout collection as an RLlib environment runner."""

from typing import Any

import ray
from gymnasium.spaces import Box
from ray.rllib.core import COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.checkpoints import Checkpointable

from cluster.work_item import Delivery, RolloutResult, WorkItem
from ssmrl.rollout.play import LocalCollector
from ssmrl.types import Params


class MetaEnvRunner(EnvRunner, Checkpointable):
    """Collects its part of the meta-episodes; the configuration says how the policy adapts.

    Each call brings parameters and tasks, and the tasks bring their randomness. So a runner has no
    state that matters, and replacing a dead one changes no result.

    Args:
        config: A ``MetaConfig``.
        kwargs: RLlib's arguments, among them the worker index.

    Attributes:
        module: RLlib module with the parameters used last.
        env_steps: Env steps taken since this runner was created [env steps].
    """

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        self.module = config.get_rl_module_spec(
            spaces=self.get_spaces(), inference_only=True
        ).build()
        self.env_steps = 0
        is_remote = bool(self.worker_index)
        threads = max(1, int(config.num_cpus_per_env_runner)) if is_remote else 0
        self._collect = LocalCollector(config.train_config, config.num_physics_threads or threads)

    def __repr__(self) -> str:
        """The name in Ray's dashboard: run name and runner index."""
        return f"{self.config.run_name} runner {self.worker_index}".strip()

    def sample(
        self, *, part: WorkItem, params: Params, delivery: Delivery, **kwargs: Any
    ) -> RolloutResult:
        """Collect the rollouts of a part.

        Args:
            part: Tasks, and what to collect on them.
            params: Policy parameters.
            delivery: How the trajectories reach the learners.
            kwargs: RLlib's arguments, not used.
        """
        self.module.load(params)
        trajectories = self._collect.of_some_tasks(self.module.params(), part.play, part.tasks)
        played = RolloutResult.of(part, trajectories, delivery)
        self.env_steps += played.env_steps
        return played

    def get_spaces(self) -> dict[str, tuple[Box, Box]]:
        """The spaces of one environment, as RLlib names them."""
        spaces = (self.config.observation_space, self.config.action_space)
        return {
            INPUT_ENV_SPACES: spaces,
            INPUT_ENV_SINGLE_SPACES: spaces,
            DEFAULT_MODULE_ID: spaces,
        }

    def assert_healthy(self) -> None:
        """Raise if construction did not finish."""
        if not hasattr(self, "_collect"):
            raise AssertionError("the constructor of this environment runner did not finish")

    def get_metrics(self) -> dict[str, Any]:
        """Metrics since the last call; the algorithm derives its own from the trajectories."""
        return self.metrics.reduce()  # type: ignore[no-any-return]

    def get_state(
        self,
        components: Any = None,
        *,
        not_components: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The module's state, if it is among the requested components."""
        if self._check_component(COMPONENT_RL_MODULE, components, not_components):
            return {COMPONENT_RL_MODULE: self.module.get_state(**kwargs)}
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Load the module's state, which may be an object reference or keyed by module."""
        if COMPONENT_RL_MODULE not in state:
            return
        module_state = state[COMPONENT_RL_MODULE]
        if isinstance(module_state, ray.ObjectRef):
            module_state = ray.get(module_state)
        self.module.set_state(module_state.get(DEFAULT_MODULE_ID, module_state))

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The constructor arguments from which this runner can be rebuilt."""
        return (), {"config": self.config}

    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        """The RLlib module, by its component name."""
        return [(COMPONENT_RL_MODULE, self.module)]
