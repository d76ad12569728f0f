#!/bin/sh
# The ssh access to this machine for cluster/launch/localhost.yaml, with a separate home folder.
#
#   prepare   makes keys, a token and the shell setup in runs/localhost; SSMRL_LOCALHOST names
#             another home, SSMRL_RAY_TMPDIR another folder for Ray's files
#   connect   serves one ssh connection on stdin and stdout; ssh itself calls it
set -eu
project=$(cd "$(dirname "$0")/../.." && pwd)
home=${SSMRL_LOCALHOST:-$project/runs/localhost}
sshd=$(PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v sshd || true)
if [ -z "$sshd" ]; then
  echo "localhost.sh needs the program sshd; install it, on Debian: apt-get install openssh-server" >&2
  exit 1
fi

prepare() {
  umask 077
  mkdir -p "$home/.ssh" "$home/.ray"
  home=$(cd "$home" && pwd)
  for name in id_ed25519 host_key; do
    [ -f "$home/.ssh/$name" ] || ssh-keygen -q -t ed25519 -N '' -C ssmrl-localhost -f "$home/.ssh/$name"
  done
  cp "$home/.ssh/id_ed25519.pub" "$home/.ssh/authorized_keys"
  if [ ! -s "$home/.ray/auth_token" ]; then
    od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > "$home/.ray/auth_token"
  fi
  cat > "$home/.ssh/sshd_config" <<END
HostKey "$home/.ssh/host_key"
AuthorizedKeysFile "$home/.ssh/authorized_keys"
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
SetEnv "HOME=$home"
END
  cat > "$home/.bashrc" <<END
SSMRL_PROJECT="$project"
export RAY_TMPDIR="${SSMRL_RAY_TMPDIR:-/tmp/ssmrl-$(id -un)}"
. "$project/cluster/launch/node.sh"
cd "$project"
END
  echo "Prepared $home. In localhost.yaml replace YOUR-USER by this user's name, $(id -un); then"
  echo "  ray up -y cluster/launch/localhost.yaml"
  echo "  RAY_AUTH_TOKEN_PATH=$home/.ray/auth_token python -m cluster.submit \\"
  echo "    --address http://127.0.0.1:8365 -- python -m tuning.sweep --address auto ..."
}

case "${1-}" in
prepare)
  prepare
  ;;
connect)
  # As root, sshd requires this folder; a running sshd would have made it.
  if [ "$(id -u)" = 0 ]; then mkdir -p /run/sshd; fi
  exec "$sshd" -i -f "$home/.ssh/sshd_config"
  ;;
*)
  sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
  exit 2
  ;;
esac
