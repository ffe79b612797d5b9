#!/bin/sh
# libfaketime 0.9.10 (Debian 12, libfaketime 0.9.10-2.1) and Python 3.11 or later.
#
# Expected: DONT_FAKE_MONOTONIC=1 leaves the monotonic clock alone, so what waits by it works as
# without the library. The option exists for programs that wait by the monotonic clock.
#
# Seen: with it, time.sleep() fails at once with EINVAL, whatever the offset. Python sleeps since
# 3.11 by clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME). Without the option the same sleep is right.
#
#   faked monotonic clock: slept
#   DONT_FAKE_MONOTONIC=1: OSError 22
#
# What to do: leave the option out where a Python 3.11 program sleeps, and set only the wall clock of
# what is under test.
#
# Needs Debian 12's package archive (apt-get) and python3 >= 3.11. Fails if the behaviour changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "needs Python 3.11" >&2; exit 2; }
(
    cd "$folder"
    apt-get -qq download libfaketime=0.9.10-2.1 2>/dev/null ||
        { apt-get -qq update && apt-get -qq download libfaketime=0.9.10-2.1; }
    dpkg-deb -x libfaketime_*.deb .
)
library=$(find "$folder" -name libfaketime.so.1)
sleeps='
import time
try:
    time.sleep(0.05)
    print("slept")
except OSError as error:
    print("OSError", error.errno)
'
faked=$(LD_PRELOAD=$library FAKETIME=+1h "$python" -c "$sleeps")
left_alone=$(LD_PRELOAD=$library FAKETIME=+1h DONT_FAKE_MONOTONIC=1 "$python" -c "$sleeps")
echo "faked monotonic clock: $faked"
echo "DONT_FAKE_MONOTONIC=1: $left_alone"
[ "$faked" = slept ] && [ "$left_alone" = "OSError 22" ]
