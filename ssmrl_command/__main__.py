"""``python -m ssmrl_command``: the ``ssmrl`` command where it is not installed."""

from ssmrl_command.app import app

if __name__ == "__main__":
    app(prog_name="ssmrl")
