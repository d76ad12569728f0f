"""Every searcher of this project, held to the rules that other people's are."""

import pytest

from tuning.search.searchers import SEARCHERS
from tuning.testing import SearcherContract


class TestEverySearcher(SearcherContract):
    @pytest.fixture(autouse=True, params=SEARCHERS)
    def _searcher(self, request: pytest.FixtureRequest) -> None:
        self.searcher = request.param
