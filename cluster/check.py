"""``python -m cluster.check``: check that launch files are safe before they cost anything."""

import re
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from cluster.launch.container_rules import containerfile_faults
from cluster.launch.fault import Fault, placeholders
from cluster.launch.manifest_rules import manifest_faults
from cluster.launch.rules import launch_faults
from cluster.launch.schema import schema_faults
from cluster.plain_yaml import check_events, loaded
from ssmrl.command_line import command_app, refuse

LAUNCH = Path(__file__).parent / "launch"
_STARTING = re.compile(r"^(cluster_name|apiVersion):", re.MULTILINE)
_MAX_DEPTH = 50

app = command_app()


@app.command()
def check(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Launch files, manifests, Containerfiles; by default the project's."),
    ] = None,
    constraints: Annotated[Path, typer.Option(help="File that pins Ray's version.")] = Path(
        "constraints.txt"
    ),
    ready: Annotated[
        bool, typer.Option("--ready", help="Count unfilled placeholders as faults, too.")
    ] = False,
) -> None:
    """Check launch files against Ray's own schema and this project's rules.

    Prints one line per fault, with the file, the key and what to write. Exits with 0 if there is no
    fault, with 1 if there is any, and with 2 if a file cannot be read.

    Example: ssmrl cluster check
    """
    paths = files or shipped_files()
    try:
        ray_version = pinned_ray(constraints.read_text())
        contents = {path: path.read_text() for path in paths}
    except (OSError, UnicodeDecodeError, ValueError) as error:
        refuse(f"{error}")
    num_faults = 0
    if version("ray") != ray_version:
        num_faults += 1
        typer.echo(
            f"{constraints}: ray=={ray_version} is pinned, but {version('ray')} is installed here, "
            "but `ray up` needs the cluster's Ray version; install with `-c constraints.txt`"
        )
    for path, text in contents.items():
        faults, notes = file_faults(path, text, ray_version)
        faults, notes = ([*faults, *notes], []) if ready else (faults, notes)
        num_faults += len(faults)
        for fault in faults:
            typer.echo(f"{path}: {fault}")
        for note in notes:
            typer.echo(f"{path}: to do before use: {note}")
        if not faults:
            typer.echo(f"{path}: no fault")
    raise typer.Exit(1 if num_faults else 0)


def shipped_files() -> list[Path]:
    """The launch files, manifests and the Containerfile that come with the project."""
    # The folder also holds monitoring configurations, which start no cluster.
    starting = [path for path in LAUNCH.rglob("*.yaml") if _STARTING.search(path.read_text())]
    return [*sorted(starting), LAUNCH / "Containerfile"]


def pinned_ray(text: str) -> str:
    r"""The Ray version pinned in the text of a constraints file.

    Example:
        >>> pinned_ray("raydar==1.0\nray==2.60.0\n")
        '2.60.0'
    """
    for line in text.splitlines():
        name, _, pin = line.partition("#")[0].partition("==")
        if name.strip() == "ray":
            return pin.strip()
    raise ValueError("the constraints must have a line ray==VERSION, but have none")


def file_faults(path: Path, text: str, ray_version: str) -> tuple[list[Fault], list[Fault]]:
    """The faults of a file, and the placeholders still to be filled in.

    Args:
        path: Path of the file; the name tells a Containerfile from YAML.
        text: Content of the file.
        ray_version: Ray version pinned in constraints.txt.
    """
    if path.name.startswith(("Containerfile", "Dockerfile")):
        return containerfile_faults(text), []
    try:
        documents = _documents(text)
    except ValueError as error:
        return [Fault("", str(error))], []
    todo = [note for document in documents for note in placeholders(document)]
    if any("apiVersion" in document for document in documents):
        return manifest_faults(documents, ray_version), todo
    if len(documents) > 1:
        return [Fault("", f"must hold one document, but holds {len(documents)}")], todo
    return schema_faults(documents[0]) or launch_faults(documents[0], ray_version), todo


def _documents(text: str) -> list[dict[Any, Any]]:
    """The YAML documents of a text; raises ValueError unless they are mappings of plain values."""
    try:
        check_events(text, max_depth=_MAX_DEPTH, aliases=True)
        parts = loaded(lambda text: list(yaml.safe_load_all(text)), text)
    except yaml.YAMLError as error:
        raise ValueError(f"is not YAML: {' '.join(str(error).split())}") from error
    documents = [part for part in parts if part is not None]
    if not documents or not all(isinstance(document, dict) for document in documents):
        raise ValueError("must hold YAML mappings")
    return documents


if __name__ == "__main__":
    app()
