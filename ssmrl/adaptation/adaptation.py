"""What a policy does with a hidden task: the four calls that everything above the learner uses."""

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, NamedTuple, TypeVar

from jaxtyping import Bool, Float
from torch import Tensor

from ssmrl.types import Trajectory

State = TypeVar("State")


class Decision(NamedTuple):
    """What a policy chose in each of ``N`` times ``B`` lanes.

    Attributes:
        action: ``(N, B, A)``.
        log_prob: Log density of the action, ``(N, B)``; zeros where nothing was drawn.
    """

    action: Tensor
    log_prob: Tensor


class Adaptation(ABC, Generic[State]):
    """How a policy adapts within a meta-episode: the 1 to K episodes with one hidden task.

    By memory it takes in every env step; by gradient it makes a few steps on what was seen after an
    episode; or both. What it knows of the tasks of ``N`` times ``B`` lanes is in a state that
    the caller passes on, so that the object itself never changes.

    Attributes:
        mixes_tasks: Whether the last digits of what a lane does depend on how many tasks there
            are beside its own, since all go through the same products.
    """

    mixes_tasks: ClassVar[bool] = False

    @abstractmethod
    def begin(self, num_tasks: int, num_lanes: int) -> State:
        """Nothing is known yet.

        Args:
            num_tasks: ``N``.
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
        """Choose, before or after having learnt something.

        Args:
            observation: What is seen.
            first: Where an episode starts.
            noise: Standard normal numbers to explore with.
            state: What is known.
        """

    @abstractmethod
    def observe(
        self, action: Float[Tensor, "N B A"], reward: Float[Tensor, "N B"], state: State
    ) -> State:
        """Take in what an env step gave; the observation after it comes with the next ``act``."""

    @abstractmethod
    def end_of_episode(self, trajectory: Trajectory, state: State) -> State:
        """Take in a whole episode, before another one with the same task.

        Args:
            trajectory: Of all lanes since the last call; its rewards are those that were observed.
            state: What is known.
        """
