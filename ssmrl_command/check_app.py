"""``ssmrl check``: checks your own part against the rules that the built-in parts satisfy."""

from typing import Annotated, Any

import typer

from ssmrl.config import SequenceConfig
from ssmrl.envs.families import get_family
from ssmrl.envs.task import TaskFamily
from ssmrl.import_path import ImportPathError, imported, is_import_path
from ssmrl.meta.algorithms import Algorithm
from ssmrl.shared_options import JsonOption
from ssmrl.strict_json import json_text
from ssmrl.testing import AlgorithmContract, FamilyContract, SequenceModelContract
from ssmrl.testing.rules import Verdict, judged

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

_SMALL_DIM = 8


@app.command()
def check(
    path: Annotated[str, typer.Argument(help="What to check: package.module:NAME.")],
    as_json: JsonOption = False,
) -> None:
    """Check a family, sequence model, algorithm or searcher of your own against the rules.

    Prints for each rule whether it holds. The exit code is 0 if all hold, 1 if one is broken, and
    2 if there is nothing to check at the path.

    Example: ssmrl check examples.own_searcher:StepFromBest
    """
    try:
        kind, contract = contract_of(path)
        verdicts = []
        if not as_json:
            typer.echo(f"{path}, {kind}")
        for verdict in judged(contract):
            verdicts.append(verdict)
            if not as_json:
                typer.echo(_told(verdict, verdicts))
    except (ImportPathError, RuntimeError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    num_broken = sum(bool(verdict.broken) for verdict in verdicts)
    if as_json:
        rules = {verdict.rule: verdict.broken for verdict in verdicts}
        typer.echo(json_text({"path": path, "kind": kind, "broken": num_broken, "rules": rules}))
    else:
        typer.echo(f"{len(verdicts)} rules, {num_broken or 'none'} broken")
    raise typer.Exit(1 if num_broken else 0)


def contract_of(path: str) -> tuple[str, type[Any]]:
    """The kind of part at an import path, in words, and the contract with its rules.

    Raises:
        ImportPathError: If there is nothing at the path, or no part of a kind that has rules.
    """
    if not is_import_path(path):
        raise ImportPathError(f"an import path must be `package.module:NAME`, but got {path!r}")
    part = imported(path)
    if isinstance(part, TaskFamily):
        return "a task family", _named(FamilyContract, family=get_family(path))
    if isinstance(part, Algorithm):
        return "an algorithm", _named(AlgorithmContract, algorithm=path)
    if isinstance(part, type) and hasattr(part, "init_hidden") and hasattr(part, "step"):
        config = SequenceConfig(path, state_dim=_SMALL_DIM, hidden_dim=_SMALL_DIM)
        return "a sequence model", _named(SequenceModelContract, config=config)
    if hasattr(part, "sample_relative") or (hasattr(part, "ask") and hasattr(part, "tell")):
        # Imported late: it imports Ray and Optuna, which nothing else here needs.
        from tuning.testing import SearcherContract

        return "a searcher", _named(SearcherContract, searcher=path)
    raise ImportPathError(
        f"{path!r} must be a TaskFamily, a class with `init_hidden` and `step`, an Algorithm, or a "
        f"class with `ask` and `tell`, but is {part!r}"
    )


def _named(contract: type[Any], **attributes: Any) -> type[Any]:
    return type(contract.__name__, (contract,), attributes)


def _told(verdict: Verdict, verdicts: list[Verdict]) -> str:
    """A line about a rule; if an earlier rule broke for the same reason, it names that rule."""
    if not verdict.broken:
        return f"  ok      {verdict.rule}"
    first = next(each for each in verdicts if each.broken == verdict.broken)
    why = verdict.broken if first is verdict else f'for the same reason as "{first.rule}"'
    return f"  BROKEN  {verdict.rule}: {why}"
