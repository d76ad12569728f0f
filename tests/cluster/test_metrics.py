"""A sweep's numbers as Prometheus gets them: scraped by HTTP, and compared with the sweep's own."""

import json
import re
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from prometheus_client.parser import text_string_to_metric_families

from cluster import metrics
from cluster.metrics import EXPORTED, PARTS, PREFIX, RunMetrics, RunName
from ssmrl.config import TrainConfig
from ssmrl.train import train
from tests.cluster.private_ray import ROOT, Started, sweep_with_dashboard
from tests.ssmrl.unchecked_types import unchecked_types
from tuning.table.trial import Trial, TrialState, TrialTable

LAUNCH = ROOT / "cluster" / "launch"
NAME = "scraped"
SIZE = ["--method", "mlp", "--num-samples", "2", "--num-confirmed", "0"]
SIZE += ["--max-env-steps", "12000", "--max-concurrent", "1"]
WAY = ["--algorithm", "promp", "--scheduler", "none", "--searcher", "random"]

Labels = frozenset[tuple[str, str]]


@dataclass
class Scraped:
    """Everything that was seen at the metrics endpoint while a sweep ran.

    Attributes:
        values: By name without Ray's prefix and by our own labels, all values in their order.
        rows: Of the sweep's table.
    """

    values: dict[tuple[str, Labels], list[float]] = field(default_factory=dict)
    rows: tuple[Trial, ...] = ()

    def add(self, page: str) -> None:
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if sample.name.startswith(f"{PREFIX}ssmrl_"):
                    ours = ("sweep", "trial", "seed", "part", "state", "statistic")
                    labels = frozenset((k, v) for k, v in sample.labels.items() if k in ours)
                    key = (sample.name.removeprefix(PREFIX), labels)
                    self.values.setdefault(key, []).append(sample.value)

    def of(self, name: str, **labels: str) -> list[float]:
        return self.values[name, frozenset(labels.items())]


def targets(sweep: Started) -> list[str]:
    """Where Prometheus is sent by its configuration: what the discovery file names."""
    config = yaml.safe_load((LAUNCH / "prometheus.yaml").read_text())
    (job,) = config["scrape_configs"]
    (discovery,) = job["file_sd_configs"]
    (path,) = discovery["files"]
    file = sweep.ray_folder / Path(path).relative_to("/tmp/ray")
    return (
        [t for group in json.loads(file.read_text()) for t in group["targets"]]
        if (file.exists())
        else []
    )


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Scraped:
    """A whole sweep, scraped all the time; the gauges of a trial are there only while it runs."""
    folder = tmp_path_factory.mktemp("metrics")
    seen = Scraped()
    table = folder / NAME / "trials.jsonl"
    with sweep_with_dashboard(folder, NAME, *SIZE, *WAY) as sweep:
        while not table.exists() or table.read_text().count("\n") < 2:
            assert sweep.is_running(), sweep.said()
            for target in targets(sweep):
                try:
                    with urllib.request.urlopen(f"http://{target}/metrics", timeout=5) as page:
                        seen.add(page.read().decode())
                except OSError:
                    pass  # it is about to begin
            time.sleep(0.2)
    seen.rows = TrialTable(table).rows
    return seen


@pytest.mark.slow
def test_all_that_is_promised_is_exported_and_nothing_else(scraped: Scraped) -> None:
    assert {name for name, _ in scraped.values} == set(EXPORTED)


@pytest.mark.slow
def test_env_steps_are_those_of_the_rows(scraped: Scraped) -> None:
    """Of all trials but the last, whose end may come between two reports."""
    assert [row.trial_id for row in scraped.rows] == ["t0000", "t0001"]
    for row in scraped.rows[:-1]:
        counted = scraped.of("ssmrl_env_steps_total", sweep=NAME, trial=row.trial_id, seed="0")
        assert counted[-1] == row.env_steps
        assert counted == sorted(counted)


@pytest.mark.slow
def test_returns_are_those_that_the_same_training_gives_again(scraped: Scraped) -> None:
    """``ssmrl.train`` is the twin: each scraped pair belongs to one of its iterations."""
    row = scraped.rows[0]
    config = TrainConfig.of_knobs(row.config)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the trial; a busy machine is slow with more
    with unchecked_types():
        made = list(islice(train(config, num_threads=1), row.iterations))
    torch.set_num_threads(num_threads)
    labels = {"sweep": NAME, "trial": row.trial_id, "seed": "0"}
    for name in ("return_before", "return_after"):
        expected = [getattr(one, name) for one in made]
        for value in set(scraped.of(f"ssmrl_{name}_adaptation", **labels)):
            assert any(value == pytest.approx(number, rel=1e-6) for number in expected), value


@pytest.mark.slow
def test_the_parts_of_the_time_make_the_seconds_of_the_row(scraped: Scraped) -> None:
    for row in scraped.rows[:-1]:
        labels = {"sweep": NAME, "trial": row.trial_id, "seed": "0"}
        name = "ssmrl_iteration_seconds_total"
        seconds = {part: scraped.of(name, **labels, part=part)[-1] for part in PARTS}
        assert sum(seconds.values()) == pytest.approx(row.seconds, rel=1e-6)
        assert max(seconds["sampling"], seconds["updating"]) > seconds["other"] > 0.0
        assert min(scraped.of("ssmrl_env_steps_per_second", **labels)) > 0.0
        assert set(scraped.of("ssmrl_lost_runners", **labels)) == {0.0}


@pytest.mark.slow
def test_trials_are_counted_in_their_states(scraped: Scraped) -> None:
    states = ["RUNNING", *(state.value for state in TrialState)]
    counts = {state: scraped.of("ssmrl_trials", sweep=NAME, state=state) for state in states}
    assert len({len(values) for values in counts.values()}) == 1
    assert max(counts["RUNNING"]) == 1
    assert counts["COMPLETE"] == sorted(counts["COMPLETE"])
    assert {0.0, 1.0} <= set(counts["COMPLETE"])
    assert max(counts["FAILED"] + counts["DIVERGED"] + counts["PRUNED"]) == 0


class Recorded:
    """A metric that keeps what it is told."""

    told: dict[tuple[str, Labels], float]

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        assert description
        self._name, self._keys, self._default = name, tag_keys, {}

    def set_default_tags(self, tags: Mapping[str, str]) -> "Recorded":
        self._default = dict(tags)
        return self

    def set(self, value: float, tags: Mapping[str, str] | None = None) -> None:
        labels = {**self._default, **(tags or {})}
        assert labels.keys() == set(self._keys)
        self.told[self._name, frozenset(labels.items())] = value

    def inc(self, value: float, tags: Mapping[str, str] | None = None) -> None:
        assert value > 0  # Ray refuses 0
        labels = {**self._default, **(tags or {})}
        assert labels.keys() == set(self._keys)
        key = (self._name, frozenset(labels.items()))
        self.told[key] = self.told.get(key, 0) + value


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, Labels], float]:
    monkeypatch.setattr(Recorded, "told", {}, raising=False)
    monkeypatch.setattr(metrics, "Gauge", Recorded)
    monkeypatch.setattr(metrics, "Counter", Recorded)
    return Recorded.told


def results(env_steps: int, **statistics: float) -> dict[str, Any]:
    numbers = {"return_before": -3.0, "return_after": -1.5, "sample_seconds": 0.5}
    return {
        **numbers,
        "num_env_steps_sampled_lifetime": env_steps,
        "update_seconds": 0.25,
        "statistics": {"critic_loss": 2.5, "replay_env_steps": float(env_steps), **statistics},
    }


def test_what_an_iteration_reports_is_what_is_told(told: dict[tuple[str, Labels], float]) -> None:
    run = RunMetrics(RunName("a", "t0003", 7))
    labels = {"sweep": "a", "trial": "t0003", "seed": "7"}
    run.iteration(results(100), training_seconds=1.0)
    run.iteration(results(300, num_lost_parts_lifetime=2), training_seconds=1.0)
    run.iteration(results(300), training_seconds=1.0, evaluating_seconds=4.0)

    def of(name: str, **more: str) -> float:
        return told[name, frozenset({**labels, **more}.items())]

    assert of("ssmrl_env_steps") == 300
    assert of("ssmrl_env_steps_per_second") == 0.0
    assert of("ssmrl_return_before_adaptation") == -3.0
    assert of("ssmrl_return_after_adaptation") == -1.5
    assert of("ssmrl_lost_runners") == 0
    seconds = [of("ssmrl_iteration_seconds", part=part) for part in PARTS]
    assert seconds == [3 * 0.5, 3 * 0.25, 4.0, 3 * 0.25]
    run.iteration(results(400, num_lost_parts_lifetime=2), training_seconds=0.5)
    assert of("ssmrl_env_steps") == 400
    assert of("ssmrl_env_steps_per_second") == 200.0
    assert of("ssmrl_lost_runners") == 2
    assert of("ssmrl_iteration_seconds", part="other") == 0.75  # never less, whatever clocks say
    assert of("ssmrl_training_statistic", statistic="critic_loss") == 2.5
    assert of("ssmrl_training_statistic", statistic="replay_env_steps") == 400
    assert len(told) == 5 + len(PARTS) + 2


def expressions(panel: Mapping[str, Any]) -> list[str]:
    return [target["expr"] for target in panel["targets"]]


def test_grafana_asks_for_every_metric_and_for_no_other() -> None:
    """A panel of a metric that nobody exports stays empty without a word."""
    dashboard = json.loads((LAUNCH / "grafana-dashboard.json").read_text())
    assert dashboard["title"]
    panels = dashboard["panels"]
    assert Counter(panel["id"] for panel in panels).most_common(1)[0][1] == 1
    asked = {
        name.removeprefix(PREFIX)
        for panel in panels
        for expression in expressions(panel)
        for name in re.findall(rf"\b{PREFIX}\w+", expression)
    }
    assert asked == set(EXPORTED)
    for panel in panels:
        assert panel["title"]
        assert panel["type"] in ("timeseries", "stat")
        assert all("$sweep" in expression for expression in expressions(panel))
        by = {label for text in expressions(panel) for label in re.findall(r"by \(([^)]*)\)", text)}
        known = {"sweep", "trial", "seed", "part", "state", "statistic"}
        assert {label.strip() for labels in by for label in labels.split(",")} <= known
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert set(variables) == {"datasource", "sweep"}
    assert f"{PREFIX}{metrics.TRIALS}" in variables["sweep"]["query"]


def test_panels_of_grafana_do_not_lie_on_each_other() -> None:
    dashboard = json.loads((LAUNCH / "grafana-dashboard.json").read_text())
    taken: Counter[tuple[int, int]] = Counter()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        assert columns.stop <= 24
        rows = range(place["y"], place["y"] + place["h"])
        taken.update((x, y) for x in columns for y in rows)
    assert max(taken.values()) == 1
