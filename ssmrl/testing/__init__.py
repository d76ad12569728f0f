"""The rules that parts of one's own are held to, by the very tests that ours pass.

Under pytest a class with one attribute has them all::

    from ssmrl.testing import FamilyContract
    from my_package.my_family import FAMILY

    class TestMyFamily(FamilyContract):
        family = FAMILY

Without it, ``ssmrl check my_package.my_family:FAMILY`` does the same. Neither pytest nor
hypothesis is needed. Searchers have theirs in ``tuning.testing``.
"""

from ssmrl.testing.algorithm import AlgorithmContract
from ssmrl.testing.family import FamilyContract
from ssmrl.testing.sequence_model import SequenceModelContract

__all__ = ["AlgorithmContract", "FamilyContract", "SequenceModelContract"]
