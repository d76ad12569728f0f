"""The one tree of settings, and the knobs that name its leaves; not a parser, not a search space.

A knob is a dotted leaf name such as ``policy.state_dim``. The command line, the checkpoint, the
search space and the table of trials all use exactly these names. Which knobs there are under
``policy`` and ``meta`` depends on the algorithm: one that it does not read does not exist for it.
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

_BY_ALGORITHM: Any = None  # what is left out takes the algorithm's default


@dataclass(frozen=True)
class EnvConfig:
    """Where the policy acts.

    Attributes:
        task: Name of a task family, or ``package.module:NAME`` of another one.
        horizon: Length of a lane [env steps].
        action_scale: The simulator receives ``clip(action / action_scale, -1, 1)``. A scale of 10
            makes an action of standard deviation 1 a small torque, which is what the published
            inner learning rates assume.

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
        method: One of ``METHODS``, or ``package.module:NAME`` of a class as
            ``ssmrl.models.own_model.SequenceEncoder`` has it.
        state_dim: Reals of memory of a layer of the state space model (two per complex mode).
        hidden_dim: Width of the layers.
        num_layers: Layers of ``ssm`` and ``transformer``; the others have one shape.
        gated: Whether the input gates what the layers of ``ssm`` pass on.
        num_heads: Heads of attention of ``transformer``.
        window: How far a layer of ``transformer`` looks, the present included [env steps].

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
        check_knob(is_even, "policy.state_dim", self.state_dim, "even: two reals a mode")
        counts = ("state_dim", "hidden_dim", "num_layers", "num_heads", "window")
        check_ranges(self, "policy", counts=counts)


@dataclass(frozen=True)
class PolicyConfig(SequenceConfig):
    """The Gaussian policy that is a sequence model itself.

    Attributes:
        init_std: Initial standard deviation of the action, before ``env.action_scale``.
        rl2_inputs: Whether the policy sees its last action, the last reward and where an episode
            starts, beside the observation.
        memory_reset: What empties the memory: the start of an ``"episode"``, or that of the
            ``"trial"``, which is the whole lane with all its episodes.

    References:
        Duan et al. 2016, "RL^2: Fast Reinforcement Learning via Slow Reinforcement Learning",
        section 2.2 (the inputs, and a memory that lives as long as a trial).
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
    """How a policy is judged.

    Attributes:
        num_tasks: Held-out tasks, drawn from the family's test distribution.
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
    """Everything that a run depends on; equal configurations give equal results.

    Attributes:
        env: Where the policy acts.
        policy: Sizes of the sequence model, of the type that the algorithm names.
        meta: How it is learnt, of the type that the algorithm names.
        evaluation: How it is judged.
        algorithm: One of ``ALGORITHMS``, or ``package.module:NAME`` of another one.
        seed: Of all randomness.

    What is left out takes the algorithm's default.

    Raises:
        ValueError: If a setting is outside its range; the message names the knob.
        TypeError: If ``policy`` or ``meta`` are another algorithm's.

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
        """The defaults of a task family and an algorithm, which wins where both have one.

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
        """Refuse what is not a knob of the algorithm.

        Raises:
            KeyError: If it is not; the message lists those that are, and names the algorithms that
                have this one.
        """
        self._check_among(self.knobs(), name)

    def _check_among(self, known: Mapping[str, KnobValue], name: str) -> None:
        if name not in known:
            raise UnknownNameError(_unknown(name, self.algorithm, known))

    def with_knobs(self, knobs: Mapping[str, Any]) -> "TrainConfig":
        """The same configuration with some leaves replaced.

        Args:
            knobs: Values by dotted name; an int is accepted where a float is expected. With another
                ``algorithm`` among them, ``policy``, ``meta`` and whatever has a default by
                algorithm first become that one's defaults.

        Returns:
            A new, checked configuration.

        Raises:
            KeyError: If a name is not a knob of the algorithm; the message lists those that are,
                and names the algorithms that have this one.
            TypeError: If a value has another type than the knob's.
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
        """The inverse of ``knobs``: all are there, and none becomes a default without a word.

        Args:
            knobs: Every knob of the algorithm that is among them.
            what: What was read, for the message.

        Raises:
            KeyError: If a name is not a knob of the algorithm.
            TypeError: If a value has another type than the knob's.
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
        """The format and the knobs as one line of JSON."""
        return json_text({"format": FORMAT} | self.knobs())

    @classmethod
    def from_json(cls, text: str, what: str = "a configuration") -> "TrainConfig":
        """The inverse of ``to_json``.

        Args:
            text: A JSON object of the format and every knob.
            what: What was read, for the message.

        Raises:
            FormatError: If it is of another format.
            KeyError: If a name is not a knob of the algorithm.
            TypeError: If a value has another type than the knob's.
            ValueError: If a knob is missing, or a value is outside its range.
        """
        content = json_object(text, what)
        check_format(content.pop("format", None), what)
        return cls.of_knobs(content, what)

    def _switched(self, algorithm: str) -> "TrainConfig":
        """The defaults of another algorithm, and of this one what does not depend on it."""
        fresh = TrainConfig.for_task(self.env.task, algorithm)
        differing = {*get_algorithm(self.algorithm).defaults, *get_algorithm(algorithm).defaults}
        kept = {
            knob: value
            for knob, value in self.knobs().items()
            if knob.partition(".")[0] in ("env", "evaluation", "seed") and knob not in differing
        }
        return fresh.with_knobs(kept)


def check_method(name: str) -> None:
    """Refuse what is no sequence model.

    Args:
        name: One of ``METHODS``, or an import path.

    Raises:
        ValueError: If none has the short name; the message lists the known ones.
        ImportPathError: If there is no class of a sequence model at the import path.
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
    """The section with the algorithm's defaults in place of its own."""
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
