"""Faults that are planted in the Containerfile are found where they stand."""

from pathlib import Path

import pytest

from cluster.check import LAUNCH, file_faults, pinned_ray

ROOT = Path(__file__).resolve().parents[2]
RAY_VERSION = pinned_ray((ROOT / "constraints.txt").read_text())
PLANTED_IN_CONTAINERFILE = [
    ("python:3.11.14-slim-bookworm\n# KubeRay", "python:3.11\n# KubeRay", "line ", "pinned"),
    ("USER 1000", "USER root", "line ", "must not be root"),
    ("USER 1000\n", "", "USER", "runs as root"),
    (" -c constraints.txt", "", "line ", "newest"),
    ("COPY ssmrl ssmrl", "COPY . .", "line ", "whole folder"),
    ("ENV PATH", "ENV RAY_AUTH_TOKEN=x PATH", "line ", "token"),
]


@pytest.mark.parametrize(("old", "new", "where", "message"), PLANTED_IN_CONTAINERFILE)
def test_a_fault_planted_in_the_containerfile_is_found(
    old: str, new: str, where: str, message: str
) -> None:
    path = LAUNCH / "Containerfile"
    text = path.read_text()
    assert text.count(old) == 1
    (fault,) = file_faults(path, text.replace(old, new), RAY_VERSION)[0]
    assert fault.where.startswith(where)
    if where == "line ":
        number = int(fault.where.removeprefix(where))
        assert number == text[: text.index(old)].count("\n") + 1
    assert message in fault.message


def test_one_stage_is_a_fault() -> None:
    path = LAUNCH / "Containerfile"
    last_stage = "FROM" + path.read_text().rpartition("FROM")[2]
    found = file_faults(path, last_stage + "RUN pip install -c constraints.txt .\n", RAY_VERSION)[0]
    assert [fault.where for fault in found] == ["FROM"]
