"""Every rule is broken by a part that was made for it, and says so by its name."""

import re

import pytest

from ssmrl.testing import AlgorithmContract, FamilyContract, SequenceModelContract
from ssmrl.testing.rules import in_words, judge, rule_names
from ssmrl_command.check_app import contract_of
from tests.contracts import broken_families, broken_parts
from tuning.testing import SearcherContract

FAMILIES, PARTS = "tests.contracts.broken_families", "tests.contracts.broken_parts"
EVERY = [(f"{FAMILIES}:{name}", *how) for name, how in broken_families.BROKEN.items()]
EVERY += [(f"{PARTS}:{name}", *how) for name, how in broken_parts.BROKEN.items()]

# Concrete in the interface: no model of one's own can break them. And two whose break costs a
# training each, with what the others of the kind show.
NOT_BROKEN = {
    "test_a_stepper_makes_the_same_steps_and_keeps_no_graph",
    "test_a_scan_may_be_cut_anywhere",
    "test_after_a_reset_nothing_is_left_of_what_came_before",
    "test_tasks_under_vmap_are_those_of_the_loop_in_any_order",
    "test_the_encoder_is_all_but_the_head",
    "test_reset_empties_exactly_the_sequences_that_start",
    "test_forward_steps_on_2d_and_scans_on_3d",
    "test_every_knob_goes_through_json",
    "test_an_iteration_learns",
    "test_the_policy_can_be_judged",
}


@pytest.mark.parametrize(("path", "rule", "said"), EVERY, ids=[each[0] for each in EVERY])
def test_a_broken_part_is_caught_by_the_rule_that_it_breaks(
    path: str, rule: str, said: str
) -> None:
    _, contract = contract_of(path)
    verdict = judge(contract, f"test_{rule}")
    assert verdict.rule == in_words(rule)
    assert re.search(said, verdict.broken), verdict.broken or "it holds"
    assert "\n" not in verdict.broken


@pytest.mark.parametrize("name", ["Counting", "Uniform"])
def test_what_the_broken_parts_were_made_of_keeps_the_rules(name: str) -> None:
    _, contract = contract_of(f"{PARTS}:{name}")
    broken_by_others = {f"test_{rule}" for rule, _ in broken_parts.BROKEN.values()}
    names = broken_by_others & set(rule_names(contract))
    assert not [one for one in names if judge(contract, one).broken]


def test_every_rule_is_broken_by_some_part() -> None:
    contracts = (FamilyContract, SequenceModelContract, AlgorithmContract, SearcherContract)
    rules = {name for contract in contracts for name in rule_names(contract)}
    assert {f"test_{rule}" for _, rule, _ in EVERY} | NOT_BROKEN == rules
    assert len(rules) == 42
