"""Where settings come from, who wins, and what is said about what can't be used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minionize.errors import UsageError
from minionize.settings import Settings, load
from minionize.settings.sources import misspelt
from minionize.settings.table import BY_VARIABLE, OPTIONS, OTHER_VARIABLES

pytestmark = pytest.mark.usefixtures("empty_folder")


def test_defaults() -> None:
    loaded = load()
    assert loaded.settings == Settings(env=loaded.settings.env)
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.notes == ()
    assert loaded.settings.env == dict(os.environ)


def test_every_field_has_an_option() -> None:
    fields = set(Settings._fields) - {"deadline", "env"}
    assert {option.field for option in OPTIONS} == fields
    for names in (
        [o.flag for o in OPTIONS],
        [o.variable for o in OPTIONS],
        [o.key for o in OPTIONS],
    ):
        assert len(set(names)) == len(names)


VALUES: dict[str, tuple[str, Any]] = {
    "queue": ("runs/a", "runs/a"),
    "slots": ("3", 3),
    "timeout_s": ("2m", 120.0),
    "until": ("empty", "empty"),
    "template": ("0", False),
    "capture": ("1", True),
    "on_exit": ("3=done", {0: "done", 3: "done", 65: "dead", 75: "later"}),
    "max_params": ("7", 7),
    "report_dir": ("r", "r"),
}


@given(st.sampled_from(sorted(VALUES)), st.sets(st.sampled_from(range(4)), min_size=1))
def test_precedence(field: str, places: set[int]) -> None:
    """Given, environment, .env, .minionize.yml: the first that speaks is heard."""
    option = next(option for option in OPTIONS if option.field == field)
    text, value = VALUES[field]
    other = {"queue": "elsewhere", "until": "forever", "report_dir": "s", "timeout_s": "9"}
    other |= {"template": "1", "capture": "0", "on_exit": "4=dead"}
    noise = other.get(field, "9")
    first = min(places)
    said = {place: text if place == first else noise for place in places}
    os.environ.pop(option.variable, None)
    if 1 in said:
        os.environ[option.variable] = said[1]
    Path(".env").write_text(f"{option.variable}={said[2]}\n" if 2 in said else "")
    Path(".minionize.yml").write_text(f"{option.key}: {said[3]!r}\n" if 3 in said else "")
    loaded = load({field: said.get(0)})
    assert getattr(loaded.settings, field) == value
    assert (
        loaded.origins[field]
        == [
            option.flag,
            option.variable,
            f".env: {option.variable}",
            f".minionize.yml: {option.key}",
        ][first]
    )


def test_dotenv_goes_into_the_environment_and_overrides_nothing(empty_folder: Path) -> None:
    os.environ["DEMO_KEPT"] = "mine"
    Path(".env").write_text("DEMO_KEPT=theirs\nDEMO_NEW='a b'\nMINION_SLOTS=2\n")
    loaded = load()
    assert os.environ["DEMO_KEPT"] == loaded.settings.env["DEMO_KEPT"] == "mine"
    assert os.environ["DEMO_NEW"] == loaded.settings.env["DEMO_NEW"] == "a b"
    assert loaded.settings.slots == 2


def test_empty_variables_say_nothing() -> None:
    os.environ.update(MINION_QUEUE="", MINION_SLOTS="", MINION_ENGINE="")
    assert load().settings.queue == "file:minion-queue"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("slot: 4", "did you mean slots"),
        ("- slots", "is no table"),
        ("slots: [1]", r"\.minionize\.yml: slots holds more than one value: write one"),
        ("slots: 4\n  x: :", "can't be read"),
        ("timeout: ten", "is no time"),
    ],
)
def test_a_yaml_file_that_cant_be_used(content: str, says: str) -> None:
    Path(".minionize.yml").write_text(content)
    with pytest.raises(UsageError, match=says) as caught:
        load()
    assert "\n" not in str(caught.value)


def test_yaml_values() -> None:
    Path(".minionize.yml").write_text(
        "max-attempts: 5\nmax_crashes: 2\ncapture: yes\ntimeout: 1:30:00\nlease: 10m\n"
        "on-exit: {3: done}\nquiet:\nqueue: ~/q\n"
    )
    told = load().settings
    assert (told.max_attempts, told.max_crashes, told.capture, told.quiet) == (5, 2, True, False)
    assert (told.timeout_s, told.lease_s, told.on_exit[3]) == (5400, 600, "done")
    assert told.queue == "~/q"


def test_python_values() -> None:
    told = load({"slots": 2, "timeout": 1.5, "max_time_s": "2h", "on_exit": {4: "dead"}}).settings
    assert (told.slots, told.timeout_s, told.max_time_s, told.on_exit[4]) == (2, 1.5, 7200, "dead")
    with pytest.raises(UsageError, match="no setting is called 'slotz': did you mean slots"):
        load({"slotz": 2})
    with pytest.raises(UsageError, match="no setting is called 'threads': minionize --help has"):
        load({"threads": 2})


@pytest.mark.parametrize(
    ("name", "text"), [("MINION_SLOTS", "many"), ("MINION_TIMEOUT", "x"), ("MINION_UNTIL", "later")]
)
def test_bad_values_name_their_variable(name: str, text: str) -> None:
    os.environ[name] = text
    with pytest.raises(UsageError, match=f"^{name}: '{text}' is "):
        load()


def test_engines_of_0_2_1() -> None:
    os.environ["MINION_ENGINE"] = "execo"
    assert load().settings.queue == "execo:sweeps"
    assert load().origins["queue"] == "MINION_ENGINE"
    os.environ["EXECO_PERSISTENCE_DIR"] = "mine"
    assert load().settings.queue == "execo:mine"
    os.environ["MINION_QUEUE"] = "file:q"
    assert load().settings.queue == "file:q"
    assert load({"queue": "other"}).settings.queue == "other"
    del os.environ["MINION_QUEUE"]
    os.environ["MINION_ENGINE"] = "file"
    assert load().settings.queue == "file:minion-queue"
    os.environ["MINION_ENGINE"] = "kafka"
    with pytest.raises(UsageError, match="none of execo, file, redis, pulsar, google: set MINION_"):
        load()


def test_a_queue_that_is_given_counts_more_than_a_variable_that_names_a_file() -> None:
    os.environ["MINION_FROM"] = "jobs"
    assert load().settings.from_file == "jobs"
    assert load({"queue": "q"}).settings.from_file is None
    told = load({"queue": "q", "from_file": "jobs"}).settings
    assert (told.queue, told.from_file) == ("q", "jobs")


def test_a_sweep_that_stands_here() -> None:
    Path("sweeps").mkdir()
    assert load().settings.queue == "file:minion-queue"
    Path("sweeps/sweeps").touch()
    loaded = load()
    assert loaded.settings.queue == "execo:sweeps"
    assert "sweeps" in loaded.notes[0]
    assert load(feeding=True).settings.queue == "file:minion-queue"
    assert load({"queue": "q"}).notes == ()
    Path("minion-queue").mkdir()
    assert load().settings.queue == "file:minion-queue"


def test_a_sweep_elsewhere() -> None:
    Path("mine").mkdir()
    Path("mine/sweeps").touch()
    os.environ["EXECO_PERSISTENCE_DIR"] = "mine"
    assert load().settings.queue == "execo:mine"


def test_misspelt_variables() -> None:
    os.environ.update(MINION_SLTOS="4", MINION_QUEU="x", MINION_PARAM="1", MINION_ID="m")
    os.environ["MINION_FRIENDS"] = "3"
    notes = load().notes
    assert notes == (
        "MINION_FRIENDS means nothing: minionize --help has those that do",
        "MINION_QUEU means nothing: did you mean MINION_QUEUE?",
        "MINION_SLTOS means nothing: did you mean MINION_SLOTS?",
    )


@given(st.sampled_from(sorted(BY_VARIABLE)), st.data())
def test_a_letter_too_few_is_always_told(name: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(len("MINION_"), len(name) - 1))
    wrong = name[:place] + name[place + 1 :]
    ((_, line),) = [*misspelt([wrong])] or [(wrong, "")]
    if name.startswith("MINION_") and wrong not in BY_VARIABLE and wrong not in OTHER_VARIABLES:
        assert f"did you mean {name}?" in line
    else:
        assert line == ""


def test_known_variables_are_not_misspelt() -> None:
    assert not [*misspelt([*BY_VARIABLE, *OTHER_VARIABLES, "MINIONS", "PATH"])]
