#!/usr/bin/env bash

#OAR -n scan
#OAR -l nodes=1,walltime=1:0:0
#OAR -t besteffort
#OAR -t idempotent
#OAR --checkpoint 60
#OAR --signal 12

# oarsub --array 10 -S ./oar.sh

set -eux

pip install minionize

# exec: so that OAR's signals reach minionize, and not the shell.
exec minionize --requeue echo "hello from $OAR_JOB_ID"
