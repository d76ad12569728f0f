"""Return of stacked seeds of context-sac over wall time, evaluations included."""

import statistics

import torch

from experiments.benchmarks.gpu_check import context_config
from experiments.benchmarks.gpu_part import Job, Tell
from experiments.benchmarks.gpu_rows import Row
from ssmrl.config import KnobValue, TrainConfig
from ssmrl.context.stacked_learner import StackedLearner
from ssmrl.rollout.evaluate import judge
from ssmrl.rollout.play import LocalCollector, Mode

GOALS = {"ant-vel": {30.0: 25.0, 60.0: 60.0}, "halfcheetah-vel": {-30.0: 45.0}}
"""Goals by task: rising returns, each with the wall time since the process's start [s]."""

VARIANTS: dict[str, tuple[str, dict[str, KnobValue]]] = {
    "ant-vel": ("ant-vel", {}),
    "halfcheetah-vel": ("halfcheetah-vel", {}),
    "ant-vel-halves": ("ant-vel", {"meta.lane_groups": 2}),
    "ant-vel-tf32": ("ant-vel", {"meta.matmul": "tf32"}),
    "ant-vel-bfloat16": ("ant-vel", {"meta.matmul": "bfloat16"}),
}
"""Task and further knobs of each part."""

NUM_SEEDS = 3
FIRST_DRAW = 100  # first draw of held-out tasks; searches use 0, final comparisons of sweeps 1
EVERY = 1.25  # evaluate each time the wall time has grown by a quarter
NUM_TASKS = 100


def measure(job: Job, tell: Tell) -> None:
    """Train until all goals are reached, or as long as there is time.

    Args:
        job: Job, for its task, device and time.
        tell: Receives a row for each evaluation and each goal.
    """
    task, knobs = VARIANTS[job.part]
    if knobs.get("meta.matmul") == "tf32" and torch.device(job.device).type != "cuda":
        tell(Row(job.part, "return by memory", trouble="not on this device"))
        return
    goals, training = GOALS[task], _Training(job)
    reached: dict[float, float] = {}
    best, next_at, draw, longest = -float("inf"), job.elapsed, FIRST_DRAW, 0.0
    while len(reached) < len(goals) and job.left > longest and draw - FIRST_DRAW < _most(job):
        for row in training.iterate():
            tell(row)
        if not training.going:
            return
        if job.elapsed < next_at * EVERY and job.left > 2.0 * longest:
            continue
        before = job.elapsed
        returns = training.returns(draw)
        longest = max(longest, job.elapsed - before)
        next_at, draw = job.elapsed, draw + 1
        found = statistics.fmean(returns)
        best = max(best, found)
        seeds = ", ".join(f"{each:.1f}" for each in returns)
        note = f"mean of {seeds}; {training.env_steps:,} env steps each"
        tell(Row(job.part, f"return by memory after {next_at:.1f} s", found, "return", note=note))
        for goal in goals:
            if found >= goal:
                reached.setdefault(goal, next_at)
    for goal, seconds in goals.items():
        note = f"mean of {NUM_SEEDS} stacked seeds"
        if goal not in reached:
            note = f"best {best:.3g} in {job.elapsed:.0f} s; {note}"
        what = f"wall time from process start until {goal:+g}"
        wanted = seconds if job.has_goals else None
        tell(Row(job.part, what, reached.get(goal), "s", wanted, at_most=True, note=note))
    for name, captured in training.learners.stack.captured.items():
        if not captured.num_replays:
            what = f"the updates of {name} were not replayed"
            tell(Row(job.part, what, trouble="failed", note=f"{captured.num_calls} calls"))


class _Training:
    """Training of all seeds that have not diverged.

    Attributes:
        learners: Learners of all seeds.
        going: Places of the seeds that have not diverged.
        env_steps: Length of each seed's training so far [env steps].
    """

    def __init__(self, job: Job) -> None:
        num_tasks = 4 if job.quick else NUM_TASKS
        task, knobs = VARIANTS[job.part]
        judged = {"evaluation.num_tasks": num_tasks, "evaluation.num_episodes": 1}
        config = context_config(task, quick=job.quick, **knobs, **judged)
        self._part, self._configs = job.part, seeds_of(config, NUM_SEEDS)
        self._collect = LocalCollector(config)
        self.learners = StackedLearner(self._configs, torch.device(job.device))
        self.going, self.env_steps = list(range(NUM_SEEDS)), 0

    def iterate(self) -> list[Row]:
        """Run an iteration of all remaining seeds; return a row for each that diverges."""
        made, diverged = self.learners.iterate(self.going, self._collect)
        self.going = [place for place in self.going if place in made]
        self.env_steps = max((each.env_steps for each in made.values()), default=self.env_steps)
        return [
            Row(self._part, f"seed {place} diverged", trouble="failed", note=str(error))
            for place, error in diverged.items()
        ]

    def returns(self, draw: int) -> list[float]:
        """Mean return of each remaining seed by memory on a draw of held-out tasks."""
        evaluations = [
            judge(
                self._configs[place],
                self.learners.own[place].params(),
                self._collect,
                num_episodes=1,
                mode=Mode.USED,
                draw=draw,
            )
            for place in self.going
        ]
        return [each.mean_returns()[0] for each in evaluations]


def seeds_of(config: TrainConfig, num_seeds: int) -> list[TrainConfig]:
    """Copies of a configuration with the seeds from 0."""
    return [config.with_knobs({"seed": seed}) for seed in range(num_seeds)]


def _most(job: Job) -> int:
    """Largest number of evaluations; two when quick."""
    return 2 if job.quick else 1000
