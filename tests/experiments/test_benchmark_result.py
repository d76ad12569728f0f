"""Results of the serious benchmark as files and as numbers with intervals."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.benchmark_result import BenchmarkResult, ResultError, estimate
from ssmrl.student import student_interval
from tests.experiments.tiny_results import tiny_config, tiny_result


class TestResult:
    def test_a_result_comes_back_from_its_file(self, tmp_path: Path) -> None:
        result = dataclasses.replace(tiny_result(tiny_config("ssm", 3)), preset="matched")
        result.save(tmp_path / "result.json")
        assert BenchmarkResult.load(tmp_path / "result.json") == result
        content = json.loads(result.to_json())
        assert (content["method"], content["seed"], content["seconds"]) == ("ssm", 3, 1.0)
        assert content["env_steps"] == 960

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda content: content.pop("config"), "lacks 'config'"),
            (lambda content: content["config"].update({"policy.width": 3}), "policy.width"),
            (lambda content: content["curve"].clear(), "`curve` must have a row"),
            (lambda content: content["curve"][1].pop("return_after"), "row 2 .* return_after"),
            (lambda content: content["curve"][0].update(seconds=float("nan")), "is not finite"),
            (lambda content: content["test"].pop(), "`task_returns` must be of"),
            (lambda content: content["test"][2]["task_returns"].pop(), "there are 4"),
            (lambda content: content.update(test=None), "NoneType"),
        ],
    )
    def test_a_file_that_lacks_something_is_no_result(
        self, change: Callable[[dict[str, object]], None], reason: str, tmp_path: Path
    ) -> None:
        content = json.loads(tiny_result(tiny_config()).to_json())
        change(content)
        path = tmp_path / "result.json"
        path.write_text(json.dumps(content))
        with pytest.raises(ResultError, match=f"result.json is not a whole result.*{reason}"):
            BenchmarkResult.load(path)

    def test_the_middle_half_of_seeds_and_tasks_is_averaged(self) -> None:
        """Returns 0..4 of one seed and 100..104 of the other: 2, 3, 4, 100, 101, 102 are left."""
        seeds = [tiny_result(tiny_config(), offset=offset) for offset in (0.0, 100.0)]
        assert estimate(seeds, 0).middle == pytest.approx((2 + 3 + 4 + 100 + 101 + 102) / 6)
        assert estimate(seeds, 2, trim=0.0).middle == pytest.approx(72.0)

    def test_one_seed_has_the_interval_over_its_tasks(self) -> None:
        result = tiny_result(tiny_config())
        found = estimate([result], 1, trim=0.0)
        assert (found.low, found.high) == pytest.approx(student_interval(result.task_returns[1]))
