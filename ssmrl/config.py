"""The one tree of settings, and the knobs that name its leaves; not a parser, not a search space.

A knob is a dotted leaf name such as ``policy.state_dim``. The command line, the checkpoint, the
search space and the table of trials all use exactly these names.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ssmrl.envs.families import get_family

KnobValue: TypeAlias = int | float | bool | str

METHODS = ("ssm", "lstm", "gru", "transformer", "mlp")

MEMORY_RESETS = ("episode", "trial")

ALGORITHMS = ("promp", "maml-trpo", "e-maml")


@dataclass(frozen=True)
class EnvConfig:
    """Where the policy acts.

    Attributes:
        task: Name of a task family.
        horizon: Length of a lane [env steps].
        action_scale: The simulator receives ``clip(action / action_scale, -1, 1)``. A scale of 10
            makes an action of standard deviation 1 a small torque, which is what the published
            inner learning rates assume.
    """

    task: str = "ant-vel"
    horizon: int = 100
    action_scale: float = 10.0


@dataclass(frozen=True)
class PolicyConfig:
    """The Gaussian policy.

    Attributes:
        method: The sequence model, one of ``METHODS``.
        state_dim: Reals of memory of a layer of the state space model (two per complex mode).
        hidden_dim: Width of the layers.
        init_std: Initial standard deviation of the action, before ``env.action_scale``.
        num_layers: Layers of ``ssm`` and ``transformer``; the others have one shape.
        gated: Whether the input gates what the layers of ``ssm`` pass on.
        num_heads: Heads of attention of ``transformer``.
        window: How far a layer of ``transformer`` looks, the present included [env steps].
        rl2_inputs: Whether the policy sees its last action, the last reward and where an episode
            starts, beside the observation.
        memory_reset: What empties the memory: the start of an ``"episode"``, or that of the
            ``"trial"``, which is the whole lane with all its episodes.

    References:
        Duan et al. 2016, "RL^2: Fast Reinforcement Learning via Slow Reinforcement Learning",
        section 2.2 (the inputs, and a memory that lives as long as a trial).
    """

    method: str = "ssm"
    state_dim: int = 32
    hidden_dim: int = 64
    init_std: float = 1.0
    num_layers: int = 1
    gated: bool = False
    num_heads: int = 4
    window: int = 32
    rl2_inputs: bool = False
    memory_reset: str = "episode"


@dataclass(frozen=True)
class MetaConfig:
    """How the meta-parameters are learnt; the defaults are those of ProMP's paper.

    All algorithms adapt in the same way and differ in the outer loss and in its optimiser.
    ``promp`` and ``e-maml`` take ``num_epochs`` steps of Adam. ``maml-trpo`` takes one step inside
    a trust region of size ``max_kl``, so ``outer_lr``, ``encoder_lr_scale``, ``num_epochs``,
    ``clip`` and ``inner_kl`` have no effect on it; ``max_kl`` has none on the others.

    Attributes:
        algorithm: Outer loss and optimiser, one of ``ALGORITHMS``.
        inner_lr: Step size of the adaptation.
        num_inner_steps: Adaptation steps the meta-parameters are trained for.
        outer_lr: Adam's step size on the meta-parameters.
        num_tasks: Tasks in a meta-batch.
        num_episodes: Lanes per task and adaptation step.
        num_epochs: Meta-gradient steps on one batch.
        clip: Half width of the likelihood ratio's trust interval.
        inner_kl: Weight of the divergence of the pre-adaptation policies.
        max_kl: Largest mean divergence of the adapted policies in a step of ``maml-trpo`` [nat].
        discount: Discount per env step.
        gae_lambda: Mix of generalised advantage estimation, 1 is Monte Carlo.
        first_order: Leave the second derivative out of the meta-gradient, of any algorithm.
        encoder_lr_scale: Adam's step size on the sequence encoder, which is all of the policy but
            its output layer, relative to ``outer_lr``.

    References:
        Rothfuss et al. 2019, "ProMP: Proximal Meta-Policy Search", section 5 and appendix; Finn et
        al. 2017, "Model-Agnostic Meta-Learning", section 5.3 (MAML with TRPO); Stadie et al. 2018,
        "Some Considerations on Learning to Explore via Meta-Reinforcement Learning" (E-MAML); Luo
        et al. 2024, "Efficient Recurrent Off-Policy RL Requires a Context-Encoder-Specific Learning
        Rate" (RESeL: 1/30 to 1/100 for the encoder of an off-policy learner).
    """

    algorithm: str = "promp"
    inner_lr: float = 0.1
    num_inner_steps: int = 1
    outer_lr: float = 1e-3
    num_tasks: int = 40
    num_episodes: int = 20
    num_epochs: int = 5
    clip: float = 0.3
    inner_kl: float = 5e-4
    max_kl: float = 0.01
    discount: float = 0.99
    gae_lambda: float = 1.0
    first_order: bool = False
    encoder_lr_scale: float = 1.0


@dataclass(frozen=True)
class EvaluationConfig:
    """How a policy is judged.

    Attributes:
        num_tasks: Held-out tasks, drawn from the family's test distribution.
        num_episodes: Lanes per task and adaptation step.
    """

    num_tasks: int = 20
    num_episodes: int = 20


@dataclass(frozen=True)
class TrainConfig:
    """Everything that a run depends on; equal configurations give equal results.

    Raises:
        ValueError: If a setting is outside its range; the message names the knob.
        KeyError: If ``env.task`` is not a known family.

    Example:
        >>> TrainConfig().with_knobs({"meta.inner_lr": 0.2}).meta.inner_lr
        0.2
    """

    env: EnvConfig = field(default_factory=EnvConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    meta: MetaConfig = field(default_factory=MetaConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        get_family(self.env.task)
        _check(self.policy.method in METHODS, "policy.method", self, f"one of {list(METHODS)}")
        resets = f"one of {list(MEMORY_RESETS)}"
        _check(self.policy.memory_reset in MEMORY_RESETS, "policy.memory_reset", self, resets)
        algorithms = f"one of {list(ALGORITHMS)}"
        _check(self.meta.algorithm in ALGORITHMS, "meta.algorithm", self, algorithms)
        _check(self.policy.state_dim % 2 == 0, "policy.state_dim", self, "even: two reals a mode")
        knobs = self.knobs()
        for knob in _COUNTS:
            _check(knobs[knob] >= 1, knob, self, "at least 1")  # type: ignore[operator]
        for knob in _POSITIVE:
            value = float(knobs[knob])
            _check(0.0 < value < float("inf"), knob, self, "positive and finite")
        for knob in ("meta.discount", "meta.gae_lambda"):
            _check(0.0 <= float(knobs[knob]) <= 1.0, knob, self, "in [0, 1]")
        _check(self.meta.inner_kl >= 0.0, "meta.inner_kl", self, "at least 0")
        _check(self.seed >= 0, "seed", self, "at least 0")

    @classmethod
    def for_task(cls, task: str) -> "TrainConfig":
        """The defaults of a task family.

        Raises:
            KeyError: If ``task`` is not a known family.
        """
        family = get_family(task)
        return cls(env=EnvConfig(task, family.horizon, family.action_scale))

    def knobs(self) -> dict[str, KnobValue]:
        """Every leaf by its dotted name, in the order of definition."""
        return dict(_leaves(self, ""))

    def with_knobs(self, knobs: Mapping[str, Any]) -> "TrainConfig":
        """The same configuration with some leaves replaced.

        Args:
            knobs: Values by dotted name; an int is accepted where a float is expected.

        Returns:
            A new, checked configuration.

        Raises:
            KeyError: If a name is not a knob; the message lists the known ones.
            TypeError: If a value has another type than the knob's.
            ValueError: If a value is outside its range.
        """
        known = self.knobs()
        parts: dict[str, dict[str, Any]] = {}
        for name, value in knobs.items():
            if name not in known:
                raise KeyError(f"unknown knob {name!r}; the knobs are: {', '.join(known)}")
            section, _, leaf = name.rpartition(".")
            parts.setdefault(section, {})[leaf] = _typed(name, value, type(known[name]))
        top = parts.pop("", {})
        changed = {
            section: dataclasses.replace(getattr(self, section), **leaves)
            for section, leaves in parts.items()
        }
        return dataclasses.replace(self, **changed, **top)

    def to_json(self) -> str:
        """The knobs as one line of JSON."""
        return json.dumps(self.knobs())

    @classmethod
    def from_json(cls, text: str) -> "TrainConfig":
        """The inverse of ``to_json``; knobs that the text lacks take their defaults."""
        return cls().with_knobs(json.loads(text))


_COUNTS = (
    "env.horizon",
    "policy.state_dim",
    "policy.hidden_dim",
    "policy.num_layers",
    "policy.num_heads",
    "policy.window",
    "meta.num_inner_steps",
    "meta.num_tasks",
    "meta.num_episodes",
    "meta.num_epochs",
    "evaluation.num_tasks",
    "evaluation.num_episodes",
)
_POSITIVE = (
    "env.action_scale",
    "policy.init_std",
    "meta.inner_lr",
    "meta.outer_lr",
    "meta.clip",
    "meta.max_kl",
    "meta.encoder_lr_scale",
)


def _check(holds: bool, knob: str, config: TrainConfig, invariant: str) -> None:
    if not holds:
        raise ValueError(f"`{knob}` must be {invariant}, but got {config.knobs()[knob]!r}")


def _typed(name: str, value: Any, kind: type) -> KnobValue:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if type(value) is not kind:
        raise TypeError(f"`{name}` must be of type {kind.__name__}, but got {value!r}")
    return kind(value)  # type: ignore[no-any-return]


def _leaves(node: Any, prefix: str) -> list[tuple[str, KnobValue]]:
    leaves: list[tuple[str, KnobValue]] = []
    for item in dataclasses.fields(node):
        value = getattr(node, item.name)
        name = f"{prefix}{item.name}"
        if dataclasses.is_dataclass(value):
            leaves.extend(_leaves(value, f"{name}."))
        else:
            leaves.append((name, value))
    return leaves
