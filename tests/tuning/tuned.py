"""A round of trials as Tune sees it, with a clock that tests move."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

from tuning.row_keeper import RowKeeper
from tuning.table.trial import Trial, TrialTable
from tuning.watch import Watch

RESULT: dict[str, Any] = {
    "score": -3.0,
    "curve": ((100, -5.0, -3.0),),
    "all_env_steps": 300,
    "iterations": 2,
    "seconds": 1.5,
    "returns": {"0": -5.0, "1": -3.0},
    "peak_bytes": 7_000,
}


class Tuned:
    """A round as Tune sees it: the keeper, the table behind it and what the user is told."""

    def __init__(self, folder: Path, *, retries: int = 2, time_budget_s: float = 60.0) -> None:
        self.now = 0.0
        self.folder, self.progress, self.numbers = folder, Mock(), dict[str, int]()
        self.searcher = Mock(number=self.numbers.__getitem__)
        self.table = TrialTable(folder / "trials.jsonl")
        self.keeper = RowKeeper(
            0,
            self.table,
            self.searcher,
            self.progress,
            Mock(),
            time_budget_s=time_budget_s,
            num_rounds=1,
            retries=retries,
            pulses=folder / "pulses",
            watch=Watch(clock=lambda: self.now),
            num_spared=Counter(),
        )
        (folder / "pulses").mkdir()

    def trial(self, name: str, **settings: Any) -> Any:
        self.numbers[name] = len(self.numbers)
        usual = {
            "trial_id": name,
            "status": "PENDING",
            "config": {"meta.inner_lr": 0.1},
            "last_result": None,
            "error_file": None,
            "max_failures": 2,
            "run_metadata": SimpleNamespace(num_failures=0),
            "temporary_state": SimpleNamespace(ray_actor=Mock()),
        }
        return SimpleNamespace(**(usual | settings))

    def begun(self, name: str, **settings: Any) -> Any:
        trial = self.trial(name, **settings)
        self.keeper.on_trial_start(1, [], trial)
        trial.status = "RUNNING"
        return trial

    def reports(self, trial: Any, env_steps: int) -> None:
        trial.last_result = RESULT | {"all_env_steps": env_steps}
        self.keeper.on_trial_result(1, [], trial, trial.last_result)

    def look(self, *trials: Any, seconds: float, beats: int | None = None) -> None:
        """Let time pass, and Tune look around."""
        self.now += seconds
        if beats is not None:
            for trial in trials:
                path = self.folder / "pulses" / f"t{self.numbers[trial.trial_id]:04d}"
                path.write_text(f"{beats} 1 elsewhere\n")
        self.keeper._looked = -1e9
        self.keeper.on_step_end(1, list(trials))

    @property
    def row(self) -> Trial:
        (row,) = self.table.rows
        return row


def written(folder: Path, text: str) -> str:
    path = folder / "error.txt"
    path.write_text(text)
    return str(path)
