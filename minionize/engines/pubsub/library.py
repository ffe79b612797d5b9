"""The one door to Google's library and to gRPC: imported when a queue is opened, and quietly.

Nothing of theirs may reach the user's terminal: gRPC writes to file descriptor 2 from C, about
forks, time-outs and lost connections, unless its variables say otherwise before it is loaded; and
the libraries warn about the age of Python. What matters is translated to errors of ours.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

from minionize.errors import QueueRefused

SCOPE = "https://www.googleapis.com/auth/pubsub"
EMULATOR = "PUBSUB_EMULATOR_HOST"

_QUIET = {
    "GRPC_VERBOSITY": "NONE",
    # Its handlers of fork complain whenever a thread is in a call; our children use no gRPC.
    "GRPC_ENABLE_FORK_SUPPORT": "0",
    "GLOG_minloglevel": "3",
    # The URL says it. A workload identity's project would be asked for at another service of
    # Google's, and nothing would go on where that can't be reached.
    "GOOGLE_CLOUD_PROJECT": "in-the-url",
}
_OPTIONS = (
    # The limits are the service's own, 10 MB.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A link that is cut without a word is noticed while a pull waits on it.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # What one engine closes must not be shared with another of the same process.
    ("grpc.use_local_subchannel_pool", 1),
)


class Library(NamedTuple):
    """What the engine uses of it."""

    types: Any
    """The messages of the protocol, `google.pubsub_v1.types`."""
    subscriber: Any
    publisher: Any
    """Their transports: one attribute for each remote procedure."""
    channel: Any


def connect(endpoint: str, env: Mapping[str, str], url: str) -> Library:
    """A channel to the service, or to the emulator that `env` names. Nothing is sent yet.

    QueueRefused where there are no credentials; ModuleNotFoundError where there is no library.
    """
    with _Quiet():
        grpc, types, publisher, subscriber = _imported()
        emulator = env.get(EMULATOR)
        if emulator:
            channel = grpc.insecure_channel(emulator, options=_OPTIONS)
        else:
            channel = _authorised(endpoint, url)
        return Library(
            types,
            subscriber(channel=channel),
            publisher(channel=channel),
            channel,
        )


def grpc_module() -> ModuleType:
    """gRPC itself, after `connect`."""
    import grpc

    module: ModuleType = grpc
    return module


def _imported() -> tuple[Any, Any, Any, Any]:
    import grpc
    from google.pubsub_v1 import types
    from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
    from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

    return grpc, types, PublisherGrpcTransport, SubscriberGrpcTransport


def _authorised(endpoint: str, url: str) -> Any:
    """A channel with TLS and application default credentials."""
    import google.auth.exceptions
    from google.api_core import grpc_helpers

    make: Callable[..., Any] = grpc_helpers.create_channel
    target = endpoint if ":" in endpoint else f"{endpoint}:443"
    try:
        return make(target, scopes=[SCOPE], options=_OPTIONS)
    except (google.auth.exceptions.GoogleAuthError, OSError, ValueError) as error:
        why = " ".join(str(error).split())[:300]
        raise QueueRefused(
            f"{url}: no credentials for Google Cloud ({why}): set "
            "GOOGLE_APPLICATION_CREDENTIALS to a service account's file, or run where the workload "
            "has an identity, or run gcloud auth application-default login"
        ) from error


class _Quiet:
    """While it is entered, what is loaded is told to be quiet; the environment, which programs
    inherit, is as before afterwards."""

    def __enter__(self) -> None:
        self._before = {name: os.environ.get(name) for name in _QUIET}
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")

    def __exit__(self, *exception: object) -> None:
        self._warnings.__exit__(None, None, None)
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
