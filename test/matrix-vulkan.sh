#!/usr/bin/env bash
# Runs a command of this project where software Vulkan has subgroup matrices, so that the kernels that use them can be
# verified without a GPU: a Debian 13 root with the lavapipe of its backports (Mesa 26), made once and kept.
# Usage, as root, from the project's folder: test/matrix-vulkan.sh COMMAND [ARGUMENT ...]
#   MATRIX_VULKAN_ROOT    where the root is kept; remove that folder to have it made anew
#   MATRIX_VULKAN_MIRROR  a mirror of Debian, where apt's own sources have none
set -euo pipefail

root=${MATRIX_VULKAN_ROOT:-${XDG_CACHE_HOME:-$HOME/.cache}/llama-guard-webgpu/matrix-vulkan}
[ $# -gt 0 ] || { sed -n '2,6s/^# //p' "$0"; exit 2; }

fail() {
  cat >&2 <<TEXT
$1
Without a GPU, subgroup matrices take Mesa 26's lavapipe in a root of Debian 13. Making it and running in it needs:
  - Debian or Ubuntu, as root, with the right to mount (in a container: the capability SYS_ADMIN)
  - a mirror of Debian among apt's sources, or named by MATRIX_VULKAN_MIRROR
  - the package debootstrap, which is installed where it is missing
  - 1 GB at $root, or where MATRIX_VULKAN_ROOT says
TEXT
  exit 1
}

# The mirror of Debian that apt uses on this machine, in either format of its sources.
debian_mirror() {
  { cat /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null || true; } |
    sed -nE 's#^(deb( \[[^]]*\])?|URIs:) +(https?://[^ ]+/debian)/?( .*)?$#\3#p' | head -n 1
}

make_root() {
  set -e
  export DEBIAN_FRONTEND=noninteractive
  command -v debootstrap || { apt-get update && apt-get install -y --no-install-recommends debootstrap; }
  # What Debian's packages are signed with; Ubuntu does not have it by default.
  [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || apt-get install -y debian-archive-keyring
  debootstrap --variant=minbase --include=ca-certificates trixie "$root" "$1"
  echo "deb $1 trixie-backports main" >"$root/etc/apt/sources.list.d/backports.list"
  # How this machine reaches the mirror.
  cp -L /etc/resolv.conf "$root/etc/resolv.conf" || true
  cp -L /etc/apt/apt.conf.d/*proxy* "$root/etc/apt/apt.conf.d/" || true
  chroot "$root" apt-get update
  chroot "$root" apt-get install -y --no-install-recommends -t trixie-backports mesa-vulkan-drivers libvulkan1 libstdc++6
  chroot "$root" apt-get clean
  touch "$root/.ready"
}

[ "$(id -u)" = 0 ] || fail 'This takes root.'
command -v apt-get >/dev/null || fail 'There is no apt-get on this machine.'
unshare --mount true 2>/dev/null || fail 'This process may not mount.'

if [ ! -e "$root/.ready" ]; then
  mirror=${MATRIX_VULKAN_MIRROR:-$(debian_mirror)}
  [ -n "$mirror" ] || fail 'There is no mirror of Debian among the sources of apt.'
  echo "Making a root of Debian 13 in $root: a minute or two, once." >&2
  rm -rf "$root"
  mkdir -p "$root"
  # In a shell of its own, since "set -e" does not reach into a function whose status is looked at.
  if ! (export -f make_root; export root; bash -c 'make_root "$1"' - "$mirror") >"$root.log" 2>&1; then
    tail -n 5 "$root.log" >&2
    fail "Making the root failed; all of it is in $root.log."
  fi
fi

mkdir -p "$root/opt/node"
cp -u "$(readlink -f "$(command -v node)")" "$root/opt/node/node"
chroot "$root" /opt/node/node --version >/dev/null 2>&1 ||
  fail "$(command -v node) does not start in the root: take Node.js as nodejs.org builds it, not a distribution's, which is spread over libraries."

# In a mount namespace of its own nothing stays mounted. The project, and its packages where they are a link out of it.
exec unshare --mount --propagation private bash -c '
  set -e
  root=$1 project=$2 modules=$3
  shift 3
  mount -t proc proc "$root/proc"
  for path in /dev "$project" "$modules"; do
    mkdir -p "$root$path"
    mount --rbind "$path" "$root$path"
  done
  exec chroot "$root" /usr/bin/env -i HOME=/root TERM="${TERM:-dumb}" XDG_RUNTIME_DIR=/tmp PATH=/opt/node:/usr/bin:/bin \
    VK_DRIVER_FILES=/usr/share/vulkan/icd.d/lvp_icd.json bash -c "cd \"\$1\" && shift && exec \"\$@\"" - "$project" "$@"
' - "$root" "$PWD" "$(readlink -f node_modules)" "$@"
