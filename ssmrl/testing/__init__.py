"""Contracts for custom parts: the same tests that this project's own parts pass.

Under pytest, a class with one attribute inherits all tests of a contract::

    from ssmrl.testing import FamilyContract
    from my_package.my_family import FAMILY

    class TestMyFamily(FamilyContract):
        family = FAMILY

Without pytest, ``ssmrl check my_package.my_family:FAMILY`` does the same. Neither pytest nor
hypothesis is needed. The contract of searchers is in ``tuning.testing``.
"""

from ssmrl.testing.algorithm import AlgorithmContract
from ssmrl.testing.family import FamilyContract
from ssmrl.testing.sequence_model import SequenceModelContract

__all__ = ["AlgorithmContract", "FamilyContract", "SequenceModelContract"]
