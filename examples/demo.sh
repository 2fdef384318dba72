#!/bin/sh
# Eight guests on a simulated two-socket, eight-node host; then the host drawn, one decision
# explained and one refusal explained. Nothing outside of a temporary folder is touched.
set -eu
cd "$(dirname "$0")"
XDG_STATE_HOME=$(mktemp -d)
export XDG_STATE_HOME
trap 'rm -rf "$XDG_STATE_HOME"' EXIT
HOMENODE_URI="sim:demo?host=hosts/epyc-7763-2s-nps4.toml"
export HOMENODE_URI

say() { printf '\n$ %s\n' "$*"; "$@"; }

for guest in web1 web2 database cache analytics build legacy desktop; do
    say homenode create "guests/$guest.cfg"
    HOMENODE_URI=sim:demo
done
say homenode topology
say homenode list
say homenode explain guests/analytics.cfg
# The exit status of a refusal is 1: an answer, not an accident.
say homenode explain guests/monster.cfg || [ $? -eq 1 ]
