"""The variables of minionize 0.2.1 that name a broker's queue, as the URL of that queue.

Who may enter is no part of it: user, password, token and credentials stay in their variables,
where the engine reads them, so that no line for a person ever shows them.
"""

from __future__ import annotations

from collections.abc import Mapping

from minionize.errors import UsageError

ENGINES = ("execo", "file", "redis", "pulsar", "google")
"""What MINION_ENGINE can be; `pubsub` is google, too."""
REDIS_STREAM = "minions"
PULSAR_CONNECTION = "pulsar://localhost:6650"
PULSAR_SUBSCRIPTION = "minions"


def redis_queue(env: Mapping[str, str]) -> str:
    """`redis://host:port/db?stream=NAME` from REDIS_HOST, _PORT, _DB, _STREAM, _DECODER."""
    host = env.get("REDIS_HOST") or "localhost"
    if "/" in host or "@" in host:
        raise UsageError(
            "REDIS_HOST is a URL: put it into MINION_QUEUE, and ?stream=NAME behind it"
        )
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"  # IPv6
    port = env.get("REDIS_PORT") or "6379"
    if port.startswith("tcp://"):
        # Kubernetes injects this one for a Service that is called redis.
        port = "6379"
    base = f"redis://{host}:{_number('REDIS_PORT', port)}"
    return _with(
        f"{base}/{_number('REDIS_DB', env.get('REDIS_DB') or '0')}",
        stream=env.get("REDIS_STREAM") or REDIS_STREAM,
        decoder=env.get("REDIS_DECODER"),
    )


def pulsar_queue(env: Mapping[str, str]) -> str:
    """`pulsar://host:6650/tenant/namespace/topic?subscription=NAME` from PULSAR_CONNECTION,
    _TOPIC, _SUBSCRIPTION, _DECODER, and PULSAR_ADMIN, which counts."""
    base = (env.get("PULSAR_CONNECTION") or PULSAR_CONNECTION).rstrip("/")
    if not base.startswith(("pulsar://", "pulsar+ssl://")) or "/" in base.partition("://")[2]:
        raise UsageError(
            "PULSAR_CONNECTION is no address of a broker: write pulsar://HOST:6650 "
            "or pulsar+ssl://HOST:6651"
        )
    (topic,) = _needed("pulsar", env, "PULSAR_TOPIC")
    if topic.startswith("non-persistent://"):
        raise UsageError(
            f"PULSAR_TOPIC={topic} keeps nothing, and its params would be lost: "
            "use a persistent:// one"
        )
    topic = topic.removeprefix("persistent://").strip("/")
    if "/" not in topic:
        topic = f"public/default/{topic}"
    return _with(
        f"{base}/{_quoted(topic, safe='/')}",
        subscription=env.get("PULSAR_SUBSCRIPTION") or PULSAR_SUBSCRIPTION,
        decoder=env.get("PULSAR_DECODER"),
        admin=env.get("PULSAR_ADMIN"),
    )


def google_queue(env: Mapping[str, str]) -> str:
    """`pubsub://project/topic?subscription=NAME` from GOOGLE_PROJECT_ID, _TOPIC_ID,
    _SUBSCRIPTION (or GOOGLE_SUBSCRIPTIOn, as the README of 0.2.1 had it), _DECODER."""
    spelt = "GOOGLE_SUBSCRIPTION" if env.get("GOOGLE_SUBSCRIPTION") else "GOOGLE_SUBSCRIPTIOn"
    if not env.get(spelt):
        spelt = "GOOGLE_SUBSCRIPTION"
    project, topic, subscription = _needed(
        "google", env, "GOOGLE_PROJECT_ID", "GOOGLE_TOPIC_ID", spelt
    )
    return _with(
        f"pubsub://{_quoted(project)}/{_quoted(topic)}",
        subscription=subscription,
        decoder=env.get("GOOGLE_DECODER"),
    )


def _needed(engine: str, env: Mapping[str, str], *names: str) -> list[str]:
    missing = [name for name in names if not env.get(name, "").strip()]
    if missing:
        raise UsageError(
            f"MINION_ENGINE={engine} needs {' and '.join(missing)}: set "
            f"{'it' if len(missing) == 1 else 'them'}, or MINION_QUEUE to the queue's URL"
        )
    return [env[name].strip() for name in names]


def _number(name: str, text: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdecimal() and int(text) < 1 << 16):
        raise UsageError(f"{name}={text} is no number from 0 to 65535: mend or unset it")
    return int(text)


def _with(base: str, **parameters: str | None) -> str:
    said = [f"{name}={_quoted(value)}" for name, value in parameters.items() if value]
    return f"{base}?{'&'.join(said)}"


def _quoted(text: str, safe: str = "") -> str:
    from urllib.parse import quote  # other engines' minions start without it

    return quote(text, safe=safe)
