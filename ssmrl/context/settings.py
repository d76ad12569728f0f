"""How the memory, the policy and its critics learn from what was played; every knob is read."""

import math
from dataclasses import dataclass

from ssmrl.knobs import check_knob, check_ranges

MATMULS = ("float32", "tf32", "bfloat16")


@dataclass(frozen=True)
class ContextSettings:
    """Soft actor-critic on the estimate of a sequence model that infers the hidden task.

    ``inner_lr``, ``num_inner_steps``, ``outer_lr`` and ``first_order`` are those of the inference
    model, whose sizes are ``policy.*``.

    Attributes:
        inner_lr: Step size of the inference model's adaptation.
        num_inner_steps: Adaptation steps it is trained for; 0 means that there is no MAML.
        outer_lr: Step size of the inference model's own training.
        num_lanes: Environments that are played side by side.
        lane_groups: Groups of the lanes that take turns: while one plays, the updates are made that
            are due for the one before it, and it acts by the weights of before them. A GPU makes
            them beside the play, a CPU first; the order does not depend on how long anything takes.
            With 1 all lanes are one group; 2 are halves. 0: nothing is learnt while anything is
            played.
        episodes_per_task: Episodes of a meta-episode: so long the memory lives with one task.
        random_env_steps: Played at random before the first update [env steps].
        replay_env_steps: What the replay holds [env steps].
        batch_size: Transitions of an update.
        learning_rate: Adam's step size on actor, critics and temperature.
        discount: Discount per env step.
        ends_free: Whether an episode that ends by its own rules is rid of all that would follow.
            Otherwise a new start follows where that is worse than nothing: a robot that is paid
            less than nothing until it is fast enough would else learn to fall, not to run.
        target_rate: Share of the critics that their targets take over in an update.
        critic_hidden_dim: Width of the critics' layers.
        actor_hidden_dim: Width of the actor's layers.
        average_rate: Share of the actor that its running average takes over when it moves. The
            average acts wherever nothing is tried out: an actor that moves this fast is better
            and worse from one update to the next.
        updates_per_env_step: Updates of actor and critics per env step of experience.
        actor_every: Updates of the critics to one of the actor.
        matmul: How exactly these updates multiply matrices, one of ``MATMULS``: ``"tf32"`` rounds
            what is multiplied to 10 bits behind the binary point, which only CUDA can;
            ``"bfloat16"`` to 7, and the products too. Everything else is of float32 in any case.
        relabelled: Share of a batch whose rewards are those of another task.
        own_estimate: Share of the lanes that act on the memory's estimate; the others are given
            the hidden variable.
        inference_updates_per_meta_episode: Updates of the inference model per meta-episode that a
            lane played: each learns from whole ones, however long they are.
        inference_batch: Lanes of such an update.
        inference_env_steps: The newest of the replay that the inference model learns from
            [env steps].
        init_temperature: Initial weight of the policy's entropy.
        target_entropy: Entropy that the temperature steers to, for each number of an action [nat].
        first_order: Leave the second derivative out of the inference model's meta-gradient.

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
        """How often something is played in an iteration."""
        return max(1, self.lane_groups)

    @property
    def lanes_per_turn(self) -> int:
        """Lanes that play at once."""
        return self.num_lanes // self.num_turns

    def env_steps_per_iteration(self, horizon: int) -> int:
        """What an iteration plays: a meta-episode in every lane [env steps].

        Args:
            horizon: Length of an episode [env steps].
        """
        return self.num_lanes * self.episodes_per_task * horizon
