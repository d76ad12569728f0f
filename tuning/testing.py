"""Contract tests for searchers, built-in ones and your own."""

from collections.abc import Sequence

from ssmrl.config import KnobValue, TrainConfig
from ssmrl.import_path import ImportPathError
from tuning.search.searcher import STEP, StudySearcher
from tuning.spaces.space import Choice, Condition, Float, Int, SearchSpace

_BASE = TrainConfig(algorithm="promp")

NUMBERS = SearchSpace(
    {
        "meta.inner_lr": Float(0.01, 1.0, log=True),
        "meta.discount": Float(0.5, 0.9),  # excludes the base's value, as a moved range may
        "policy.hidden_dim": Int(16, 128, step=16),
    },
    _BASE,
)
CONDITIONS = SearchSpace(
    {
        "policy.state_dim": Int(8, 128, step=8),
        "policy.method": Choice(("ssm", "gru", "mlp")),
        "policy.gated": Choice((False, True)),
        "meta.inner_lr": Float(0.01, 1.0, log=True),
    },
    _BASE,
    {
        "policy.state_dim": Condition("policy.method", ("ssm",)),
        "policy.gated": Condition("policy.state_dim", tuple(range(64, 136, 8))),
    },
)
_SCORES = (0.0, 3.0, 1.0, 1.0, -1e9, 2.0)


class SearcherContract:
    """Contract tests of a searcher; pytest finds them in a subclass that names it.

    Attributes:
        searcher: Import path of the searcher, or one of the short names.

    Example:
        >>> class TestMine(SearcherContract):
        ...     searcher = "random"
        >>> TestMine().test_it_asks_for_points_of_the_space()
    """

    searcher: str

    def test_it_asks_for_points_of_the_space(self) -> None:
        """Points of numeric knobs on both scales, with and without steps, from an empty table."""
        self._drawn(NUMBERS, _SCORES)

    def test_it_asks_for_the_active_knobs_alone(self) -> None:
        """Points of a space with options, and with knobs that only some points have."""
        self._drawn(CONDITIONS, _SCORES)

    def test_equal_seed_and_table_give_equal_points(self) -> None:
        """A killed sweep continues like an uninterrupted one."""
        for space in (NUMBERS, CONDITIONS):
            ours, theirs = (self._drawn(space, _SCORES, seed=3) for _ in range(2))
            assert ours == theirs, (
                "equal seeds and tables must give equal points, but gave "
                f"{_first_difference(ours, theirs)}; draw from the seed alone, and keep only "
                "what `tell` received"
            )

    def test_failed_trials_do_no_harm(self) -> None:
        """Trials without a score: the first, some in between, or all of them."""
        for scores in ((None, None, 1.0, None, 2.0, None), (None,) * 6):
            for space in (NUMBERS, CONDITIONS):
                self._drawn(space, scores)

    def _drawn(
        self, space: SearchSpace, scores: Sequence[float | None], seed: int = 0
    ) -> list[dict[str, KnobValue]]:
        """The points that it asks for while it receives these scores, None for a failure."""
        search = StudySearcher(
            space, name=self.searcher, seed=seed, storage_path=None, study_name="rules"
        )
        points = []
        for number, score in enumerate((*scores, None)):
            trial = f"trial {number}"
            try:
                points.append(search.suggest(trial))
            except ImportPathError as error:
                raise AssertionError(f"after {number} trials, {error}") from error
            assert space.contains(points[-1]), (
                f"a searcher must ask for points of the space, but asked for {points[-1]} after "
                f"{number} trials"
            )
            if score is None:
                search.on_trial_complete(trial, None, error=True)
            else:
                result = {"score": score, STEP: 1, "finished": True}
                search.on_trial_complete(trial, result)
        return points


def _first_difference(
    ours: Sequence[dict[str, KnobValue]], theirs: Sequence[dict[str, KnobValue]]
) -> str:
    return next(
        f"{one} and {other} after {number} trials"
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True))
        if one != other
    )
