"""This project's rules for a ``ray up`` file, beyond Ray's own schema; no file is opened here."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cluster.launch.fault import Fault, leaves, mapping, sequence

TOKEN_PATH = "~/.ray/auth_token"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
HEAD_START, WORKER_START = "head_start_ray_commands", "worker_start_ray_commands"
SETUP = ("setup_commands", "head_setup_commands", "worker_setup_commands")

_WORLD = re.compile(r"(?<![\d.])0\.0\.0\.0/0|(?<![\w:])::/0")
_AUTH_MODE = re.compile(r"\bRAY_AUTH_MODE=[\"']?(\w+)")
_DASHBOARD = re.compile(r"--dashboard-host[= ][\"']?([^\s\"';]+)")
_RAY_PIN = re.compile(r"(?<![\w.-])ray(?:\[[\w,]+\])?==([\w.!+]+)")
_RAY_IMAGE = re.compile(r"rayproject/ray[\w-]*(?::([\w.-]+))?")
_INSTALLS_RAY = re.compile(r"pip3? install\b.*(?:\.\[|(?<![\w./-])ray(?![\w/-]))")
# EC2's g and p families, Google's a2, a3, a4 and g2, g4, Azure's N series.
_GPU_MACHINE = re.compile(r"[gp]\d+[a-z]*(-[a-z]+)?\.|[ag][2-4]-|Standard_N[CDGV]")
_SECRET = re.compile(r"\bRAY_AUTH_TOKEN=|(?<![0-9a-f])[0-9a-f]{32,}(?![0-9a-f])")


def launch_faults(config: Mapping[str, Any], ray_version: str) -> list[Fault]:
    """All faults of a launch file that satisfies Ray's schema.

    Args:
        config: Parsed file.
        ray_version: Ray version pinned in constraints.txt.
    """
    found = [fault for rule in _RULES for fault in rule(config)]
    return [*found, *_versions(config, ray_version)]


def commands(config: Mapping[str, Any], *keys: str) -> Iterator[tuple[str, str]]:
    """The commands under some keys, each with its key and index."""
    for key in keys:
        for index, command in enumerate(sequence(config.get(key))):
            yield f"{key}[{index}]", str(command)


def ray_starts(config: Mapping[str, Any], *keys: str) -> list[tuple[str, str]]:
    """The commands that start Ray."""
    return [(where, text) for where, text in commands(config, *keys) if "ray start" in text]


def _start_commands(config: Mapping[str, Any]) -> Iterator[Fault]:
    """Both keys must start Ray, since its default commands expose the dashboard to the world."""
    has_workers = config.get("max_workers") != 0
    for key in (HEAD_START, WORKER_START) if has_workers else (HEAD_START,):
        if not ray_starts(config, key):
            yield Fault(key, "a command must start Ray, or Ray's defaults without a token are used")


def _token_auth(config: Mapping[str, Any]) -> Iterator[Fault]:
    for where, text in ray_starts(config, HEAD_START, WORKER_START):
        modes = _AUTH_MODE.findall(text)
        if not modes or set(modes) != {"token"}:
            yield Fault(
                where,
                f"RAY_AUTH_MODE must be token, but is {modes[-1] if modes else 'not set'}; "
                "write `export RAY_AUTH_MODE=token;` before `ray start`",
            )
    if TOKEN_PATH not in mapping(config.get("file_mounts")):
        yield Fault(
            "file_mounts",
            f"every node needs the token, but {TOKEN_PATH} is not mounted; write "
            f'`"{TOKEN_PATH}": "{TOKEN_PATH}"`',
        )
    if not any(f"chmod 600 {TOKEN_PATH}" in text for _, text in commands(config, *SETUP)):
        yield Fault(
            "setup_commands",
            f"the token must be readable by its owner only; write `chmod 600 {TOKEN_PATH}`",
        )
    for where, leaf in leaves(config):
        if isinstance(leaf, str) and _SECRET.search(leaf):
            yield Fault(where, "a token must not be in the file; mount the token's file instead")


def _closed_dashboard(config: Mapping[str, Any]) -> Iterator[Fault]:
    for where, text in ray_starts(config, HEAD_START):
        hosts = _DASHBOARD.findall(text)
        if not hosts or hosts[-1] not in LOOPBACK:
            yield Fault(
                where,
                f"the dashboard runs any code it receives and must listen on loopback only, but "
                f"--dashboard-host is {hosts[-1] if hosts else 'not given'}; write "
                "--dashboard-host=127.0.0.1 and open it with `ray dashboard FILE`",
            )


def _closed_network(config: Mapping[str, Any]) -> Iterator[Fault]:
    for where, leaf in leaves(config):
        if isinstance(leaf, str) and _WORLD.search(leaf):
            yield Fault(
                where, f"{leaf} is the whole world; name the addresses that you connect from"
            )
    provider = mapping(config.get("provider"))
    check = {"aws": _closed_aws, "gcp": _closed_gcp, "azure": _closed_azure}.get(
        str(provider.get("type"))
    )
    if check is not None:
        yield from check(config)


def _closed_aws(config: Mapping[str, Any]) -> Iterator[Fault]:
    for where, node in _node_configs(config):
        if not sequence(node.get("SecurityGroupIds")):
            yield Fault(
                f"{where}.SecurityGroupIds",
                "without it Ray makes a group whose port 22 is open to 0.0.0.0/0; name a group of "
                "your own that admits ssh from your address and all traffic within the group",
            )


def _closed_gcp(config: Mapping[str, Any]) -> Iterator[Fault]:
    for where, node in _node_configs(config):
        networks = [
            str(mapping(interface).get("subnetwork", ""))
            for interface in sequence(node.get("networkInterfaces"))
        ]
        if not networks or any(name.rpartition("/")[2] in ("", "default") for name in networks):
            yield Fault(
                f"{where}.networkInterfaces",
                "if left out or `default`, the machines are in a network that admits ssh from "
                "0.0.0.0/0; name a subnetwork of your own whose firewall admits your address",
            )


def _closed_azure(config: Mapping[str, Any]) -> Iterator[Fault]:
    provider = mapping(config.get("provider"))
    if provider.get("use_internal_ips") is not True or provider.get("use_external_head_ip"):
        yield Fault(
            "provider.use_internal_ips",
            "must be true, with use_external_head_ip left out: Ray's security group admits ssh "
            "from everywhere, so no machine may have a public address; go through a jump host",
        )


def _head_stays(config: Mapping[str, Any]) -> Iterator[Fault]:
    head = str(config.get("head_node_type"))
    for where, node in _node_configs(config):
        spot = (
            mapping(node.get("InstanceMarketOptions")).get("MarketType") == "spot"
            or mapping(node.get("scheduling")).get("provisioningModel") == "SPOT"
            or bool(mapping(node.get("scheduling")).get("preemptible"))
            or mapping(node.get("azure_arm_parameters")).get("priority") == "Spot"
        )
        if spot and where == f"available_node_types.{head}.node_config":
            yield Fault(where, "the head must not be a spot machine: the whole sweep ends with it")


def _bounded(config: Mapping[str, Any]) -> Iterator[Fault]:
    """The settings that bound a cluster's cost must be set, not left to Ray's defaults."""
    for key in ("max_workers", "idle_timeout_minutes"):
        if key not in config:
            yield Fault(key, "must be set: it bounds what the cluster costs")
    head = config.get("head_node_type")
    for name, node in mapping(config.get("available_node_types")).items():
        if name != head and "max_workers" not in mapping(node):
            yield Fault(
                f"available_node_types.{name}.max_workers",
                "must be set: it bounds what the cluster costs",
            )
        if "CPU" not in mapping(mapping(node).get("resources")):
            yield Fault(
                f"available_node_types.{name}.resources",
                'must set the CPUs by which trials are placed; write `{ "CPU": 8 }`',
            )


def _gpus_are_told(config: Mapping[str, Any]) -> Iterator[Fault]:
    """The file must declare GPUs: Ray does not use an undeclared GPU, which still costs."""
    for name, node in mapping(config.get("available_node_types")).items():
        where, settings = f"available_node_types.{name}", mapping(mapping(node).get("node_config"))
        told = "GPU" in mapping(mapping(node).get("resources"))
        machine = _machine(settings)
        has_gpu = bool(_GPU_MACHINE.match(machine)) or bool(settings.get("guestAccelerators"))
        if has_gpu and not told:
            yield Fault(
                f"{where}.resources", f'{machine} has a GPU; write `{{ "CPU": 8, "GPU": 1 }}`'
            )
        if told and machine and not has_gpu:
            yield Fault(
                f"{where}.resources", f"declares a GPU, but {machine} is not known to have one"
            )


def _set_up(config: Mapping[str, Any]) -> Iterator[Fault]:
    """A node type's own ``worker_setup_commands`` replace the common ``setup_commands``."""
    for name, node in mapping(config.get("available_node_types")).items():
        if "worker_setup_commands" in mapping(node) and sequence(config.get("setup_commands")):
            yield Fault(
                f"available_node_types.{name}.worker_setup_commands",
                "replaces setup_commands, which install the project; write it under the file's own "
                "worker_setup_commands, with a condition",
            )


def _machine(settings: Mapping[str, Any]) -> str:
    """The machine type of a cloud's node; empty for machines of your own."""
    azure = mapping(settings.get("azure_arm_parameters"))
    named = (settings.get("InstanceType"), settings.get("machineType"), azure.get("vmSize"))
    return next((str(name) for name in named if name), "")


def _spares_others(config: Mapping[str, Any]) -> Iterator[Fault]:
    if mapping(config.get("provider")).get("type") != "local":
        return
    for where, text in commands(config, HEAD_START, WORKER_START):
        if re.search(r"\bray stop\b", text):
            yield Fault(
                where,
                "`ray stop` ends every Ray on the host, including other work; write "
                "`python -m cluster.stop`",
            )


def _starts_workers(config: Mapping[str, Any]) -> Iterator[Fault]:
    provider = mapping(config.get("provider"))
    if provider.get("type") != "local" or not sequence(provider.get("worker_ips")):
        return
    for where, text in ray_starts(config, HEAD_START):
        if "RAY_enable_autoscaler_v2=0" not in text:
            yield Fault(
                where,
                "Ray's default autoscaler, version 2, starts no worker on machines of your own; "
                "write `export RAY_enable_autoscaler_v2=0;` before `ray start`",
            )


def _light_mounts(config: Mapping[str, Any]) -> Iterator[Fault]:
    for remote, local in mapping(config.get("file_mounts")).items():
        if str(local).rstrip("/") in ("", ".", ".."):
            yield Fault(
                f"file_mounts.{remote}",
                f"Ray reads every file below {str(local)!r} at each start, even .venv, runs, .git "
                "and files that rsync excludes; mount the folders one by one",
            )


def _many_files(config: Mapping[str, Any]) -> Iterator[Fault]:
    for where, text in ray_starts(config, HEAD_START, WORKER_START):
        if "ulimit -n" not in text:
            yield Fault(
                where, "Ray runs out of open files by default; write `ulimit -n 65536;` first"
            )


def _versions(config: Mapping[str, Any], ray_version: str) -> Iterator[Fault]:
    for where, leaf in leaves(config):
        text = str(leaf)
        images = [tag or "none" for tag in _RAY_IMAGE.findall(text)]
        wrong = [version for version in _RAY_PIN.findall(text) if version != ray_version]
        wrong += [tag for tag in images if tag.partition("-")[0] != ray_version]
        for version in wrong:
            yield Fault(
                where, f"Ray must be {ray_version} as in constraints.txt, but is {version} here"
            )
    installs = [(w, text) for w, text in commands(config, *SETUP) if _INSTALLS_RAY.search(text)]
    for where, text in installs:
        if "-c constraints.txt" not in text and not _RAY_PIN.search(text):
            yield Fault(
                where,
                "installs the newest versions; write `pip install -c constraints.txt ...`",
            )
    mounted = mapping(config.get("file_mounts")).values()
    if "pyproject.toml" in [str(local).rpartition("/")[2] for local in mounted] and not installs:
        yield Fault(
            "setup_commands",
            "the project is mounted but not installed; write `cd ~/ssmrl && .venv/bin/pip install "
            "-c constraints.txt -e '.[tuning]'`",
        )


def _node_configs(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, node in mapping(config.get("available_node_types")).items():
        yield f"available_node_types.{name}.node_config", mapping(mapping(node).get("node_config"))


_RULES: tuple[Callable[[Mapping[str, Any]], Iterator[Fault]], ...] = (
    _start_commands,
    _token_auth,
    _closed_dashboard,
    _closed_network,
    _head_stays,
    _bounded,
    _gpus_are_told,
    _set_up,
    _spares_others,
    _starts_workers,
    _light_mounts,
    _many_files,
)
