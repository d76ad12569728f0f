"""Settings of context-sac: how memory, policy and critics learn; every knob is used."""

import math
from dataclasses import dataclass

from ssmrl.knobs import check_knob, check_ranges

MATMULS = ("float32", "tf32", "bfloat16")


@dataclass(frozen=True)
class ContextSettings:
    """Soft actor-critic on the estimate of a sequence model that infers the hidden task.

    ``inner_lr``, ``num_inner_steps``, ``outer_lr`` and ``first_order`` apply to the inference
    model, whose sizes are ``policy.*``.

    Attributes:
        inner_lr: Learning rate of the inference model's adaptation steps.
        num_inner_steps: Adaptation steps the inference model is trained for; 0 disables MAML.
        outer_lr: Learning rate of the inference model's own training.
        num_lanes: Number of parallel environments.
        lane_groups: Number of lane groups that collect in turn. While one group collects, the
            updates due for the previous group run. The collecting group acts with the weights from
            before them. A GPU runs them concurrently, a CPU first; the order does not depend on
            timing. 1: all lanes are one group. 2: halves. 0: updates and collection alternate.
        episodes_per_task: Episodes of a meta-episode, over which the memory is kept.
        random_env_steps: Env steps with random actions at the start of training [env steps].
        replay_env_steps: Capacity of the replay [env steps].
        batch_size: Transitions per update.
        learning_rate: Adam's learning rate for actor, critics and temperature.
        discount: Discount per env step.
        ends_free: Whether the value after a termination is 0. Otherwise it is the value of a new
            start if that is negative. Without this, a robot with negative rewards until it is fast
            enough would learn to fall, not to run.
        target_rate: Share of the critics' weights that their targets adopt per update.
        critic_hidden_dim: Width of the critics' layers.
        actor_hidden_dim: Width of the actor's layers.
        average_rate: Share of the actor's weights that its running average adopts per actor update.
            The average acts whenever the policy does not explore, since the actor changes so fast
            that its quality varies from update to update.
        updates_per_env_step: Updates of actor and critics per env step of experience.
        actor_every: Critic updates per actor update.
        matmul: Precision of matrix products in the updates of actor and critics, one of
            ``MATMULS``. ``"tf32"`` rounds factors to 10 mantissa bits and needs CUDA.
            ``"bfloat16"`` rounds factors and products to 7. Everything else is float32.
        relabelled: Share of a batch whose rewards are relabelled for another task.
        own_estimate: Share of the lanes that act on the memory's estimate; the others receive the
            hidden variable.
        inference_updates_per_meta_episode: Updates of the inference model per meta-episode of a
            lane. Each update uses whole meta-episodes, whatever their length.
        inference_batch: Lanes per update of the inference model.
        inference_env_steps: Newest part of the replay that the inference model is trained on
            [env steps].
        init_temperature: Initial weight of the policy's entropy.
        target_entropy: Target entropy per component of an action [nat].
        first_order: Whether to omit second derivatives from the inference model's meta-gradient.

    Raises:
        ValueError: If a setting is outside its range; the message names the knob.

    References:
        Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications", sections 4 and 5;
        Polyak & Juditsky 1992, "Acceleration of Stochastic Approximation by Averaging"; Petrenko
        et al. 2020, "Sample Factory", section 3 (double-buffered sampling).
    """

    inner_lr: float = 0.05
    num_inner_steps: int = 0
    outer_lr: float = 9e-3
    num_lanes: int = 8
    lane_groups: int = 0
    episodes_per_task: int = 1
    random_env_steps: int = 1600
    replay_env_steps: int = 1_000_000
    batch_size: int = 256
    learning_rate: float = 1e-3
    discount: float = 0.98
    ends_free: bool = False
    target_rate: float = 0.01
    critic_hidden_dim: int = 128
    actor_hidden_dim: int = 128
    average_rate: float = 0.005
    updates_per_env_step: float = 0.25
    actor_every: int = 2
    matmul: str = "float32"
    relabelled: float = 0.5
    own_estimate: float = 0.5
    inference_updates_per_meta_episode: float = 4.0
    inference_batch: int = 16
    inference_env_steps: int = 64_000
    init_temperature: float = 0.05
    target_entropy: float = -1.0
    first_order: bool = False

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "meta",
            counts=(
                "num_lanes",
                "episodes_per_task",
                "replay_env_steps",
                "batch_size",
                "critic_hidden_dim",
                "actor_hidden_dim",
                "actor_every",
                "inference_batch",
                "inference_env_steps",
            ),
            positive=(
                "inner_lr",
                "outer_lr",
                "learning_rate",
                "target_rate",
                "average_rate",
                "updates_per_env_step",
                "inference_updates_per_meta_episode",
                "init_temperature",
            ),
            shares=("discount", "target_rate", "average_rate", "relabelled", "own_estimate"),
            not_negative=("num_inner_steps", "random_env_steps", "lane_groups"),
        )
        known = f"one of {list(MATMULS)}"
        check_knob(self.matmul in MATMULS, "meta.matmul", self.matmul, known)
        is_finite = math.isfinite(self.target_entropy)
        check_knob(is_finite, "meta.target_entropy", self.target_entropy, "finite")

    @property
    def num_turns(self) -> int:
        """Number of turns in an iteration."""
        return max(1, self.lane_groups)

    @property
    def lanes_per_turn(self) -> int:
        """Lanes per turn."""
        return self.num_lanes // self.num_turns

    def env_steps_per_iteration(self, horizon: int) -> int:
        """Env steps of an iteration: a meta-episode in every lane [env steps].

        Args:
            horizon: Length of an episode [env steps].
        """
        return self.num_lanes * self.episodes_per_task * horizon
