"""The joint result of a trial's runs: one row over all of its seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from statistics import fmean
from typing import Any, Self

from ssmrl.knobs import KnobValue
from ssmrl.run import Row
from tuning.stages import stage

_JUDGEMENT = ("score", "interval", "returns", "seed_scores", "judged_at")


@dataclass(frozen=True)
class SeedsRow:
    """Joint result of runs that differ only in their seeds.

    Attributes:
        env_steps: Env steps of the run that is furthest behind.
        all_env_steps: Env steps of all runs together.
        iterations: Number of iterations of the first run.
        seconds: Time of all runs together [s].
        finished: Whether all runs have spent their budgets.
        diverged: Whether a run diverged.
        out_of_memory: Whether the runs did not fit the memory.
        reason: The seed that diverged and why, or what did not fit the memory.
        received: The knobs that the first run received.
        seeds: Seeds of the runs.
        curve: Means over the runs, at the evaluations that all have made.
        score: Mean over the runs at the last evaluation that all have made; None before the first.
        seed_scores: Score of each run there, in the order of ``seeds``.
        judged_at: Share of the budget at which the scheduler compares that evaluation [env steps].
            Iterations of different length end a little after it; scores of equal shares compare.
        interval: 95 % interval of the score over tasks; None if there are several runs.
        returns: Mean return by the number of episodes that came before on the same task.
    """

    env_steps: int = 0
    all_env_steps: int = 0
    iterations: int = 0
    seconds: float = 0.0
    finished: bool = False
    diverged: bool = False
    out_of_memory: bool = False
    reason: str = ""
    received: Mapping[str, KnobValue] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    curve: tuple[tuple[int, float, float], ...] = ()
    score: float | None = None
    seed_scores: tuple[float, ...] = ()
    judged_at: int = 0
    interval: tuple[float, float] | None = None
    returns: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls, rows: Sequence[Row], seeds: Sequence[int], max_env_steps: int, num_evaluations: int
    ) -> Self:
        """The joint result of the rows of the runs.

        Args:
            rows: Row of each run.
            seeds: Seed of each run.
            max_env_steps: Budget of each run [env steps].
            num_evaluations: Number of evaluations of a run, at equal shares of its budget.
        """
        diverged = [(seed, row) for seed, row in zip(seeds, rows, strict=True) if row.diverged]
        # After a worker was killed, a run may be ahead of the others: it waits for them.
        num_judged = 0 if diverged else min(len(row.curve) for row in rows)
        judged = [row.curve[:num_judged] for row in rows]
        scores = tuple(points[-1][2] for points in judged if points)
        return cls(
            env_steps=min(row.env_steps for row in rows),
            all_env_steps=sum(row.env_steps for row in rows),
            iterations=rows[0].iterations,
            seconds=sum(row.seconds for row in rows),
            finished=all(row.finished for row in rows),
            diverged=bool(diverged),
            reason="; ".join(f"seed {seed}: {row.reason}" for seed, row in diverged[:1]),
            received=rows[0].received,
            seeds=tuple(seeds),
            curve=tuple(_mean_point(points) for points in zip(*judged, strict=True)),
            score=fmean(scores) if scores else None,
            seed_scores=scores,
            judged_at=max_env_steps
            * _share(judged[0], max_env_steps, num_evaluations)
            // num_evaluations,
            interval=rows[0].interval if len(rows) == 1 else None,
            returns=_mean_returns(rows) if scores else {},
        )

    def to_result(self) -> dict[str, Any]:
        """The fields as a result for Tune, without those of the score while there is none."""
        left_out = _JUDGEMENT if self.score is None else ()
        return {
            one.name: getattr(self, one.name) for one in fields(self) if one.name not in left_out
        }


def _share(
    curve: Sequence[tuple[int, float, float]], max_env_steps: int, num_evaluations: int
) -> int:
    """Number of budget shares that the last evaluation stands for; 0 if there is none."""
    passed = [
        min(num_evaluations, num_evaluations * steps // max_env_steps) for steps, *_ in curve[-2:]
    ]
    return stage(passed[-1], before=sum(passed[:-1])) if passed else 0


def _mean_point(points: Sequence[tuple[int, float, float]]) -> tuple[int, float, float]:
    steps, without, score = zip(*points, strict=True)
    return steps[0], fmean(without), fmean(score)


def _mean_returns(rows: Sequence[Row]) -> dict[str, float]:
    return {
        episode: fmean(row.returns[episode] for row in rows)
        for episode in rows[0].returns
        if all(episode in row.returns for row in rows)
    }
