"""The model of an iteration's time finds the constants that made the times."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments.benchmarks.scaling import app
from experiments.benchmarks.scaling_model import Layout, Measurement, ScalingModel

TRUE = ScalingModel(
    play_s=0.2,
    runner_s=0.01,
    copy_s=0.002,
    update_s=0.05,
    other_s=0.03,
    task_bytes=4e5,
    weight_bytes=2e5,
)


def made(num_runners: int, num_tasks: int) -> Measurement:
    layout = Layout(num_runners, num_tasks, num_cores=2)
    stages = TRUE.predict(layout)
    return Measurement(
        layout,
        stages.play + stages.transport,
        stages.update,
        stages.other,
        TRUE.task_bytes * num_tasks,
        TRUE.weight_bytes,
    )


def test_the_constants_are_found_again() -> None:
    fitted = ScalingModel.fit([made(1, 40), made(4, 40), made(1, 10), made(8, 80)])
    for name in ("play_s", "runner_s", "copy_s", "update_s", "other_s", "task_bytes"):
        assert getattr(fitted, name) == pytest.approx(getattr(TRUE, name)), name


def test_too_few_measurements_are_refused() -> None:
    with pytest.raises(ValueError, match="at least three measurements, but got 2"):
        ScalingModel.fit([made(1, 40), made(2, 40)])


def test_stages_by_hand() -> None:
    layout = Layout(16, 40, num_cores=16, num_learners=2, network_bytes_per_s=1e9)
    stages = TRUE.predict(layout)
    assert stages.play == pytest.approx(3 * 0.2)  # 40 tasks on 16: some have three
    network = (4e5 * 20 + 2e5 * 16) / 1e9
    assert stages.transport == pytest.approx(16 * 0.01 + 0.002 * 20 + network)
    assert stages.update == pytest.approx(0.05 * 20)
    assert stages.bottleneck == "update"
    assert TRUE.predict(replace(layout, num_cores=2)).play == pytest.approx(20 * 0.2)
    # Of more runners than tasks the others have nothing to do.
    assert TRUE.predict(replace(layout, num_runners=1000, num_cores=1000)).play == 0.2


def test_the_first_bottleneck_is_where_playing_falls_below_the_next_stage() -> None:
    layout = Layout(1, 40, num_cores=1)
    # The update takes 2 s; 5 runners play 8 tasks in 1.6 s, 4 play 10 in 2 s.
    assert TRUE.first_bottleneck(layout, 100) == (5, "update")
    assert TRUE.first_bottleneck(layout, 3) is None


@pytest.mark.parametrize("runners", ["a,2", "0,1", "", "1,,2", "-1"])
def test_numbers_of_runners_that_are_none_are_refused_before_anything_starts(runners: str) -> None:
    result = CliRunner().invoke(app, [f"--runners={runners}"])
    assert result.exit_code == 2
    assert "--runners" in result.output


@pytest.mark.slow
def test_the_command_measures_predicts_and_leaves_rows(tmp_path: Path) -> None:
    flags = ["--runners", "1,2", "--repeats", "1", "--num-tasks", "4", "--num-episodes", "1"]
    result = CliRunner().invoke(app, [*flags, "--output", str(tmp_path)])
    assert result.exit_code == 0, result.output
    lines = (tmp_path / "scaling.csv").read_text().splitlines()
    assert [line.split(",")[:3] for line in lines[1:]] == [
        ["strong", "1", "4"],
        ["strong", "2", "4"],
        ["weak", "1", "10"],
        ["weak", "2", "20"],
    ]
    assert (tmp_path / "scaling.png").exists()
    assert "the first bottleneck is" in result.output
