#!/bin/sh
# Installs what the tests' servers are made of, as far as it is missing: on Debian and its kin, as
# root. Elsewhere it says what is missing, and the tests that need it say so too.
set -u

# program or library, package
needed="
glusterfsd glusterfs-server
glusterfs glusterfs-client
libfaketimeMT.so.1 libfaketime
ip iproute2
nsenter util-linux
"

missing=$(printf '%s' "$needed" | while read -r program package; do
    [ -z "$program" ] || command -v "$program" >/dev/null || ls /usr/lib/*/faketime/"$program" \
        >/dev/null 2>&1 || printf '%s ' "$package"
done)
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing, and only root on Debian gets them here: $missing"
    exit 0
fi
echo "installing: $missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # several words
apt-get -qq install -y --no-install-recommends $missing >/dev/null 2>&1 ||
    { apt-get -qq update && apt-get -qq install -y --no-install-recommends $missing >/dev/null; } ||
    echo "could not install: $missing"
