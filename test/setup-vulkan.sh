#!/usr/bin/env bash
# Installs Mesa's software Vulkan (lavapipe), which gives WebGPU an adapter on a machine without a GPU.
# Debian 12's own is too old for Dawn; there it comes from the backports of the mirror that apt already uses.
set -euo pipefail

[ "$(id -u)" = 0 ] || { echo 'Installing a Vulkan driver takes root.' >&2; exit 1; }
command -v apt-get >/dev/null || { echo 'There is no apt-get on this machine.' >&2; exit 1; }
. /etc/os-release

export DEBIAN_FRONTEND=noninteractive
suite=()
if [ "${VERSION_CODENAME:-}" = bookworm ]; then
  suite=(-t bookworm-backports)
  # Without -q, which would end apt-cache early and, by pipefail, look as if it had found nothing.
  if ! apt-cache policy 2>/dev/null | grep 'n=bookworm-backports' >/dev/null; then
    # One of these files or the other is there, by the age of the image.
    mirror=$({ cat /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null || true; } |
      sed -nE 's#^(deb( \[[^]]*\])?|URIs:) +(https?://[^ ]+/debian)/?( .*)?$#\3#p' | head -n 1)
    [ -n "$mirror" ] || { echo 'No Debian mirror in the sources of apt.' >&2; exit 1; }
    echo "deb $mirror bookworm-backports main" >/etc/apt/sources.list.d/bookworm-backports.list
  fi
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${suite[@]}" mesa-vulkan-drivers libvulkan1
