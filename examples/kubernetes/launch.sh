#!/bin/sh
# 50 minions; pods know Redis by its service, whatever MINION_QUEUE says here.
set -eu

exec minion launch kubernetes -n 50 --name ising --cpus 1 --memory 500M \
    -O image=registry.example/ising:1 \
    --minion-queue 'redis://redis:6379/0?stream=ising' \
    --secret-env REDIS_PASSWORD=redis:password \
    "$@" -- ./ising --temperature '{temperature}' --seed '{seed}'
