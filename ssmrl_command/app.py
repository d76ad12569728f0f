"""The subcommands of ``ssmrl``; a package is imported only when a subcommand needs it."""

from ssmrl_command.lazy_group import Subcommand, find_own_modules, lazy_app

SUBCOMMANDS = {
    "train": Subcommand(
        "ssmrl_command.train_app:app",
        "Train a policy in this process, and save it in a folder with its learning curve.",
    ),
    "evaluate": Subcommand(
        "ssmrl.__main__:app",
        "Let a saved policy adapt to held-out tasks, and print the return of each episode.",
        within="evaluate",
    ),
    "adapt": Subcommand(
        "ssmrl_command.adapt_app:app",
        "Let a saved policy adapt to one task, and print the return of each episode.",
    ),
    "render": Subcommand(
        "ssmrl_command.render_app:app",
        "Film a saved policy on one task, before and after adaptation side by side.",
    ),
    "sweep": Subcommand(
        "tuning.sweep:app",
        "Tune a task's hyperparameters with Ray Tune and Optuna; leave a table and a verdict.",
        starts_slowly=True,
    ),
    "research": Subcommand(
        "agents.research:app",
        "Let agents read the table, move the search space and sweep again.",
        starts_slowly=True,
    ),
    "analyze": Subcommand(
        "tuning.analyze:app", "Print an analysis of the table of a sweep; change nothing."
    ),
    "report": Subcommand(
        "ssmrl_command.report_app:app",
        "Rewrite the report page and the table of a sweep; train nothing.",
    ),
    "doctor": Subcommand(
        "tuning.doctor:app", "Check all files of a sweep, and list what is damaged."
    ),
    "bench": Subcommand(
        "experiments.benchmarks.__main__:app", "Measure speed against other libraries and floors."
    ),
    "check": Subcommand(
        "ssmrl_command.check_app:app",
        "Check a family, sequence model, algorithm or searcher of your own against the rules.",
    ),
    "cluster": Subcommand(
        "ssmrl_command.cluster_app:app", "Check launch files, submit a job, stop a Ray instance."
    ),
    "list": Subcommand(
        "ssmrl_command.list_app:app", "List families, methods, algorithms, searchers or knobs."
    ),
}

app = lazy_app(SUBCOMMANDS, add_completion=True)


@app.callback()
def main() -> None:
    """Meta-reinforcement learning with state space policies on MuJoCo task families."""
    find_own_modules()
