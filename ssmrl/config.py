"""The configuration tree of a training run, and the knobs that name its leaves.

A knob is a dotted leaf name such as ``policy.state_dim``. The command line, the checkpoint, the
search space and the table of trials all use exactly these names. The knobs under ``policy`` and
``meta`` depend on the algorithm: it has only those that it reads.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ssmrl.envs.families import get_family
from ssmrl.format import FORMAT, check_format
from ssmrl.import_path import ImportPathError, imported, is_import_path
from ssmrl.knobs import KnobValue, check_knob, check_ranges, knobs_of, typed
from ssmrl.meta.algorithms import ALGORITHMS, DEFAULT_ALGORITHM, Algorithm, get_algorithm
from ssmrl.seeding import whole_seed
from ssmrl.strict_json import json_object, json_text
from ssmrl.unknown_name import UnknownNameError

__all__ = [
    "MEMORY_RESETS",
    "METHODS",
    "EnvConfig",
    "EvaluationConfig",
    "KnobValue",
    "PolicyConfig",
    "SequenceConfig",
    "TrainConfig",
]

METHODS = ("ssm", "lstm", "gru", "transformer", "mlp")

MEMORY_RESETS = ("episode", "trial")

_BY_ALGORITHM: Any = None  # a section left out takes the algorithm's default


@dataclass(frozen=True)
class EnvConfig:
    """Settings of the environment.

    Attributes:
        task: Name of a task family, or ``package.module:NAME`` of your own.
        horizon: Length of a lane [env steps].
        action_scale: Divisor of actions: the simulator receives ``clip(action / action_scale, -1,
            1)``. A scale of 10 makes an action of standard deviation 1 a small torque, as the
            published inner learning rates assume.

    Raises:
        ValueError: If a setting is outside its range; the message names the knob.
        KeyError: If ``task`` is not a known family.
    """

    task: str = "ant-vel"
    horizon: int = 100
    action_scale: float = 10.0

    def __post_init__(self) -> None:
        get_family(self.task)
        check_ranges(self, "env", counts=("horizon",), positive=("action_scale",))


@dataclass(frozen=True)
class SequenceConfig:
    """A sequence model and its sizes.

    Attributes:
        method: One of ``METHODS``, or ``package.module:NAME`` of a class that implements
            ``ssmrl.models.own_model.SequenceEncoder``.
        state_dim: Real numbers in the hidden state of an ``ssm`` layer (two per complex mode).
        hidden_dim: Width of the layers.
        num_layers: Number of layers of ``ssm`` and ``transformer``; fixed for the others.
        gated: Whether each ``ssm`` layer gates its state space's output by the layer's input.
        num_heads: Attention heads of ``transformer``.
        window: Steps a ``transformer`` layer attends to, the present included [env steps].

    Raises:
        ValueError: If a setting is outside its range; the message names the knob.
    """

    method: str = "ssm"
    state_dim: int = 32
    hidden_dim: int = 64
    num_layers: int = 1
    gated: bool = False
    num_heads: int = 4
    window: int = 32

    def __post_init__(self) -> None:
        check_method(self.method)
        is_even = self.state_dim % 2 == 0
        check_knob(is_even, "policy.state_dim", self.state_dim, "even, two per mode")
        counts = ("state_dim", "hidden_dim", "num_layers", "num_heads", "window")
        check_ranges(self, "policy", counts=counts)


@dataclass(frozen=True)
class PolicyConfig(SequenceConfig):
    """A Gaussian policy whose mean is the output of a sequence model.

    Attributes:
        init_std: Initial standard deviation of the action, before ``env.action_scale``.
        rl2_inputs: Whether the policy also receives its last action, the last reward and an
            episode-start flag, beside the observation.
        memory_reset: Reset of the hidden state: at the start of each ``"episode"``, or of
            the ``"trial"``, which is the whole lane with all its episodes.

    References:
        Duan et al. 2016, "RL^2: Fast Reinforcement Learning via Slow Reinforcement Learning",
        section 2.2 (the inputs, and a hidden state kept for a whole trial).
    """

    init_std: float = 1.0
    rl2_inputs: bool = False
    memory_reset: str = "episode"

    def __post_init__(self) -> None:
        super().__post_init__()
        known = f"one of {list(MEMORY_RESETS)}"
        check_knob(
            self.memory_reset in MEMORY_RESETS, "policy.memory_reset", self.memory_reset, known
        )
        check_ranges(self, "policy", positive=("init_std",))


@dataclass(frozen=True)
class EvaluationConfig:
    """Settings of the evaluation on held-out tasks.

    Attributes:
        num_tasks: Number of held-out tasks, drawn from the family's test distribution.
        num_episodes: Lanes per task and adaptation step.

    Raises:
        ValueError: If a setting is outside its range; the message names the knob.
    """

    num_tasks: int = 20
    num_episodes: int = 20

    def __post_init__(self) -> None:
        check_ranges(self, "evaluation", counts=("num_tasks", "num_episodes"))


@dataclass(frozen=True)
class TrainConfig:
    """The complete configuration of a run; equal configurations give equal results.

    Attributes:
        env: Settings of the environment.
        policy: Sizes of the sequence model; its type depends on the algorithm.
        meta: Settings of the training; its type depends on the algorithm.
        evaluation: Settings of the evaluation.
        algorithm: One of ``ALGORITHMS``, or ``package.module:NAME`` of your own.
        seed: Seed of all randomness.

    A section that is left out takes the algorithm's defaults.

    Raises:
        ValueError: If a setting is outside its range; the message names the knob.
        TypeError: If ``policy`` or ``meta`` belongs to another algorithm.

    Example:
        >>> TrainConfig(algorithm="promp").with_knobs({"meta.inner_lr": 0.2}).meta.inner_lr
        0.2
    """

    env: EnvConfig = _BY_ALGORITHM
    policy: Any = _BY_ALGORITHM
    meta: Any = _BY_ALGORITHM
    evaluation: EvaluationConfig = _BY_ALGORITHM
    algorithm: str = DEFAULT_ALGORITHM
    seed: int = 0

    def __post_init__(self) -> None:
        algorithm = get_algorithm(self.algorithm)
        for section, kind in _section_types(algorithm).items():
            given = getattr(self, section)
            if given is None:
                object.__setattr__(self, section, _default(section, kind(), algorithm))
            elif type(given) is not kind:
                raise TypeError(
                    f"`{section}` of algorithm {self.algorithm!r} must be a {kind.__name__}, but "
                    f"got a {type(given).__name__}; leave it out to take the defaults"
                )
        object.__setattr__(self, "seed", whole_seed(self.seed))

    @classmethod
    def for_task(cls, task: str, algorithm: str = DEFAULT_ALGORITHM) -> "TrainConfig":
        """The defaults of a task family and an algorithm; the algorithm's take precedence.

        Raises:
            KeyError: If ``task`` is not a known family.
            ValueError: If ``algorithm`` is not known.
        """
        family = get_family(task)
        config = cls(algorithm=algorithm)
        env = EnvConfig(task, family.horizon, family.action_scale)
        return dataclasses.replace(config, env=_default("env", env, get_algorithm(algorithm)))

    def knobs(self) -> dict[str, KnobValue]:
        """Every leaf by its dotted name, in the order of definition."""
        return knobs_of(self)

    def check_known(self, name: str) -> None:
        """Check that a name is a knob of the algorithm.

        Raises:
            KeyError: If it is not; the message lists the knobs, and names the algorithms that have
                this one.
        """
        self._check_among(self.knobs(), name)

    def _check_among(self, known: Mapping[str, KnobValue], name: str) -> None:
        if name not in known:
            raise UnknownNameError(_unknown(name, self.algorithm, known))

    def with_knobs(self, knobs: Mapping[str, Any]) -> "TrainConfig":
        """A copy of the configuration with some knobs replaced.

        Args:
            knobs: Values by dotted name; an int is accepted for a float. If they change
                ``algorithm``, then ``policy``, ``meta`` and every knob with a default by algorithm
                are first reset to the new algorithm's defaults.

        Returns:
            A new, checked configuration.

        Raises:
            KeyError: If a name is not a knob of the algorithm; the message lists the knobs, and
                names the algorithms that have this one.
            TypeError: If a value has another type than the knob.
            ValueError: If a value is outside its range.
        """
        algorithm = knobs.get("algorithm", self.algorithm)
        if algorithm != self.algorithm:
            return self._switched(str(typed("algorithm", algorithm, str))).with_knobs(knobs)
        known = self.knobs()
        parts: dict[str, dict[str, Any]] = {}
        for name, value in knobs.items():
            self._check_among(known, name)
            section, _, leaf = name.rpartition(".")
            parts.setdefault(section, {})[leaf] = typed(name, value, type(known[name]))
        top = parts.pop("", {})
        changed = {
            section: dataclasses.replace(getattr(self, section), **leaves)
            for section, leaves in parts.items()
        }
        return dataclasses.replace(self, **changed, **top)

    @classmethod
    def of_knobs(cls, knobs: Mapping[str, Any], what: str = "a configuration") -> "TrainConfig":
        """The inverse of ``knobs``; every knob must be given, none takes its default silently.

        Args:
            knobs: Values by name: ``algorithm`` and every other knob of that algorithm.
            what: Name of what was read, for the message.

        Raises:
            KeyError: If a name is not a knob of the algorithm.
            TypeError: If a value has another type than the knob.
            ValueError: If a knob is missing, which the message names, or a value is outside its
                range.
        """
        if "algorithm" not in knobs:
            raise ValueError(f"{what} must hold every knob, but lacks `algorithm`; add it")
        start = cls().with_knobs({"algorithm": knobs["algorithm"]})
        missing = [knob for knob in start.knobs() if knob not in knobs]
        if missing:
            raise ValueError(
                f"{what} must hold every knob of algorithm {start.algorithm!r}, but lacks "
                f"{', '.join(f'`{knob}`' for knob in missing)}; add what is missing"
            )
        return start.with_knobs(knobs)

    def to_json(self) -> str:
        """The format number and all knobs as one line of JSON."""
        return json_text({"format": FORMAT} | self.knobs())

    @classmethod
    def from_json(cls, text: str, what: str = "a configuration") -> "TrainConfig":
        """The inverse of ``to_json``.

        Args:
            text: A JSON object with the format number and every knob.
            what: Name of what was read, for the message.

        Raises:
            FormatError: If the format is another one.
            KeyError: If a name is not a knob of the algorithm.
            TypeError: If a value has another type than the knob.
            ValueError: If a knob is missing, or a value is outside its range.
        """
        content = json_object(text, what)
        check_format(content.pop("format", None), what)
        return cls.of_knobs(content, what)

    def _switched(self, algorithm: str) -> "TrainConfig":
        """The defaults of another algorithm, with this one's ``env``, ``evaluation`` and ``seed``.

        Knobs for which either algorithm has its own default are not kept.
        """
        fresh = TrainConfig.for_task(self.env.task, algorithm)
        differing = {*get_algorithm(self.algorithm).defaults, *get_algorithm(algorithm).defaults}
        kept = {
            knob: value
            for knob, value in self.knobs().items()
            if knob.partition(".")[0] in ("env", "evaluation", "seed") and knob not in differing
        }
        return fresh.with_knobs(kept)


def check_method(name: str) -> None:
    """Check that a name is that of a sequence model.

    Args:
        name: One of ``METHODS``, or an import path.

    Raises:
        ValueError: If the short name is unknown; the message lists the known ones.
        ImportPathError: If the import path does not lead to a sequence model class.
    """
    if not is_import_path(name):
        known = f"one of {list(METHODS)}, or `package.module:NAME`"
        check_knob(name in METHODS, "policy.method", name, known)
        return
    model = imported(name)
    lacking = [part for part in ("init_hidden", "step") if not hasattr(model, part)]
    if lacking or not isinstance(model, type):
        raise ImportPathError(
            f"{name!r} must be a class with `init_hidden` and `step`, but is "
            f"{model!r}{f' without `{lacking[0]}`' if lacking else ''}"
        )


def _section_types(algorithm: Algorithm) -> dict[str, type[Any]]:
    return {
        "env": EnvConfig,
        "policy": algorithm.policy_type(),
        "meta": algorithm.settings_type(),
        "evaluation": EvaluationConfig,
    }


def _default(section: str, own: Any, algorithm: Algorithm) -> Any:
    """The section ``own``, with the algorithm's defaults where it has any."""
    leaves = {
        knob.removeprefix(f"{section}."): value
        for knob, value in algorithm.defaults.items()
        if knob.startswith(f"{section}.")
    }
    return dataclasses.replace(own, **leaves)


def _unknown(name: str, algorithm: str, known: Mapping[str, KnobValue]) -> str:
    owners = [
        other
        for other in ALGORITHMS
        if other != algorithm and name in TrainConfig(algorithm=other).knobs()
    ]
    listed = " and ".join([", ".join(owners[:-1]), owners[-1]] if owners[1:] else owners)
    owned = f"{listed} {'have' if owners[1:] else 'has'} it; " if owners else ""
    return (
        f"unknown knob {name!r} for algorithm {algorithm!r}; {owned}"
        f"the knobs are: {', '.join(known)}"
    )
