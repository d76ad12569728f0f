"""The interface of a policy that adapts to a hidden task: four methods, used by all callers."""

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, NamedTuple, TypeVar

from jaxtyping import Bool, Float
from torch import Tensor

from ssmrl.types import Trajectory

State = TypeVar("State")


class Decision(NamedTuple):
    """Actions of a policy in ``N`` times ``B`` lanes.

    Attributes:
        action: Actions, ``(N, B, A)``.
        log_prob: Log density of the action, ``(N, B)``; zeros for actions that were not sampled.
    """

    action: Tensor
    log_prob: Tensor


class Adaptation(ABC, Generic[State]):
    """A policy that adapts within a meta-episode: the 1 to K episodes with one hidden task.

    Adaptation by memory updates a hidden state at every env step. Adaptation by gradient makes
    gradient steps on the rollouts after an episode. Both can be combined. What is known of the
    tasks of ``N`` times ``B`` lanes is in a state that the caller passes on; the object itself
    never changes.

    Attributes:
        mixes_tasks: Whether the last digits of a lane's actions depend on the number of other
            tasks, since all tasks share the same matrix products.
    """

    mixes_tasks: ClassVar[bool] = False

    @abstractmethod
    def begin(self, num_tasks: int, num_lanes: int) -> State:
        """The initial state, in which nothing is known of any task.

        Args:
            num_tasks: Number of tasks, ``N``.
            num_lanes: Lanes of each task, ``B``.
        """

    @abstractmethod
    def act(
        self,
        observation: Float[Tensor, "N B O"],
        first: Bool[Tensor, "N B"],
        noise: Float[Tensor, "N B A"],
        state: State,
    ) -> tuple[Decision, State]:
        """Choose actions given what is known so far.

        Args:
            observation: Current observations.
            first: Whether an episode starts at this step.
            noise: Standard normal numbers for exploration.
            state: Current state.
        """

    @abstractmethod
    def observe(
        self, action: Float[Tensor, "N B A"], reward: Float[Tensor, "N B"], state: State
    ) -> State:
        """Take in the result of an env step; its observation comes with the next ``act``."""

    @abstractmethod
    def end_of_episode(self, trajectory: Trajectory, state: State) -> State:
        """Take in a whole episode, before the next one with the same task.

        Args:
            trajectory: Rollouts of all lanes since the last call, with the observed rewards.
            state: Current state.
        """
