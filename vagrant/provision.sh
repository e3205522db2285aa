#!/bin/sh
# Run as root inside the machine, as often as one likes: Node.js, then what Nodelet's own setup finds missing.
set -eu
export DEBIAN_FRONTEND=noninteractive
NODE_MAJOR=22

# Debian 12 has Node.js 18, which is too old: the packages of NodeSource, whose key is kept for this source alone.
if ! command -v node >/dev/null || [ "$(node -p 'process.versions.node.split(".")[0]')" -lt 20 ]; then
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends ca-certificates curl gnupg
  install -d -m 0755 /etc/apt/keyrings
  curl -fsSL https://deb.nodesource.com/gpgkey/nodesource-repo.gpg.key |
    gpg --dearmor --yes -o /etc/apt/keyrings/nodesource.gpg
  echo "deb [signed-by=/etc/apt/keyrings/nodesource.gpg] https://deb.nodesource.com/node_$NODE_MAJOR.x nodistro main" \
    >/etc/apt/sources.list.d/nodesource.list
  apt-get update -qq
  apt-get install -y -qq nodejs
fi

cd /opt/nodelet
npm run setup
ln -sf /opt/nodelet/bin/nodelet.mjs /usr/local/bin/nodelet

# Packets between pods of this machine pass its rules; after a reboot too.
echo br_netfilter >/etc/modules-load.d/nodelet.conf
modprobe br_netfilter || echo 'br_netfilter cannot be loaded; nodelet doctor says what that means'

# Its findings are told; they do not undo what was set up.
nodelet doctor || true
