"""Sequence models, searchers and algorithms that break one rule each."""

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssmrl.config import TrainConfig
from ssmrl.meta.algorithms import ALGORITHMS
from ssmrl.meta.gradient_learner import GradientLearner


class Counting(nn.Module):
    """A model that keeps all rules: it adds up what it sees. The others change one thing of it."""

    def __init__(self, input_dim: int, config: Any) -> None:
        super().__init__()
        self.state_dim = config.state_dim
        self.into = nn.Linear(input_dim, config.state_dim)
        self.features = nn.Linear(config.state_dim, config.hidden_dim)

    def init_hidden(self, batch_size: int) -> Tensor:
        return torch.zeros(batch_size, self.state_dim)

    def step(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        hidden = 0.5 * hidden + self.into(x)
        return torch.tanh(self.features(hidden)), hidden


class OnesAtFirst(Counting):
    def init_hidden(self, batch_size: int) -> Tensor:
        return torch.ones(batch_size, self.state_dim)


class BatchSecond(Counting):
    def init_hidden(self, batch_size: int) -> Tensor:
        return torch.zeros(self.state_dim, batch_size)


class TooWide(Counting):
    def step(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        features, hidden = super().step(x, hidden)
        return torch.cat([features, features], dim=-1), hidden


class ScanThatNeverResets(Counting):
    def scan(self, x: Tensor, hidden: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        features = []
        for t in range(x.shape[1]):
            one, hidden = self.step(x[:, t], hidden)
            features.append(one)
        return torch.stack(features, dim=1), hidden


class Detached(Counting):
    def step(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        features, hidden = super().step(x, hidden)
        return features.detach(), hidden


class InPlace(Counting):
    def step(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        hidden.mul_(0.5)
        return torch.tanh(self.features(hidden + self.into(x))), hidden + self.into(x)


class SeesTheBatch(Counting):
    def step(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return super().step(x - x.mean(dim=0), hidden)


class FusedCell(Counting):
    def __init__(self, input_dim: int, config: Any) -> None:
        super().__init__(input_dim, config)
        self.into = nn.LSTMCell(input_dim, config.state_dim)

    def step(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        hidden, _ = self.into(x, (hidden, hidden))
        return torch.tanh(self.features(hidden)), hidden


class WithoutEffect(Counting):
    def step(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tanh(self.features(self.into(x))), hidden


class RemembersElsewhere(Counting):
    def init_hidden(self, batch_size: int) -> Tensor:
        self.own = None
        return torch.zeros(batch_size, 0)

    def step(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        self.own = self.into(x) + (0.0 if self.own is None else self.own)
        return torch.tanh(self.features(self.own)), hidden


class Uniform:
    """A searcher that keeps all rules. The others change one thing of it."""

    def __init__(self, space: Any, seed: int) -> None:
        self.space, self.rng = space, np.random.default_rng(seed)

    def tell(self, point: Mapping[str, Any], score: float | None) -> None: ...

    def ask(self) -> dict[str, Any]:
        point: dict[str, Any] = {}
        while waiting := [k for k in self.space.active_knobs(point) if k not in point]:
            point |= {knob: self.value(self.space.ranges[knob]) for knob in waiting}
        return point

    def value(self, own: Any) -> Any:
        if hasattr(own, "options"):
            return own.options[self.rng.integers(len(own.options))]
        return own.from_unit(self.rng.random())


class Outside(Uniform):
    def value(self, own: Any) -> Any:
        return super().value(own) if hasattr(own, "options") else 2 * own.high


class NumbersOfNumPy(Uniform):
    def value(self, own: Any) -> Any:
        return np.int64(super().value(own)) if hasattr(own, "step") else super().value(own)


class AllKnobs(Uniform):
    def ask(self) -> dict[str, Any]:
        return {knob: self.value(own) for knob, own in self.space.ranges.items()}


class Unseeded(Uniform):
    def __init__(self, space: Any, seed: int) -> None:
        super().__init__(space, int(np.random.SeedSequence().generate_state(1)[0]))


class NeedsScores(Uniform):
    def tell(self, point: Mapping[str, Any], score: float | None) -> None:
        assert score + 1.0 > score - 1.0  # type: ignore[operator]


@dataclasses.dataclass(frozen=True)
class WithoutDefault:
    inner_lr: float


_SEEDS = itertools.count()


def unseeded(config: TrainConfig, **where: Any) -> GradientLearner:
    return GradientLearner(dataclasses.replace(config, seed=next(_SEEDS)), **where)


class Forgetful(GradientLearner):
    def load(self, tensors: Mapping[str, Tensor], iteration: int, folder: Path) -> None:
        super().load(tensors, 0, folder)


_HERE = __name__
NO_DEFAULT = dataclasses.replace(ALGORITHMS["promp"], settings=f"{_HERE}:WithoutDefault")
NO_SEED = dataclasses.replace(ALGORITHMS["promp"], learner=f"{_HERE}:unseeded")
FORGETFUL = dataclasses.replace(ALGORITHMS["promp"], learner=f"{_HERE}:Forgetful")

_WIDTHS = "outputs_and_memory_have_their_widths"
_MEMORY = "the_memory_starts_as_zeros_with_the_batch_on_axis_0"
_CARRIES = "what_a_memory_carries_shows_in_later_outputs"
_POINTS = "it_asks_for_points_of_the_space"
BROKEN = {
    "OnesAtFirst": (_MEMORY, "must return .* zeros"),
    "BatchSecond": (_MEMORY, "must return .* zeros"),
    "TooWide": (_WIDTHS, r"features must be \(B, policy.hidden_dim\), \(4, 8\), but are \(4, 16\)"),
    "ScanThatNeverResets": ("scan_equals_the_loop_of_reset_and_step", "but they differ by up to"),
    "Detached": ("scan_and_loop_have_the_same_gradient", "every parameter must have an effect"),
    "InPlace": ("a_step_writes_nothing_in_place", "changed its `hidden`"),
    "SeesTheBatch": ("permuting_the_batch_permutes_the_result", "not depend on the others"),
    "FusedCell": (
        "under_vmap_the_gradient_through_inner_steps_is_that_of_the_loop",
        "Error",
    ),
    "WithoutEffect": (_CARRIES, "must carry something"),
    "RemembersElsewhere": (_CARRIES, "keep all state in the hidden state"),
    "Outside": (_POINTS, "must lie inside of the search space"),
    "NumbersOfNumPy": (_POINTS, "gave no point"),
    "AllKnobs": ("it_asks_for_the_active_knobs_alone", "must have exactly the searched knobs"),
    "Unseeded": ("equal_seed_and_table_give_equal_points", "draw from the seed alone"),
    "NeedsScores": ("failed_trials_do_no_harm", r"TypeError: .* \(at .*broken_parts.py:\d+\)"),
    "NO_DEFAULT": ("settings_and_policy_are_dataclasses_with_defaults", r"but \['inner_lr'\]"),
    "NO_SEED": ("equal_configurations_learn_equal_weights", "all randomness from `config.seed`"),
    "FORGETFUL": ("a_checkpoint_goes_on_to_the_same_weights", "must reach the same weights"),
}
"""By name, the rule that it breaks and part of what is said of it."""
