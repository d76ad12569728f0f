"""What one seed of context-sac has learnt after so much wall time, evaluations counted in."""

import torch

from experiments.benchmarks.gpu_check import context_config
from experiments.benchmarks.gpu_part import Job, Tell
from experiments.benchmarks.gpu_rows import Row
from ssmrl.context.learner import ContextLearner
from ssmrl.meta.diverged import DivergedError
from ssmrl.rollout.play import Mode
from ssmrl.run import LocalEngine

GOALS = {"ant-vel": {30.0: 25.0, 60.0: 60.0}, "halfcheetah-vel": {-30.0: 45.0}}
"""Returns, and the wall time from the start of the process until each [s]; rising."""

FIRST_DRAW = 100  # of held-out tasks; searches use 0, final comparisons of sweeps 1
EVERY = 1.25  # an evaluation each time the wall time has grown by a quarter
NUM_TASKS = 100


def measure(job: Job, tell: Tell) -> None:
    """Train until the last goal, or as long as there is time.

    Args:
        job: Which task, where, and for how long.
        tell: Takes a row for each evaluation and each goal.
    """
    goals = GOALS[job.part]
    num_tasks = 4 if job.quick else NUM_TASKS
    knobs = {"evaluation.num_tasks": num_tasks, "evaluation.num_episodes": 1}
    config = context_config(job.part, quick=job.quick, **knobs)
    engine = LocalEngine(config, device=torch.device(job.device))
    learner = engine.learner
    assert isinstance(learner, ContextLearner)
    reached: dict[float, float] = {}
    best, next_at, draw, longest = -float("inf"), job.elapsed, FIRST_DRAW, 0.0
    while len(reached) < len(goals) and job.left > longest and draw - FIRST_DRAW < _most(job):
        try:
            metrics = engine.iterate()
            if job.elapsed < next_at * EVERY and job.left > 2.0 * longest:
                continue
            before = job.elapsed
            evaluation = engine.judge(num_episodes=1, mode=Mode.USED, draw=draw)
        except DivergedError as error:
            tell(Row(job.part, "diverged", trouble="failed", note=str(error)))
            return
        longest = max(longest, job.elapsed - before)
        next_at, draw = job.elapsed, draw + 1
        found = evaluation.mean_returns()[0]
        best = max(best, found)
        spread = float(evaluation.task_returns[0].std() / num_tasks**0.5)
        note = f"+- {spread:.2g}, {metrics.env_steps:,} env steps"
        what = f"return by memory after {next_at:.1f} s"
        tell(Row(job.part, what, found, "return", note=note))
        for goal in goals:
            if found >= goal:
                reached.setdefault(goal, next_at)
    for goal, seconds in goals.items():
        note = "one seed; the goal is that of three stacked ones"
        if goal not in reached:
            note = f"best {best:.3g} in {job.elapsed:.0f} s; {note}"
        what = f"wall time from process start until {goal:+g}"
        wanted = seconds if job.has_goals else None
        tell(Row(job.part, what, reached.get(goal), "s", wanted, at_most=True, note=note))
    for name, captured in learner.captured.items():
        if not captured.num_replays:
            what = f"the updates of {name} were not replayed"
            tell(Row(job.part, what, trouble="failed", note=f"{captured.num_calls} calls"))


def _most(job: Job) -> int:
    """Evaluations: two show that everything works."""
    return 2 if job.quick else 1000
