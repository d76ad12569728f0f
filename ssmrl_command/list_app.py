"""``ssmrl list``: prints the available choices, and the meaning of each knob."""

import inspect
import re
from enum import StrEnum
from typing import Annotated, Any

import typer

from ssmrl.command_line import command_app
from ssmrl.config import METHODS, TrainConfig
from ssmrl.envs.families import ALIASES, FAMILIES
from ssmrl.meta.algorithms import ALGORITHMS, DEFAULT_ALGORITHM
from ssmrl.shared_options import JsonOption
from ssmrl.strict_json import json_text
from tuning.search.searchers import SEARCHERS

app = command_app()

_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


class Kind(StrEnum):
    """The kinds of things that can be listed."""

    families = "families"
    methods = "methods"
    algorithms = "algorithms"
    searchers = "searchers"
    knobs = "knobs"


@app.command()
def list_command(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    task: Annotated[
        str, typer.Option(help="Task family for the default values of the knobs.")
    ] = "ant-vel",
    algorithm: Annotated[
        str, typer.Option(help="Algorithm whose knobs are listed.")
    ] = DEFAULT_ALGORITHM,
    as_json: JsonOption = False,
) -> None:
    """List families, methods, algorithms, searchers, or the knobs of an algorithm.

    Name a part of your own by its import path instead, package.module:NAME.

    Example: ssmrl list knobs --algorithm promp --task halfcheetah-vel
    """
    try:
        rows = listed(kind, task, algorithm)
    except (KeyError, ValueError) as error:
        typer.echo(f"error: {error.args[0]}", err=True)
        raise typer.Exit(2) from error
    if as_json:
        typer.echo(json_text(rows))
        return
    width = max(len(name) for name in rows)
    for name, words in rows.items():
        typer.echo(f"{name:<{width}}  {words}".rstrip())


def listed(kind: Kind, task: str, algorithm: str) -> dict[str, str]:
    """The entries of a kind: name -> one-line description.

    Raises:
        KeyError: If the task is unknown.
        ValueError: If the algorithm is unknown.
    """
    match kind:
        case Kind.families:
            return _families()
        case Kind.methods:
            return {name: _MODELS[name] for name in METHODS}
        case Kind.algorithms:
            return {
                name: f"adapts by {known.kind}; {_first_line(known.settings_type())}"
                for name, known in ALGORITHMS.items()
            }
        case Kind.searchers:
            return dict(SEARCHERS)
        case Kind.knobs:
            return _knobs(TrainConfig.for_task(task, algorithm))


_MODELS = {
    "ssm": "a diagonal state space model",
    "lstm": "long short-term memory",
    "gru": "gated recurrent units",
    "transformer": "causal attention over a window",
    "mlp": "a multilayer perceptron, which has no memory",
}


def _families() -> dict[str, str]:
    rows = {name: family.spec.hidden for name, family in FAMILIES.items()}
    return rows | {name: f"another name of {of}" for name, of in ALIASES.items()}


def _knobs(config: TrainConfig) -> dict[str, str]:
    """The default and meaning of each knob."""
    meanings = _meanings(config)
    return {
        knob: f"{value!r:<12}  {meanings.get(knob, '')}" for knob, value in config.knobs().items()
    }


def _meanings(config: TrainConfig) -> dict[str, str]:
    """The description of each knob, from the docstrings of the settings classes."""
    meanings = _attributes(type(config))
    for section in ("env", "policy", "meta", "evaluation"):
        for kind in reversed(type(getattr(config, section)).__mro__):
            own = _attributes(kind)
            meanings |= {f"{section}.{leaf}": words for leaf, words in own.items()}
    return meanings


def _attributes(kind: type[Any]) -> dict[str, str]:
    text = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")[2]
    found = {name: " ".join(words.split()) for name, words in _ATTRIBUTE.findall(text)}
    return {name: words.replace("``", "") for name, words in found.items()}


def _first_line(kind: type[Any]) -> str:
    return inspect.cleandoc(kind.__doc__ or "").partition("\n")[0].rstrip(".")
