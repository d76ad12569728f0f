"""The one table of algorithms: names, and where the parts of each are found; it imports no part.

It is the door to algorithms of other packages, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType
from typing import Any, Literal

from ssmrl.import_path import ImportPathError, imported, is_import_path
from ssmrl.knobs import KnobValue, check_knob


@dataclass(frozen=True)
class Algorithm:
    """Where the parts of an algorithm are found; each is imported when it is asked for.

    Attributes:
        name: What a configuration calls it.
        kind: How it adapts: by ``"gradient"`` steps on what was seen, or by a ``"memory"``.
        settings: Import path, ``"package.module:NAME"``, of the dataclass of its ``meta.*``.
        policy: Import path of the dataclass of its ``policy.*``.
        learner: Import path of what learns.
        player: Import path of what makes a policy of parameters.
        outer: Import path of the outer loss and its step; empty where there is no such thing.
        experience: Import path of ``configuration -> bytes``, what the experience takes that is
            kept to be learnt from again; empty where none is kept.
        stack: Import path of what learns for several seeds at once, from their configurations;
            empty where each seed learns by itself.
        defaults: Knobs whose default is another one than the task's or the settings' own.
    """

    name: str
    kind: Literal["gradient", "memory"]
    settings: str
    policy: str
    learner: str
    player: str
    outer: str = ""
    experience: str = ""
    stack: str = ""
    defaults: Mapping[str, KnobValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "defaults", MappingProxyType(dict(self.defaults)))

    def settings_type(self) -> type[Any]:
        """The dataclass of its ``meta.*``.

        Raises:
            ImportPathError: If there is nothing at the path; the message names it.
        """
        return self._part("settings")  # type: ignore[no-any-return]

    def policy_type(self) -> type[Any]:
        """The dataclass of its ``policy.*``.

        Raises:
            ImportPathError: If there is nothing at the path; the message names it.
        """
        return self._part("policy")  # type: ignore[no-any-return]

    def learner_type(self) -> Any:
        """The ``Learner``, from a configuration.

        Raises:
            ImportPathError: If there is nothing at the path; the message names it.
        """
        return self._part("learner")

    def outer_type(self) -> Any:
        """The outer loss and its step, from an actor and settings.

        Raises:
            ImportPathError: If there is nothing at the path; the message names it.
        """
        return self._part("outer")

    def player_type(self) -> Any:
        """What makes an ``Adaptation`` of parameters, from a configuration.

        Raises:
            ImportPathError: If there is nothing at the path; the message names it.
        """
        return self._part("player")

    def experience_bytes(self, config: Any) -> int:
        """What kept experience takes of the memory when there is no room for more [bytes].

        Args:
            config: A ``TrainConfig`` of this algorithm.

        Raises:
            ImportPathError: If there is nothing at the path; the message names it.
            ValueError: If the configuration leaves no room for what it needs.
        """
        return int(self._part("experience")(config)) if self.experience else 0

    def can_stack(self, config: Any) -> bool:
        """Whether several seeds of a configuration can learn at once.

        Args:
            config: A ``TrainConfig`` of this algorithm.

        Raises:
            ImportPathError: If there is nothing at the path of the stack; the message names it.
        """
        return bool(self.stack) and bool(self._part("stack").can_stack(config))

    def stack_type(self) -> Any:
        """What learns for several seeds at once, from their configurations.

        Raises:
            ImportPathError: If there is nothing at the path; the message names it.
            ValueError: If the algorithm has none.
        """
        if not self.stack:
            able = " or ".join(repr(each.name) for each in ALGORITHMS.values() if each.stack)
            raise ValueError(
                f"`algorithm` must be {able} where several seeds are trained at once, but is "
                f"{self.name!r}; train them one after another"
            )
        return self._part("stack")

    def _part(self, part: str) -> Any:
        path: str = getattr(self, part)
        try:
            return imported(path)
        except ImportPathError as error:
            raise ImportPathError(f"the {part} of algorithm {self.name!r}: {error}") from error


_GRADIENT_POLICY = "ssmrl.config:PolicyConfig"

_ALL = (
    Algorithm(
        "context-sac",
        "memory",
        "ssmrl.context.settings:ContextSettings",
        "ssmrl.config:SequenceConfig",
        "ssmrl.context.learner:ContextLearner",
        "ssmrl.context.by_memory:MemoryPlayer",
        experience="ssmrl.context.replay:replay_bytes",
        stack="ssmrl.context.stacked_learner:StackedLearner",
        defaults={
            "env.action_scale": 1.0,
            "policy.state_dim": 128,
            "policy.hidden_dim": 48,
            "evaluation.num_tasks": 100,
            "evaluation.num_episodes": 1,
        },
    ),
    Algorithm(
        "promp",
        "gradient",
        "ssmrl.meta.settings:ProMPSettings",
        _GRADIENT_POLICY,
        "ssmrl.meta.gradient_learner:GradientLearner",
        "ssmrl.meta.gradient_player:GradientPlayer",
        outer="ssmrl.meta.promp:ProMP",
    ),
    Algorithm(
        "e-maml",
        "gradient",
        "ssmrl.meta.settings:ProMPSettings",
        _GRADIENT_POLICY,
        "ssmrl.meta.gradient_learner:GradientLearner",
        "ssmrl.meta.gradient_player:GradientPlayer",
        outer="ssmrl.meta.emaml:EMAML",
    ),
    Algorithm(
        "maml-trpo",
        "gradient",
        "ssmrl.meta.settings:TrustRegionSettings",
        _GRADIENT_POLICY,
        "ssmrl.meta.gradient_learner:GradientLearner",
        "ssmrl.meta.gradient_player:GradientPlayer",
        outer="ssmrl.meta.trpo:MAMLTRPO",
    ),
)

ALGORITHMS: dict[str, Algorithm] = {algorithm.name: algorithm for algorithm in _ALL}
"""By name; the common tests run over all of them."""

DEFAULT_ALGORITHM = "context-sac"


def get_algorithm(name: str) -> Algorithm:
    """The algorithm of this name, or at this import path, which is then its name.

    Args:
        name: Short name, or ``package.module:NAME`` of an ``Algorithm``.

    Raises:
        ValueError: If none has the short name; the message lists the known ones.
        ImportPathError: If there is none at the import path.

    Example:
        >>> get_algorithm("promp").kind
        'gradient'
    """
    if is_import_path(name):
        return _own_algorithm(name)
    known = f"one of {list(ALGORITHMS)}, or `package.module:NAME`"
    check_knob(name in ALGORITHMS, "algorithm", name, known)
    return ALGORITHMS[name]


@cache
def _own_algorithm(path: str) -> Algorithm:
    algorithm = imported(path)
    if not isinstance(algorithm, Algorithm):
        raise ImportPathError(
            f"{path!r} must be an Algorithm, but is a {type(algorithm).__name__}; make one from an "
            "entry of `ssmrl.ALGORITHMS` with `dataclasses.replace`"
        )
    return replace(algorithm, name=path)
