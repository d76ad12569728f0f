"""The table of algorithms: names and import paths of their parts, which are imported lazily.

Algorithms of other packages are looked up here too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType
from typing import Any, Literal

from ssmrl.import_path import ImportPathError, imported, imported_as, is_import_path
from ssmrl.knobs import KnobValue, check_knob


@dataclass(frozen=True)
class Algorithm:
    """Import paths of an algorithm's parts; each part is imported on demand.

    Attributes:
        name: Name in configurations.
        kind: Kind of adaptation: by ``"gradient"`` steps, or by a sequence model's ``"memory"``.
        settings: Import path, ``"package.module:NAME"``, of the dataclass of its ``meta.*`` knobs.
        policy: Import path of the dataclass of its ``policy.*`` knobs.
        learner: Import path of the ``Learner``.
        player: Import path of the player, which makes a policy from parameters.
        outer: Import path of the outer loss and its step; empty if it has none.
        experience: Import path of ``configuration -> bytes``, the size of the replay buffer; empty
            if it has none.
        stack: Import path of the learner of several seeds at once, made from their configurations;
            empty if each seed learns alone.
        defaults: Knobs with defaults that replace those of the task and the settings.
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
        """The dataclass of its ``meta.*`` knobs.

        Raises:
            ImportPathError: If there is nothing at the path; the message names it.
        """
        return self._part("settings")  # type: ignore[no-any-return]

    def policy_type(self) -> type[Any]:
        """The dataclass of its ``policy.*`` knobs.

        Raises:
            ImportPathError: If there is nothing at the path; the message names it.
        """
        return self._part("policy")  # type: ignore[no-any-return]

    def learner_type(self) -> Any:
        """The ``Learner`` class; its argument is a configuration.

        Raises:
            ImportPathError: If there is nothing at the path; the message names it.
        """
        return self._part("learner")

    def outer_type(self) -> Any:
        """The class of the outer loss and its step; its arguments are an actor and the settings.

        Raises:
            ImportPathError: If there is nothing at the path; the message names it.
        """
        return self._part("outer")

    def player_type(self) -> Any:
        """The player class; from a configuration, it makes an ``Adaptation`` of parameters.

        Raises:
            ImportPathError: If there is nothing at the path; the message names it.
        """
        return self._part("player")

    def experience_bytes(self, config: Any) -> int:
        """Memory of the full replay buffer [bytes]; 0 without one.

        Args:
            config: A ``TrainConfig`` of this algorithm.

        Raises:
            ImportPathError: If there is nothing at the path; the message names it.
            ValueError: If the configuration's replay settings do not fit each other.
        """
        return int(self._part("experience")(config)) if self.experience else 0

    def can_stack(self, config: Any) -> bool:
        """Whether several seeds of a configuration can be trained at once.

        Args:
            config: A ``TrainConfig`` of this algorithm.

        Raises:
            ImportPathError: If there is nothing at the path of the stack; the message names it.
        """
        return bool(self.stack) and bool(self._part("stack").can_stack(config))

    def stack_type(self) -> Any:
        """The class that trains several seeds at once; its argument is their configurations.

        Raises:
            ImportPathError: If there is nothing at the path; the message names it.
            ValueError: If the algorithm has no such class.
        """
        if not self.stack:
            able = " or ".join(repr(each.name) for each in ALGORITHMS.values() if each.stack)
            raise ValueError(
                f"`algorithm` must be {able} to train several seeds at once, but is "
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
"""All algorithms by name; the common tests run over all of them."""

DEFAULT_ALGORITHM = "context-sac"


def get_algorithm(name: str) -> Algorithm:
    """The algorithm of this name, or at this import path, which is then its name.

    Args:
        name: Short name, or ``package.module:NAME`` of an ``Algorithm``.

    Raises:
        ValueError: If the short name is unknown; the message lists the known ones.
        ImportPathError: If the import path does not lead to an ``Algorithm``.

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
    remedy = "make one from an entry of `ssmrl.ALGORITHMS` with `dataclasses.replace`"
    algorithm = imported_as(path, Algorithm, remedy)
    return replace(algorithm, name=path)
