"""``ssmrl cluster``: the cluster subcommands, each imported when it is called."""

from ssmrl_command.lazy_group import Subcommand, lazy_app

SUBCOMMANDS = {
    "check": Subcommand(
        "cluster.check:app", "Check that launch files are safe before they cost anything."
    ),
    "submit": Subcommand("cluster.submit:app", "Run a command on a cluster, and follow it."),
    "stop": Subcommand("cluster.stop:app", "End one Ray instance on this host, and no other."),
}

app = lazy_app(SUBCOMMANDS, add_completion=False)


@app.callback()
def main() -> None:
    """Check launch files, submit a job, stop a Ray instance."""
