"""A session is private unless the user names a cluster."""

import stat
from pathlib import Path

import pytest
import ray

from cluster.session import protect_token, session


def test_private_session_ignores_a_cluster_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ray would join whatever RAY_ADDRESS or its own files point to."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with session(num_cpus=1) as num_cpus:
        assert ray.is_initialized()
        assert num_cpus == 1
    assert not ray.is_initialized()


def test_an_unreachable_cluster_is_an_error() -> None:
    with pytest.raises(ConnectionError, match="no Ray cluster at"), session("127.0.0.1:1"):
        pass


def test_token_is_readable_by_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("f" * 64)
    token.chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    protect_token()
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
