"""The client: how it logs in, whom it trusts, where its own log goes."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from typing import Any

import pulsar

from minionize.engines.address import credential
from minionize.engines.pulsar.client_log import client_log
from minionize.engines.pulsar.faults import translated
from minionize.engines.pulsar.place import Place
from minionize.errors import UsageError

OPERATION_S = 10
"""How long the broker may take for an answer."""
_LOG = logging.getLogger("minionize.engines.pulsar")


def connect(place: Place, env: Mapping[str, str], operation_s: int = OPERATION_S) -> pulsar.Client:
    """A client for `place`, that gives an operation so many seconds. It does not connect yet."""
    certificate, key = _file(env, "PULSAR_TLS_CERT"), _file(env, "PULSAR_TLS_KEY")
    if bool(certificate) != bool(key):
        raise UsageError("PULSAR_TLS_CERT and PULSAR_TLS_KEY belong together: set both")
    with translated(place, "connect"):
        return pulsar.Client(
            place.service,
            authentication=_authentication(env, certificate, key),
            operation_timeout_seconds=operation_s,
            connection_timeout_ms=5000,
            tls_trust_certs_file_path=_file(env, "PULSAR_TLS_CA"),
            tls_validate_hostname=True,
            # Shown to a broker that asks for one, also where a token says who we are.
            tls_certificate_file_path=certificate,
            tls_private_key_file_path=key,
            logger=_logger(),
        )


def token(env: Mapping[str, str]) -> str:
    """The token that we show, to brokers and to the admin API; empty if we have none."""
    return credential(env, "PULSAR_TOKEN").strip()


def tls_context(env: Mapping[str, str]) -> ssl.SSLContext:
    """What the admin API is asked with, where it is https."""
    context = ssl.create_default_context(cafile=_file(env, "PULSAR_TLS_CA"))
    certificate, key = _file(env, "PULSAR_TLS_CERT"), _file(env, "PULSAR_TLS_KEY")
    if certificate and key:
        context.load_cert_chain(certificate, key)
    return context


def _authentication(env: Mapping[str, str], certificate: str | None, key: str | None) -> Any:
    if token(env):
        # Asked for at each connection, so that a file with a renewed token is read again.
        return pulsar.AuthenticationToken(lambda: token(env))
    return pulsar.AuthenticationTLS(certificate, key) if certificate else None


def _file(env: Mapping[str, str], name: str) -> str | None:
    """The file that a variable names. UsageError if it can't be read."""
    path = env.get(name) or None
    if path is not None:
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise UsageError(
                f"{name}={path} can't be read ({error.strerror}): mend or unset it"
            ) from error
    return path


def _logger() -> Any:
    """A file that only we read, unless the program that we are in has set up logging of this
    level: the client writes a lot, and reports as errors what we know better."""
    if _LOG.isEnabledFor(logging.INFO) and _LOG.hasHandlers():
        return _LOG
    return pulsar.FileLogger(pulsar.LoggerLevel.Warn, client_log().path)
