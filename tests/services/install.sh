#!/bin/sh
# Installs what the tests' servers are made of, as far as it is missing: on Debian and its kin, as
# root. Elsewhere it says what is missing, and the tests that need it say so too.
set -u

# Takes minutes, once: the control plane of Kubernetes and Docker Compose, from their Go modules.
# Only root runs pods and Docker's daemon.
if [ "$(id -u)" -eq 0 ] && command -v go >/dev/null; then
    (cd "$(dirname "$0")/.." && python -m services.kubernetes.build && python -m services.compose.build)
fi

# program, library or file, package
needed="
redis-server redis-server
glusterfsd glusterfs-server
glusterfs glusterfs-client
libfaketimeMT.so.1 libfaketime
ip iproute2
nsenter util-linux
Almighty oar-server
oarnodesetting oar-node
oarsub oar-user
/usr/share/doc/oar-server-pgsql oar-server-pgsql
/usr/share/doc/oar-user-pgsql oar-user-pgsql
slurmctld slurmctld
slurmd slurmd
sbatch slurm-client
munged munge
slurmdbd slurmdbd
mariadbd mariadb-server-core
podman podman
runc runc
debootstrap debootstrap
catatonit catatonit
newuidmap uidmap
dockerd docker.io
iptables iptables
javac default-jdk-headless
mvn maven
"

missing=$(printf '%s' "$needed" | while read -r program package; do
    [ -z "$program" ] || [ -e "$program" ] || command -v "$program" >/dev/null || ls /usr/lib/*/faketime/"$program" \
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
