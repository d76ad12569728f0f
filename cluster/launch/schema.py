"""Ray's own checks of a ``ray up`` file, run without a network and without a provider."""

import copy
import io
import logging
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import jsonschema

from cluster.launch.fault import Fault
from ssmrl.strict_json import json_value


def schema_faults(config: Mapping[str, Any]) -> list[Fault]:
    """Violations of Ray's schema; if there are none, the faults that Ray's own check finds."""
    spec = find_spec("ray")
    assert spec is not None, "cluster needs ray"
    assert spec.origin is not None
    path = Path(spec.origin).parent / "autoscaler" / "ray-schema.json"
    validator = jsonschema.Draft7Validator(json_value(path.read_text(), str(path)))
    found = [
        Fault(error.json_path.removeprefix("$").removeprefix("."), error.message)
        for error in validator.iter_errors(config)
    ]
    return found or _refusals(config)


def _refusals(config: Mapping[str, Any]) -> list[Fault]:
    """The faults that Ray finds while filling in defaults, which `ray up` does first."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    logging.getLogger("ray.autoscaler").setLevel(logging.WARNING)  # hides its log of defaults
    heard = io.StringIO()  # hides what Ray prints, since it also raises it
    try:
        with redirect_stdout(heard), redirect_stderr(heard):
            validate_config(prepare_config(copy.deepcopy(dict(config))))
    except click.ClickException as error:
        return [Fault("provider", " ".join(error.message.split()))]
    except (ValueError, RuntimeError, KeyError, AssertionError, NotImplementedError) as error:
        return [Fault("provider", " ".join(str(error).split()))]
    return []
