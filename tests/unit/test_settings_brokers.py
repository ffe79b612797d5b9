"""Variables that name a broker's queue, as minionize 0.2.1 had them, become its URL."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minionize.engines.address import parse
from minionize.errors import UsageError
from minionize.settings.sources import queue_of_engine

GOOGLE = {"GOOGLE_PROJECT_ID": "my-project", "GOOGLE_TOPIC_ID": "params"}


@pytest.mark.parametrize(
    ("engine", "env", "url"),
    [
        ("redis", {}, "redis://localhost:6379/0?stream=minions"),
        ("Redis ", {"REDIS_PORT": "tcp://10.0.0.1:6379"}, "redis://localhost:6379/0?stream=minions"),
        (
            "redis",
            {"REDIS_HOST": "h", "REDIS_PORT": "1", "REDIS_DB": "2", "REDIS_STREAM": "a b&c"},
            "redis://h:1/2?stream=a%20b%26c",
        ),
        ("redis", {"REDIS_HOST": "::1", "REDIS_DECODER": "json"},
         "redis://[::1]:6379/0?stream=minions&decoder=json"),
        ("redis", {"REDIS_PASSWORD": "secret", "REDIS_USERNAME": "ada"},
         "redis://localhost:6379/0?stream=minions"),
        ("pulsar", {"PULSAR_TOPIC": "t"},
         "pulsar://localhost:6650/public/default/t?subscription=minions"),
        (
            "pulsar",
            {
                "PULSAR_CONNECTION": "pulsar+ssl://one:6651,two:6651/",
                "PULSAR_TOPIC": "persistent://tenant/space/t?",
                "PULSAR_SUBSCRIPTION": "old",
                "PULSAR_DECODER": "json",
                "PULSAR_ADMIN": "http://one:8080",
            },
            "pulsar+ssl://one:6651,two:6651/tenant/space/t%3F"
            "?subscription=old&decoder=json&admin=http%3A%2F%2Fone%3A8080",
        ),
        ("google", {**GOOGLE, "GOOGLE_SUBSCRIPTION": "s"},
         "pubsub://my-project/params?subscription=s"),
        ("pubsub", {**GOOGLE, "GOOGLE_SUBSCRIPTIOn": "s", "GOOGLE_DECODER": "identity"},
         "pubsub://my-project/params?subscription=s&decoder=identity"),
    ],
)  # fmt: skip
def test_the_variables_of_old_name_a_queue(engine: str, env: dict[str, str], url: str) -> None:
    assert queue_of_engine(engine, env) == url


@pytest.mark.parametrize(
    ("engine", "env", "said"),
    [
        ("redis", {"REDIS_PORT": "http"}, "REDIS_PORT=http is no number"),
        ("redis", {"REDIS_DB": "-1"}, "REDIS_DB=-1 is no number"),
        ("redis", {"REDIS_HOST": "redis://u:secret@h"}, "REDIS_HOST is a URL"),
        ("pulsar", {}, "MINION_ENGINE=pulsar needs PULSAR_TOPIC: set it, or MINION_QUEUE"),
        ("pulsar", {"PULSAR_TOPIC": "non-persistent://a/b/c"}, "keeps nothing"),
        ("pulsar", {"PULSAR_TOPIC": "t", "PULSAR_CONNECTION": "http://u:secret@h"},
         "PULSAR_CONNECTION is no address"),
        ("google", {}, "GOOGLE_PROJECT_ID and GOOGLE_TOPIC_ID and GOOGLE_SUBSCRIPTION: set them"),
        ("google", GOOGLE, "MINION_ENGINE=google needs GOOGLE_SUBSCRIPTION: set it"),
    ],
)  # fmt: skip
def test_what_they_lack_is_named(engine: str, env: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        queue_of_engine(engine, env)
    assert said in str(caught.value) and "secret" not in str(caught.value)


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@given(NAMES, NAMES)
def test_any_name_arrives(stream: str, subscription: str) -> None:
    url = queue_of_engine("redis", {"REDIS_STREAM": stream})
    assert parse(url, ["stream"]).parameters["stream"] == stream
    env = {**GOOGLE, "GOOGLE_SUBSCRIPTION": subscription, "GOOGLE_TOPIC_ID": stream}
    found = parse(queue_of_engine("google", env), ["subscription"])
    assert (found.path, found.parameters["subscription"]) == (stream.strip(), subscription.strip())
