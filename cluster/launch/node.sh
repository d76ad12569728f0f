# ~/.bashrc sources this on every node that a launch file sets up; do not run it by hand.
: "${SSMRL_PROJECT:=$HOME/ssmrl}"
export PATH="$SSMRL_PROJECT/.venv/bin:$PATH"
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH="$HOME/.ray/auth_token"
export RAY_USAGE_STATS_ENABLED=0

# The folder of Ray's files, if not /tmp/ray; other users of this host cannot read it.
if [ -n "${RAY_TMPDIR-}" ]; then
  mkdir -p -m 700 "$RAY_TMPDIR"
fi

# `ray down` runs `ray stop` on the head, which would end every Ray of this user on the host,
# including other work. This function ends this cluster only.
ray() {
  if [ "${1-}" = stop ]; then
    python -m cluster.stop
  else
    command ray "$@"
  fi
}
