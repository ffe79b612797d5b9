"""The one table of settings: options, variables, defaults and help all come from it."""

from __future__ import annotations

from typing import NamedTuple

from minionize.settings import parsing
from minionize.settings.parsing import Parse
from minionize.values import RUN_VARIABLES


class Option(NamedTuple):
    """One setting, and every way to say it."""

    field: str
    """Its name in Settings, and in Python."""
    flag: str
    """On the command line. For yes/no settings both `--NAME` and `--no-NAME` are understood."""
    variable: str
    """In the environment and in `.env`."""
    parse: Parse
    help: str
    section: str
    metavar: str = ""
    """Empty: a yes/no setting."""
    short: str = ""
    default: str = ""
    """For `--help`, where it is worth a word."""

    @property
    def key(self) -> str:
        """In `.minionize.yml`: the flag without dashes before it."""
        return self.flag.removeprefix("--no-").removeprefix("--")


PARAMS = "Params"
RUNS = "Runs"
FAILURES = "Failures"
END = "End"
REPORTS = "Reports"
ADVANCED = "Advanced"
SECTIONS = (PARAMS, RUNS, FAILURES, END, REPORTS, ADVANCED)

_seconds = parsing.seconds_above_0

OPTIONS: tuple[Option, ...] = (
    Option("queue", "--queue", "MINION_QUEUE", parsing.text,
           "Where params wait: a folder, or a URL as redis://HOST/0?stream=NAME",
           PARAMS, "URL", "-q", "minion-queue"),
    Option("wait", "--wait", "MINION_WAIT", parsing.flag,
           "Wait for a queue that is not there yet", PARAMS),
    Option("from_file", "--from", "MINION_FROM", parsing.text,
           "Drain the params of this file, or of standard input, as they are read; no queue",
           PARAMS, "FILE|-"),
    Option("null", "--null", "MINION_NULL", parsing.flag,
           "Params of --from end with a NUL each, as find -print0 writes them; any bytes",
           PARAMS, "", "-0"),
    Option("format", "--format", "MINION_FORMAT", parsing.text,
           "How --from is read: lines, csv, jsonl or json", PARAMS, "NAME", "",
           "by the file's name"),
    Option("sep", "--sep", "MINION_SEP", parsing.text,
           "What separates the cells of csv", PARAMS, "CHAR"),
    Option("header", "--no-header", "MINION_HEADER", parsing.flag,
           "The first line of csv holds no names: rows are lists", PARAMS),
    Option("typed", "--typed", "MINION_TYPED", parsing.flag,
           "Lines and cells that read as JSON numbers, true, false, null are these", PARAMS),
    Option("skip_bad", "--skip-bad", "MINION_SKIP_BAD", parsing.flag,
           "Count lines that can't be read, instead of stopping at them", PARAMS),
    Option("slots", "--slots", "MINION_SLOTS", parsing.slots,
           "Params that run at once; auto: the CPUs that this job may use",
           RUNS, "N|auto", "-j", "1"),
    Option("call", "--call", "MINION_CALL", parsing.text,
           "Call this Python function instead of CMD", RUNS, "MODULE:FUNCTION"),
    Option("template", "--no-template", "MINION_TEMPLATE", parsing.flag,
           "Take braces in CMD as they are, and append the param", RUNS),
    Option("shell", "--shell", "MINION_SHELL", parsing.flag,
           "CMD is a line for sh; each value is quoted", RUNS),
    Option("stdin", "--stdin", "MINION_STDIN", parsing.flag,
           "Give the param as JSON on standard input, instead of appending it", RUNS),
    Option("chdir", "--chdir", "MINION_CHDIR", parsing.text,
           "Run in this folder, made if missing; a template too", RUNS, "DIR"),
    Option("stdout", "--stdout", "MINION_STDOUT", parsing.text,
           "Write the output of each run there, whole, when it ended well; a template too",
           RUNS, "FILE"),
    Option("stderr", "--stderr", "MINION_STDERR", parsing.text,
           "The same for standard error", RUNS, "FILE"),
    Option("tty", "--tty", "MINION_TTY", parsing.flag,
           "Hand the terminal itself to CMD", RUNS),
    Option("image", "--image", "MINION_IMAGE", parsing.text,
           "Run CMD in a container of this image, a new one for each param", RUNS, "IMAGE"),
    Option("runtime", "--runtime", "MINION_RUNTIME", parsing.text,
           "What runs containers: podman, docker or apptainer", RUNS, "NAME", "",
           "the first that is there"),
    Option("container_options", "--container-option", "MINION_CONTAINER_OPTIONS",
           parsing.container_options,
           "Of the runtime's run, as memory=2g or volume=/data:/data; several with blanks between",
           RUNS, "KEY=VALUE"),
    Option("dry_run", "--dry-run", "MINION_DRY_RUN", parsing.flag,
           "Print the command lines of the first five waiting params, run nothing", RUNS),
    Option("timeout_s", "--timeout", "MINION_TIMEOUT", parsing.seconds_or_never,
           "A run that takes longer is killed, and has failed", FAILURES, "TIME", "", "never"),
    Option("max_attempts", "--max-attempts", "MINION_MAX_ATTEMPTS", parsing.whole_from(1),
           "After so many failed attempts a param is dead", FAILURES, "N", "", "3"),
    Option("max_failures_in_a_row", "--max-failures-in-a-row", "MINION_MAX_FAILURES_IN_A_ROW",
           parsing.whole_from(0),
           "A minion that only fails stops after so many; 0: never", FAILURES, "N", "", "20"),
    Option("on_exit", "--on-exit", "MINION_ON_EXIT", parsing.on_exit,
           "What exit statuses mean: done, later, dead or failed", FAILURES,
           "STATUS=END,...", "", "0=done,65=dead,75=later"),
    Option("until", "--until", "MINION_UNTIL", parsing.one_of("drained", "empty", "forever"),
           "drained: every param is done or dead, by whoever; empty: nothing to take now; forever",
           END, "WHEN", "", "drained"),
    Option("max_params", "--max-params", "MINION_MAX_PARAMS", parsing.whole_from(1),
           "Stop after so many params", END, "N"),
    Option("max_time_s", "--max-time", "MINION_MAX_TIME", _seconds,
           "Stop after this time", END, "TIME"),
    Option("min_left_s", "--min-left", "MINION_MIN_LEFT", parsing.seconds_or_never,
           "With less time than this to its end (--max-time, the job's wall time) nothing more is "
           "taken, and the minion ends when its runs do", END, "TIME"),
    Option("keep_idle", "--keep-idle", "MINION_KEEP_IDLE", parsing.whole_from(0),
           "So many idle minions stay when all that is left runs elsewhere; the others leave "
           "after --idle", END, "N", "", "1"),
    Option("requeue", "--requeue", "MINION_REQUEUE", parsing.flag,
           "Cut short while params remain, have Slurm or OAR start this job again",
           END, default="yes in OAR's idempotent jobs"),
    Option("reporter", "--reporter", "MINION_REPORTER", parsing.text,
           "Where events go: null, json, stdout, or redis://HOST/0?stream=NAME",
           REPORTS, "NAME", "", "json for a queue with a folder, else null"),
    Option("report_dir", "--report-dir", "REPORTER_JSON_DIRECTORY", parsing.text,
           "Folder of the json reporter", REPORTS, "DIR", "",
           "report in the queue's folder, else minion-report"),
    Option("capture", "--capture", "MINION_CAPTURE", parsing.flag,
           "Keep the output of each run in the report, instead of passing it on; --no-capture "
           "keeps nothing", REPORTS, default="pass it on, and keep its end"),
    Option("quiet", "--quiet", "MINION_QUIET", parsing.flag,
           "Say only what went wrong with the minion itself", REPORTS),
    Option("lease_s", "--lease", "MINION_LEASE", _seconds,
           "A minion that is silent for this long has lost its params", ADVANCED, "TIME", "", "60"),
    Option("reconnect_s", "--reconnect", "MINION_RECONNECT", parsing.seconds,
           "Try for this long to reach the queue again", ADVANCED, "TIME", "", "300"),
    Option("grace_s", "--grace", "MINION_GRACE", parsing.seconds,
           "From TERM to KILL when a minion stops", ADVANCED, "TIME", "", "10"),
    Option("idle_s", "--idle", "MINION_IDLE", parsing.seconds,
           "Idle for this long means drained, where the queue can't tell; see also --keep-idle",
           ADVANCED, "TIME", "", "30"),
    Option("checkpoint_root", "--checkpoint-root", "MINION_CHECKPOINT_ROOT", parsing.text,
           "Where the folders of MINION_CHECKPOINT_DIR are, shared by all hosts",
           ADVANCED, "DIR", "", "checkpoints in the queue's folder, if it has one"),
    Option("max_crashes", "--max-crashes", "MINION_MAX_CRASHES", parsing.whole_from(1),
           "A param that so many minions died of is dead", ADVANCED, "N", "", "5"),
    Option("beat_file", "--beat-file", "MINION_BEAT_FILE", parsing.text,
           "Touched every second or so while the minion is well: for health checks",
           ADVANCED, "FILE"),
    Option("inline", "--inline", "MINION_INLINE", parsing.flag,
           "Call functions in the minion's own process", ADVANCED),
)  # fmt: skip

BY_FIELD = {option.field: option for option in OPTIONS}
BY_VARIABLE = {option.variable: option for option in OPTIONS}
BY_KEY = {option.key: option for option in OPTIONS}

# A minion may run inside a run of another one.
OTHER_VARIABLES = frozenset({"MINION_ENGINE", "MINION_DEBUG", *RUN_VARIABLES})
"""MINION_ variables that mean something and are no setting of the table."""
