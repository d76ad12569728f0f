"""What a person sees in Ray's dashboard while a sweep runs, read off its pages by a browser."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import Page, browser, find_browser
from tests.cluster.private_ray import Started, sweep_with_dashboard

BROWSER = find_browser()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome is installed"),
]
ENDLESS = ["--algorithm", "promp", "--max-env-steps", "100000000", "--num-samples", "3"]
ENDLESS += ["--num-env-runners", "1"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """A sweep in the middle of a trial that has one remote rollout actor."""
    folder = tmp_path_factory.mktemp("dashboard")
    with sweep_with_dashboard(folder, "seen", *ENDLESS, "--max-concurrent", "1") as sweep:
        yield sweep


async def log_in(page: Page, sweep: Started) -> None:
    """As a person does: the page asks for the token."""
    await page.open(f"http://{sweep.dashboard}/")
    question = "Authentication Token"
    assert question in await page.text_when(lambda text: question in text)
    await page.type_into("input[type=password]", sweep.token)
    await page.press("SUBMIT")
    assert question not in await page.text_when(lambda text: question not in text)


async def texts(sweep: Started) -> dict[str, str]:
    """The pages that matter, as a person reads them."""
    assert BROWSER is not None
    async with browser(BROWSER) as page:
        await log_in(page, sweep)
        await page.open(f"http://{sweep.dashboard}/#/actors")
        # The actor of the trial has its name only once its setup, which starts the runner, is done.
        actors = await page.text_when(lambda text: "runner 1" in text and "then others" in text)
        await page.open(f"http://{sweep.dashboard}/#/jobs")
        jobs = await page.text_when(lambda text: "tuning.sweep" in text)
    return {"actors": actors, "jobs": jobs}


@pytest.fixture(scope="module")
def pages(running: Started) -> dict[str, str]:
    found = asyncio.run(texts(running))
    assert running.is_running(), running.said()
    return found


def test_the_trial_and_its_rollout_actor_are_called_by_their_names(pages: dict[str, str]) -> None:
    assert re.search(r"\bMetaTraining\b", pages["actors"])
    assert "seen/t0000, then others" in pages["actors"]
    assert "seen/t0000 seed 0 runner 1" in pages["actors"]


def test_the_job_is_the_command_of_the_sweep(pages: dict[str, str]) -> None:
    (line,) = (line for line in pages["jobs"].splitlines() if "tuning.sweep" in line)
    assert "RUNNING" in pages["jobs"]
    assert re.search(r"--name seen\b", line)


def test_the_sweep_told_the_way_there(running: Started) -> None:
    said = running.said()
    _, port = running.dashboard.split(":")
    assert f"ssh -L {port}:127.0.0.1:{port} " in said
    token = re.search(r"the token, which is in (\S+)", said)
    assert token is not None
    assert Path(token[1]).read_text() == running.token
    assert running.token not in said
