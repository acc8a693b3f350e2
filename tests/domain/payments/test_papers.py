"""What is on record of a document after it is issued, and how much of a name strangers see."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.payments.events import DocumentCancelled, DocumentMailed, DocumentMailRefused, DocumentRendered
from domain.payments.papers import (
    cancel_document,
    file_name,
    masked,
    record_mail_refused,
    record_mailed,
    record_rendered,
)
from tests.memory_store import MemoryStore

WHO = {"org": "org_a", "order": "order_A", "number": "RV/26-27/000001", "at": 5, "by": "worker:x"}


def test_each_step_is_put_on_record_once() -> None:
    store = MemoryStore()
    for _ in range(2):
        record_rendered(store, **WHO, sha256="ab", size=3)
        record_mailed(store, **WHO)
    record_mail_refused(store, **WHO, reason="550")
    record_rendered(store, **WHO | {"number": "RV/26-27/000002"}, sha256="cd", size=4)
    assert store.facts == [
        ("payment:order_A", DocumentRendered(at=5, by="worker:x", org="org_a", number=n, sha256=sha, size=size))
        if sha
        else ("payment:order_A", DocumentMailed(at=5, by="worker:x", org="org_a", number=n))
        for n, sha, size in (
            ("RV/26-27/000001", "ab", 3),
            ("RV/26-27/000001", "", 0),
            ("RV/26-27/000002", "cd", 4),
        )
    ]


def test_of_what_a_strange_server_said_no_more_is_kept_than_the_log_takes() -> None:
    store = MemoryStore()
    record_mail_refused(store, **WHO, reason="550\0\r\nno" + "!" * 500)
    refused = store.facts[0][1]
    assert isinstance(refused, DocumentMailRefused)
    assert refused.reason.startswith("550   no!")
    assert len(refused.reason) == 200


def test_a_document_is_cancelled_once() -> None:
    store = MemoryStore()
    assert cancel_document(store, **WHO, reason="issued twice\0") == 1
    assert cancel_document(store, **WHO, reason="again") is None
    cancelled = DocumentCancelled(at=5, by="worker:x", org="org_a", number=WHO["number"], reason="issued twice ")
    assert store.facts == [("payment:order_A", cancelled)]


def test_a_mail_that_was_refused_is_not_mailed_after_all() -> None:
    store = MemoryStore()
    assert record_mail_refused(store, **WHO, reason="550 no such user") == 1
    assert record_mailed(store, **WHO) is None
    assert isinstance(store.facts[0][1], DocumentMailRefused)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Asha Nair", "A••• N•••"),
        ("Asha", "A•••"),
        ("  Asha   Devi Nair ", "A••• D•••"),
        ("अनिता त्रिपाठी", "अ••• त•••"),
        ("कृष्ण हेगड़े", "कृ••• हे•••"),
        ("தமிழ் செல்வி", "த••• செ•••"),
        ("X", "X•••"),
        ("", ""),
    ],
)
def test_of_a_name_only_initials_are_shown(name: str, shown: str) -> None:
    assert masked(name) == shown


@given(st.text(max_size=40))
def test_how_long_a_name_is_cannot_be_told(name: str) -> None:
    words = masked(name).split()
    assert len(words) == min(2, len(name.split()))
    assert all(word.endswith("•••") for word in words)


def test_a_number_becomes_a_file_name() -> None:
    assert file_name("RV/26-27/000001") == "RV-26-27-000001"
