"""Old money must always replay: every event that was ever stored loads for ever, and means the same.

`tests/golden/events/<name>.json` has stored forms, one a line, which are never edited. Who adds a field to an event
adds a line that has it.
"""

from pathlib import Path

import msgspec
import pytest

from adapters.log import decode, encode, load_all_facts
from domain.kernel.events import REGISTER

FOLDER = Path(__file__).parent / "golden" / "events"

load_all_facts()


def samples_of(name: str) -> list[bytes]:
    return (FOLDER / f"{name}.json").read_bytes().splitlines()


def test_every_event_has_a_sample_and_every_sample_an_event() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(REGISTER)


@pytest.mark.parametrize("name", sorted(REGISTER))
def test_a_stored_event_loads_and_is_stored_the_same_again(name: str) -> None:
    assert samples_of(name)
    for stored in samples_of(name):
        assert encode(decode(name, stored)) == stored


@pytest.mark.parametrize("name", sorted(REGISTER))
def test_the_newest_sample_has_every_field(name: str) -> None:
    newest = msgspec.json.decode(samples_of(name)[-1])
    assert list(newest) == [field.encode_name for field in msgspec.structs.fields(REGISTER[name])]


@pytest.mark.parametrize("name", sorted(REGISTER))
def test_a_field_that_a_newer_program_added_does_no_harm(name: str) -> None:
    newest = samples_of(name)[-1]
    assert decode(name, newest[:-1] + b',"added_later":{"x":[1]}}') == decode(name, newest)
