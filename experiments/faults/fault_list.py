"""List of a sweep's faults: drawn from a seed, kept as JSON; nothing is injected here."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np

from ssmrl.files import replace_file
from ssmrl.strict_json import json_object, json_text

KILLED, SEGFAULT, EXIT = "killed from outside", "segmentation fault", "os._exit"
RAISES, SETUP, NO_MEMORY = "environment raises", "set-up raises", "allocation refused"
SLEEPS, SPINS = "sleeps", "spins"
OBSERVATION, REWARD, LOSS, GRADIENT = "observation", "reward", "loss", "gradient"
DAMAGES = ("truncated", "flipped", "deleted")
CHECKPOINT = "own checkpoint damaged, then killed"

FINE, FAILED, DIVERGED = "COMPLETE or PRUNED", "FAILED", "DIVERGED"
EXPECTED = {
    KILLED: (FINE, ""),
    SEGFAULT: (FAILED, "died"),
    EXIT: (FAILED, "died"),
    RAISES: (FAILED, "the environment broke"),
    SETUP: (FAILED, "there is no friction below 0"),
    NO_MEMORY: ("OOM", "out of memory"),
    SLEEPS: ("HUNG", "it sleeps"),
    SPINS: ("HUNG", "though it computes"),
    OBSERVATION: (DIVERGED, ""),
    REWARD: (DIVERGED, ""),
    LOSS: (DIVERGED, "not finite"),
    GRADIENT: (DIVERGED, "not finite"),
    CHECKPOINT: (FINE, ""),
}
"""Final state of a trial with this fault in every attempt, and words of its row's reason."""

STEPS_OF_ITERATION = 40
"""Length of two episodes of ``point``; the evaluation has at least as many [env steps]."""


@dataclass(frozen=True)
class TrialFault:
    """What goes wrong in one trial.

    Attributes:
        trial: Number of the trial.
        kind: One of ``EXPECTED``.
        detail: Non-finite number, place of the hang, or damage to the checkpoint.
        iteration: Iteration of the fault, from 0; a scheduler may stop the trial before it.
        step: Env step in the iteration, counted over the collection and then the evaluation; for a
            loss or a gradient, the epoch.
        is_once: Whether it happens in the first attempt only.
        delay_s: Delay of a kill from outside after the trial was seen alive [s].
    """

    trial: int
    kind: str
    detail: str = ""
    iteration: int = 0
    step: int = 0
    is_once: bool = False
    delay_s: float = 0.0

    @property
    def expected(self) -> tuple[str, str]:
        """Expected state, and words of the reason, if the fault happened."""
        return (FINE, "") if self.is_once else EXPECTED[self.kind]


@dataclass(frozen=True)
class Stop:
    """One end of the driver, the damage done then, and the clock of the next driver.

    Attributes:
        rows: Number of rows in the table at which it ends.
        delay_s: Delay after that [s].
        signal: Signal that ends it: KILL, TERM, INT or HUP.
        damages: ``torn``, ``zeroed``, or the damage to a finished trial's checkpoint.
        is_clock_back: Whether the next driver's clock is set back by an hour.
    """

    rows: int
    delay_s: float
    signal: str
    damages: tuple[str, ...] = ()
    is_clock_back: bool = False


@dataclass(frozen=True)
class FaultList:
    """All faults of a sweep.

    Attributes:
        seed: Random seed of the draw.
        num_trials: Trials of the sweep.
        trials: Faults within trials, by number.
        stops: Ends of the driver, in order.
    """

    seed: int
    num_trials: int
    trials: tuple[TrialFault, ...]
    stops: tuple[Stop, ...]

    def write(self, path: Path) -> None:
        """Write the list as JSON."""
        replace_file(path, json_text(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """The inverse of ``write``."""
        content = json_object(path.read_text(), str(path))
        trials = tuple(TrialFault(**each) for each in content.pop("trials"))
        stops = tuple(
            Stop(**each | {"damages": tuple(each["damages"])}) for each in content.pop("stops")
        )
        return cls(**content, trials=trials, stops=stops)


def drawn(seed: int, num_trials: int) -> FaultList:
    """Draw the faults of a night, each kind at least five times.

    Args:
        seed: Random seed of all draws.
        num_trials: Trials of the sweep; the first and the three that confirm the best get no fault.

    Raises:
        ValueError: If there are too few trials for all kinds.
    """
    rng = np.random.default_rng(seed)
    wanted = _wanted(rng)
    free = num_trials - 4
    if len(wanted) > free:
        raise ValueError(
            f"`num_trials` must be at least {len(wanted) + 4}, to hold each kind of fault five "
            f"times, but got {num_trials}; use more trials, or `--quick`"
        )
    numbers = 1 + rng.permutation(free)[: len(wanted)]
    trials = [
        TrialFault(**each, trial=int(number)) for each, number in zip(wanted, numbers, strict=True)
    ]
    signals = [name for name in ("KILL", "TERM", "INT", "HUP") for _ in range(5)]
    stops = _stops(rng, [str(name) for name in rng.permutation(signals)], num_trials, each=5)
    return FaultList(seed, num_trials, tuple(sorted(trials, key=_by_trial)), stops)


def drawn_few(seed: int, num_trials: int = 24) -> FaultList:
    """Draw a few faults of different kinds, for a check in three minutes.

    Args:
        seed: Random seed of all draws.
        num_trials: Trials of the sweep.
    """
    rng = np.random.default_rng(seed)
    wanted: list[dict[str, Any]] = [
        {"kind": KILLED, "delay_s": 0.2},
        {"kind": SEGFAULT, "is_once": True, "step": 7},
        {"kind": EXIT, "step": 3},
        {"kind": RAISES, "step": 30},
        {"kind": SETUP},
        {"kind": NO_MEMORY, "step": 5},
        {"kind": SLEEPS, "detail": "in C", "step": 9},
        {"kind": OBSERVATION, "detail": "nan", "step": 2},
        {"kind": GRADIENT, "detail": "inf"},
        {"kind": CHECKPOINT, "detail": "flipped", "iteration": 1, "step": 1},
    ]
    numbers = 1 + rng.permutation(num_trials - 4)[: len(wanted)]
    trials = [
        TrialFault(**each, trial=int(number)) for each, number in zip(wanted, numbers, strict=True)
    ]
    stops = _stops(rng, ["KILL", "TERM", "INT"], num_trials, each=1)
    return FaultList(seed, num_trials, tuple(sorted(trials, key=_by_trial)), stops)


def _wanted(rng: np.random.Generator) -> list[dict[str, Any]]:
    """All faults of a night, without the numbers of their trials.

    A fault in a second iteration may not happen, since the scheduler stops half of the trials after
    the first one. So more are listed than the five of each kind that are to happen.
    """
    wanted: list[dict[str, Any]] = [
        {"kind": KILLED, "delay_s": round(float(rng.uniform(0.0, 0.8)), 3)} for _ in range(6)
    ]
    for kind in (SEGFAULT, EXIT, RAISES, SETUP):  # every second of six happens in each attempt
        wanted += [_at(rng, kind, is_once=bool(count % 2)) for count in range(6)]
    wanted += [_at(rng, NO_MEMORY, later=count > 4) for count in range(6)]
    for kind, places in ((SLEEPS, ("in a step", "in a reset", "in C")), (SPINS, ("in a step",))):
        for count in range(6):
            place = places[count % len(places)]
            wanted.append(_at(rng, kind, detail=place, later=count > 4))
    for detail in ("nan", "inf"):
        for kind in (OBSERVATION, REWARD):
            wanted += [_at(rng, kind, detail=detail) for _ in range(5)]
        for kind in (LOSS, GRADIENT):
            wanted += [{"kind": kind, "detail": detail} for _ in range(5)]
    for detail in DAMAGES:
        wanted += [_at(rng, CHECKPOINT, detail=detail, later=True) for _ in range(8)]
    return wanted


def _at(
    rng: np.random.Generator,
    kind: str,
    *,
    detail: str = "",
    later: bool = False,
    is_once: bool = False,
) -> dict[str, Any]:
    """A fault at a random env step; the observation after an episode's last step is not used."""
    step = int(rng.integers(2 * STEPS_OF_ITERATION))
    step -= kind == OBSERVATION and (step + 1) % 20 == 0
    step = 20 * (step // 20) if detail == "in a reset" else step
    return {
        "kind": kind,
        "detail": detail,
        "iteration": int(later),
        "step": step,
        "is_once": is_once,
    }


def _stops(
    rng: np.random.Generator, signals: Sequence[str], num_trials: int, each: int
) -> tuple[Stop, ...]:
    """Ends of the driver, spread over the sweep, with damages spread over them."""
    edges = np.linspace(3, num_trials - 2, len(signals) + 1)
    rows = [int(rng.integers(low, high)) for low, high in pairwise(edges)]
    damages: list[list[str]] = [[] for _ in signals]
    for what in ("torn", "zeroed", *DAMAGES):
        for stop in rng.permutation(len(signals))[:each]:
            damages[stop].append(what)
    is_back = set(rng.permutation(len(signals))[:each].tolist())
    return tuple(
        Stop(
            rows[index],
            round(float(rng.uniform(0.0, 2.0)), 3),
            signals[index],
            tuple(damages[index]),
            index in is_back,
        )
        for index in range(len(signals))
    )


def _by_trial(fault: TrialFault) -> int:
    return fault.trial
