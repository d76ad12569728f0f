"""Settings of the algorithms that adapt by gradient steps; each reads all of its settings."""

from dataclasses import dataclass

from ssmrl.knobs import check_ranges


@dataclass(frozen=True)
class GradientSettings:
    """Common settings: rollouts, adaptation and advantages.

    A base class; no algorithm uses it directly.

    Attributes:
        inner_lr: Learning rate of the adaptation.
        num_inner_steps: Adaptation steps the meta-parameters are trained for.
        num_tasks: Tasks in a meta-batch.
        num_episodes: Lanes per task and adaptation step.
        discount: Discount per env step.
        gae_lambda: Lambda of generalised advantage estimation; 1 is Monte Carlo.
        first_order: Whether to leave the second derivative out of the meta-gradient.

    Raises:
        ValueError: If a setting is outside its range; the message names the knob.
    """

    inner_lr: float = 0.1
    num_inner_steps: int = 1
    num_tasks: int = 40
    num_episodes: int = 20
    discount: float = 0.99
    gae_lambda: float = 1.0
    first_order: bool = False

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "meta",
            counts=("num_inner_steps", "num_tasks", "num_episodes"),
            positive=("inner_lr",),
            shares=("discount", "gae_lambda"),
        )

    def env_steps_per_iteration(self, horizon: int) -> int:
        """Env steps of an iteration: each task's lanes, ``num_inner_steps + 1`` times [env steps].

        Args:
            horizon: Length of a lane [env steps].
        """
        return self.num_tasks * self.num_episodes * (self.num_inner_steps + 1) * horizon


@dataclass(frozen=True)
class ProMPSettings(GradientSettings):
    """Several steps of Adam on one meta-batch; the defaults are those of ProMP's paper.

    Attributes:
        outer_lr: Adam's learning rate on the meta-parameters.
        num_epochs: Meta-gradient steps on one batch.
        clip: Clipping range of the likelihood ratio: ``1 +- clip``.
        inner_kl: Weight of the divergence of the pre-adaptation policies.
        encoder_lr_scale: Adam's learning rate on the sequence encoder (all of the policy but its
            output layer), relative to ``outer_lr``.

    References:
        Rothfuss et al. 2019, "ProMP: Proximal Meta-Policy Search", section 5 and appendix; Stadie
        et al. 2018, "Some Considerations on Learning to Explore via Meta-Reinforcement Learning"
        (E-MAML); Luo et al. 2024, "Efficient Recurrent Off-Policy RL Requires a
        Context-Encoder-Specific Learning Rate" (RESeL: 1/30 to 1/100 for the encoder of an
        off-policy learner).
    """

    outer_lr: float = 1e-3
    num_epochs: int = 5
    clip: float = 0.3
    inner_kl: float = 5e-4
    encoder_lr_scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(
            self,
            "meta",
            counts=("num_epochs",),
            positive=("outer_lr", "clip", "encoder_lr_scale"),
            not_negative=("inner_kl",),
        )


@dataclass(frozen=True)
class TrustRegionSettings(GradientSettings):
    """One step inside a trust region.

    Attributes:
        max_kl: Largest mean divergence of the adapted policies per step [nat].

    References:
        Finn et al. 2017, "Model-Agnostic Meta-Learning", section 5.3 (MAML with TRPO).
    """

    max_kl: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, "meta", positive=("max_kl",))
