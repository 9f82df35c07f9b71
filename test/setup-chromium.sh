#!/usr/bin/env bash
# Installs Debian's Chromium, which the tests of the page drive.
set -euo pipefail

[ "$(id -u)" = 0 ] || { echo 'Installing Chromium takes root.' >&2; exit 1; }
command -v apt-get >/dev/null || { echo 'There is no apt-get on this machine.' >&2; exit 1; }

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends chromium
