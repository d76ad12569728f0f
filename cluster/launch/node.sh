# Sourced by ~/.bashrc on every node that a launch file sets up; not to be run by hand.
: "${SSMRL_PROJECT:=$HOME/ssmrl}"
export PATH="$SSMRL_PROJECT/.venv/bin:$PATH"
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH="$HOME/.ray/auth_token"
export RAY_USAGE_STATS_ENABLED=0

# Where Ray keeps its files, if not in /tmp/ray; others on this host have no business there.
if [ -n "${RAY_TMPDIR-}" ]; then
  mkdir -p -m 700 "$RAY_TMPDIR"
fi

# `ray down` says `ray stop` to the head, which ends every Ray on the host that this user may end,
# other work included. Here it ends this cluster alone.
ray() {
  if [ "${1-}" = stop ]; then
    python -m cluster.stop
  else
    command ray "$@"
  fi
}
