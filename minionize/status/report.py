"""Where the report of a queue is: a folder, or a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minionize.errors import MissingDriver, UsageError
from minionize.reporters import is_remote, report_folder
from minionize.reporters.remote import RemoteReport
from minionize.settings import Settings
from minionize.status.read import Report

if TYPE_CHECKING:
    from minionize.engines.redis.reports import ReportServer

_SCHEMES = ("redis:", "rediss:", "unix:")


def report_of(settings: Settings, queue_folder: str | None) -> Report:
    """The report that minions with these settings write. `queue_folder`: the queue's own.

    Where `redis` is said for all queues and this one is elsewhere, nobody wrote there.
    """
    if settings.reporter and is_remote(settings.reporter) and not _elsewhere(settings):
        return RemoteReport(report_server(settings))
    return report_folder(settings.report_dir, queue_folder)


def report_server(settings: Settings) -> ReportServer:
    """The server that `settings.reporter` names; `redis` alone is that of the queue."""
    url = settings.reporter or ""
    if _is_the_queues(url):
        url = settings.queue
        if _elsewhere(settings):
            raise UsageError(
                "the reporter 'redis' is the server of a queue in Redis, and this queue is none: "
                "set MINION_REPORTER to redis://HOST/0?stream=NAME"
            )
    try:
        from minionize.engines.redis.reports import ReportServer
    except ModuleNotFoundError as error:
        if error.name != "redis":
            raise
        raise MissingDriver("the redis reporter needs: pip install 'minionize[redis]'") from error
    return ReportServer(url, settings.env)


def _is_the_queues(reporter: str) -> bool:
    return reporter.strip().lower() == "redis"


def _elsewhere(settings: Settings) -> bool:
    """Whether the report is to be with a queue in Redis, and the queue is none."""
    return _is_the_queues(settings.reporter or "") and not settings.queue.lower().startswith(
        _SCHEMES
    )
