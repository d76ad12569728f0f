"""Space files: what they say, and that whatever else they hold is refused in one sentence."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssmrl.config import TrainConfig
from ssmrl.format import FormatError
from tuning.spaces.space import Choice, Condition, Float, Int
from tuning.spaces.space_file import MAX_BYTES, SpaceFile, load_space_file

BASE = TrainConfig.for_task("ant-vel", "promp")
SPACES = Path(__file__).parents[2] / "docs" / "spaces"

GOOD = """format: 2
knobs:
  policy.method: {kind: choice, options: [ssm, mlp], limits: [ssm, mlp, gru]}
  policy.state_dim:
    {kind: int, low: 8, high: 128, step: 8, limits: [2, 510], when: {policy.method: [ssm]}}
  policy.hidden_dim: {kind: int, low: 16, high: 128}
  meta.inner_lr: {kind: float, low: 1e-2, high: 1, log: true, limits: [1e-4, 10]}
  meta.discount: {kind: choice, options: [0.9, 1, 99e-2]}
base:
  meta.outer_lr: 3e-3
  policy.hidden_dim: 20
"""


def load(folder: Path, text: str | bytes) -> SpaceFile:
    path = folder / "space.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_space_file(path, BASE)


def refusal(folder: Path, text: str | bytes) -> str:
    """The sentence, after all that every one of them must be."""
    with pytest.raises(ValueError, match=r"space\.yaml: ") as caught:
        load(folder, text)
    message = str(caught.value)
    assert type(caught.value) is ValueError
    assert "\n" not in message
    assert len(message) < 1200, message
    return message


def test_a_file_says_space_limits_and_base(tmp_path: Path) -> None:
    file = load(tmp_path, GOOD)
    assert dict(file.space.ranges) == {
        "policy.method": Choice(("ssm", "mlp")),
        "policy.state_dim": Int(8, 128, step=8),
        "policy.hidden_dim": Int(16, 128),
        "meta.inner_lr": Float(0.01, 1.0, log=True),
        "meta.discount": Choice((0.9, 1.0, 0.99)),
    }
    assert dict(file.limits.ranges) == {
        "policy.method": Choice(("ssm", "mlp", "gru")),
        "policy.state_dim": Int(2, 510, step=2),  # the coarsest grid with 2, 8, 16, ... and 510
        "policy.hidden_dim": Int(16, 128),
        "meta.inner_lr": Float(1e-4, 10.0, log=True),
        "meta.discount": Choice((0.9, 1.0, 0.99)),
    }
    condition = {"policy.state_dim": Condition("policy.method", ("ssm",))}
    assert file.space.conditions == file.limits.conditions == condition
    assert file.limits.covers(file.limits.replace_ranges({"policy.state_dim": Int(8, 128, step=8)}))
    assert file.space.base == file.limits.base
    assert file.space.base.meta.outer_lr == 3e-3
    assert file.space.default_point()["policy.hidden_dim"] == 20
    assert all(type(option) is float for option in file.space.ranges["meta.discount"].options)


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_files_that_are_shown_load(path: Path) -> None:
    base = TrainConfig.for_task(path.stem, "promp")
    file = load_space_file(path, base)
    point = file.space.default_point()
    assert file.space.configure(point) == file.space.base
    assert any(
        not file.space.covers(file.space.replace_ranges({knob: wide}))
        for knob, wide in file.limits.ranges.items()
    ), "nothing could ever expand"


def test_there_are_files_to_show() -> None:
    assert (SPACES / "ant-vel.yaml").exists()


LR = "meta.inner_lr"


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        (
            "meta.lr: {kind: float, low: 0.1, high: 1}",
            "unknown knob 'meta.lr' for algorithm 'promp'; the knobs are: env",
        ),
        ("meta.max_kl: {kind: float, low: 0.1, high: 1}", "'promp'; maml-trpo has it; the knobs"),
        (
            "env.horizon: {kind: int, low: 5, high: 500}",
            "`env.horizon` must not be searched: a",
        ),
        (f"{LR}: {{kind: real}}", f"`{LR}`: `kind` must be one of ['float', 'int', 'choice']"),
        (f"{LR}: {{low: 0.1, high: 1}}", f"`{LR}`: `kind` must be one of"),
        (f"{LR}: {{kind: [float], low: 0.1}}", "`kind` must be one of"),
        (f"{LR}: 0.1", "must be a mapping, name: value, but is 0.1"),
        (f"{LR}: {{kind: float, low: 0.1}}", f"`{LR}`: a range of kind float needs `high`"),
        (f"{LR}: {{kind: float, low: 0.1, high: 1, step: 2}}", "float has no 'step'; it may have"),
        (f"{LR}: {{kind: float, low: 1, high: 0.1}}", "`low < high` must hold"),
        (f"{LR}: {{kind: float, low: 0, high: 1, log: true}}", "use a linear scale"),
        (f"{LR}: {{kind: float, low: .nan, high: 1}}", f"`{LR}`: `low` must be a finite number"),
        (f"{LR}: {{kind: float, low: 0.1, high: .inf}}", "`high` must be a finite number"),
        (f"{LR}: {{kind: float, low: 0.1, high: 1e309}}", "`high` must be a finite number"),
        (f"{LR}: {{kind: float, low: 0.1, high: 1{'0' * 400}}}", "`high` must be a finite number"),
        (f"{LR}: {{kind: float, low: much, high: 1}}", "`low` must be a finite number"),
        (f"{LR}: {{kind: float, low: true, high: 2}}", "`low` must be a finite number"),
        (f"{LR}: {{kind: float, low: 2001-01-01, high: 2}}", "`low` must be a finite number"),
        (f"{LR}: {{kind: float, low: 0.1, high: 1, log: 1}}", "`log` must be true or false"),
        (f"{LR}: {{kind: float, low: 0.01, high: 1, limits: [0.1, 10]}}", "must contain its range"),
        (f"{LR}: {{kind: float, low: 0.01, high: 1, limits: 10}}", "`limits` must be [low, high]"),
        (f"{LR}: {{kind: float, low: 0.01, high: 1, limits: [0.01, 1, 2]}}", "[low, high]"),
        (f"{LR}: {{kind: float, low: 0.01, high: 1, limits: [0, 1]}}", "reaches 0.0"),
        (f"{LR}: {{kind: float, low: 0.2, high: 1}}", "Or set the value under `base`"),
        ("policy.state_dim: {kind: int, low: 8.5, high: 16}", "must be an integer, but got 8.5"),
        ("policy.state_dim: {kind: int, low: 8, high: 64, step: 9}", "use high=62"),
        ("policy.state_dim: {kind: int, low: 8, high: 64, step: 1}", "reaches 9"),
        (
            "policy.state_dim: {kind: int, low: 8, high: 64, step: 8, limits: [1, 64]}",
            "`policy.state_dim` must make a valid configuration, but Int(low=1, high=64, step=1",
        ),
        (f"{LR}: {{kind: int, low: 1, high: 64}}", "of type float, must be Float or Choice"),
        ("meta.first_order: {kind: choice, options: [true]}", "at least 2 different values"),
        ("meta.first_order: {kind: choice, options: true}", "`options` must be a list"),
        ("meta.first_order: {kind: choice, options: [true, null]}", "one is None"),
        ("meta.first_order: {kind: choice, options: [true, [1]]}", "one is [1]"),
        ("meta.first_order: {kind: choice, options: [true, 1]}", "reaches 1"),
        ("policy.method: {kind: choice, options: [ssm, no]}", "reaches False"),
        (
            "policy.method: {kind: choice, options: [ssm, gru], limits: [ssm, lstm]}",
            "the limits of `policy.method` must contain its range",
        ),
        (
            "policy.gated: {kind: choice, options: [false, true], when: {policy.kind: [ssm]}}",
            "`policy.gated`: unknown knob 'policy.kind' in `when`",
        ),
        (
            "policy.gated: {kind: choice, options: [false, true], when: {policy.method: ssm}}",
            "`when` of `policy.method` must be a list",
        ),
        (
            "policy.gated: {kind: choice, options: [false, true], when: {policy.method: [rnn]}}",
            "must depend on values that `policy.method` can have",
        ),
        (
            "policy.gated: {kind: choice, options: [false, true], when: [policy.method]}",
            "`when` must name 1 other knob",
        ),
        (
            "policy.gated: {kind: choice, options: [false, true], when: {meta.num_epochs: [9]}}\n"
            "  meta.num_epochs: {kind: int, low: 1, high: 5, limits: [1, 8]}",
            "[9] lie outside of its limits",
        ),
    ],
)
def test_a_wrong_knob_is_named_with_what_to_do(tmp_path: Path, knobs: str, words: str) -> None:
    message = refusal(tmp_path, f"format: 2\nknobs:\n  {knobs}\n")
    assert words in message
    assert knobs.partition(":")[0] in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file must be a mapping"),
        ("- 1", "the file must be a mapping"),
        ("format: 2\nknobs: {}", "must hold at least 1 range"),
        ("format: 2\nknobs: []", "`knobs` must be a mapping"),
        ("format: 2\nbase: {seed: 1}", "the file needs `knobs`"),
        (GOOD + "limits: {}", "the file has no 'limits'; it may have: format, knobs, base"),
        (GOOD + "  seed: 1\n  seed: 2\n", "'seed' was already given in line 12; drop one"),
        (GOOD + "knobs: {}", "'knobs' was already given in line 2"),
        (GOOD + "  sed: 1\n", "unknown knob 'sed'"),
        (GOOD + "  seed: much\n", "must be a finite number, but is 'much'"),
        (GOOD + "  seed: [1]\n", "`seed` must be of type int, but got [1]"),
        (GOOD + "  policy.method: rnn\n", "`policy.method` must be one of"),
        (GOOD + "  1: 2\n", "a key must be text, but is '1'; quote it"),
        (GOOD + "  <<: {seed: 1}\n", "a key must be text"),
        (GOOD + "  ? [a]\n  : 1\n", "a key must be text"),
        (GOOD + "---\nknobs: {}", "is not YAML in line 12"),
        ("knobs: {a: [", "is not YAML in line 1"),
        *(
            (f"format: 2\nknobs: {value}", "must not use tags, but line 2 does; write the value")
            for value in (
                *("!!python/object/apply:os.getcwd []", "!!float abc", "!!int ''", "!!bool maybe"),
                *("!!timestamp soon", "!!set {a}", "!!omap [a]", "!own {}", "! text", "!!null x"),
            )
        ),
        ("knobs: 2001-99-99", "holds an invalid value: month must be in 1..12; quote it"),
        ("knobs: \x00", "is not YAML"),
        (b"knobs: \xff", "must be text in UTF-8, but byte 7 is not"),
        ("#" * (MAX_BYTES + 1), f"must have at most {MAX_BYTES} bytes"),
        ("knobs: " + "[" * 20_000, "must be at most 8 levels deep, but line 1 is deeper"),
        ("a: &a [1, 2]\nb: *a\n", "must not use aliases, but line 2 does; write the value out"),
        (
            "a: &a [x]\n" + "".join(f"b{i}: &b{i} [{'*a,' * 9}]\n" for i in range(9)),
            "must not use aliases",
        ),
        ("a: &a [*a]", "must not use aliases"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_no_space_file_is_refused(tmp_path: Path, text: Any, words: str) -> None:
    assert words in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("first", "words"),
    [("", "has no format: version 0.1 of"), ("format: 3\n", "has format 3: another version")],
)
def test_a_file_of_another_format_is_refused(tmp_path: Path, first: str, words: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(GOOD.replace("format: 2\n", first))
    with pytest.raises(FormatError, match=f"^{path} {words}"):
        load_space_file(path, BASE)


def test_a_file_of_version_0_1_is_refused_in_a_line() -> None:
    path = Path(__file__).parents[1] / "fixtures" / "format1" / "space.yaml"
    with pytest.raises(FormatError, match=f"^{path} has no format: version 0.1 of the project"):
        load_space_file(path, BASE)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ValueError, match=f"{path}: cannot be read: .*give the path"):
            load_space_file(path, BASE)


def test_limits_that_do_not_fit_their_space_are_refused(tmp_path: Path) -> None:
    file = load(tmp_path, GOOD)
    with pytest.raises(ValueError, match=r"limits of `policy\.method` must contain its range"):
        SpaceFile(file.limits, file.space)
    free = type(file.limits)(file.limits.ranges, file.limits.base)
    with pytest.raises(ValueError, match="must have the conditions of their space"):
        SpaceFile(file.space, free)


_WORDS = ("knobs", "base", "kind", "float", "int", "choice", "low", "high", "log", "step", "when")
_SCALARS = (
    st.sampled_from([*_WORDS, "options", "limits", *BASE.knobs(), "ssm", "gru", "1e-3", ""])
    | st.integers(-3, 200)
    | st.floats()
    | st.booleans()
    | st.none()
)
_TREES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_SCALARS, inner, max_size=4),
    max_leaves=12,
)
_RANGES = st.dictionaries(st.sampled_from([*_WORDS[2:], "options", "limits"]), _TREES)
_FILES = st.fixed_dictionaries(
    {
        "format": st.just(2),
        "knobs": st.dictionaries(st.sampled_from([*BASE.knobs()]), _RANGES, min_size=1, max_size=3),
    }
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(_FILES.map(yaml.safe_dump) | _TREES.map(yaml.safe_dump) | st.text(max_size=60))
def test_whatever_a_file_holds_it_is_a_space_or_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    said = ""
    try:
        file = load_space_file(path, BASE)
    except ValueError as error:
        said = str(error)
    if said:
        assert said.startswith(str(path))
        assert "\n" not in said
    else:
        assert file.space.contains(file.space.default_point())
