"""Every algorithm of this project, held to the rules that other people's are."""

import pytest

from ssmrl.meta.algorithms import ALGORITHMS
from ssmrl.testing import AlgorithmContract


class TestEveryAlgorithm(AlgorithmContract):
    @pytest.fixture(autouse=True, params=ALGORITHMS)
    def _algorithm(self, request: pytest.FixtureRequest) -> None:
        self.algorithm = request.param
