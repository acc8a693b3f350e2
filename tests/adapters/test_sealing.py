"""Sealing a real log: what is due, who is first, and what can be proven afterwards."""

from functools import partial

import psycopg

from adapters.sealing import Sealer, last_seal, prove
from domain.accounts.events import OrgCreated
from domain.kernel.clock import SECOND
from domain.sealing.block import is_sound, leads_to
from projections.verify import verify
from tests.at_once import at_once
from tests.projections.history import START, append


def orgs(count: int, *, at: int = START) -> list:
    return [(f"org:{at}-{number}", OrgCreated(at=at, name="x")) for number in range(count)]


def test_a_block_is_due_by_age_or_when_full(database_url: str) -> None:
    now = START
    sealer = Sealer(database_url, clock=lambda: now, events_max=10)
    with psycopg.connect(database_url, autocommit=True) as connection:
        append(connection, orgs(9))
        assert sealer.seal() == []
        append(connection, orgs(1, at=START + 1))
        assert [seal.count for seal in sealer.seal()] == [10]
        append(connection, orgs(1, at=START + 2))
        assert sealer.seal() == []
        now += 60 * SECOND + 2
        (seal,) = sealer.seal()
        assert (seal.number, seal.first, seal.last, seal.count) == (2, 11, 12, 2)
        assert last_seal(connection) == seal
        assert is_sound(seal)


def test_a_log_that_stands_still_is_not_sealed_again(database_url: str) -> None:
    now = START
    sealer = Sealer(database_url, clock=lambda: now)
    with psycopg.connect(database_url, autocommit=True) as connection:
        append(connection, orgs(3))
    assert len(sealer.seal(all_of_it=True)) == 1
    now += 3600 * SECOND
    assert sealer.seal() == []
    assert sealer.seal(all_of_it=True) == []


def test_a_long_backlog_becomes_full_blocks(database_url: str) -> None:
    told: list[tuple[int, int]] = []
    with psycopg.connect(database_url, autocommit=True) as connection:
        append(connection, orgs(25))
    sealer = Sealer(database_url, clock=lambda: START, events_max=10)
    seals = sealer.seal(all_of_it=True, progress=lambda done, of: told.append((done, of)))
    assert [seal.count for seal in seals] == [10, 10, 5]
    assert told == [(10, 25), (20, 25), (25, 25)]


def test_several_sealers_seal_each_event_once(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        append(connection, orgs(60))
    sealers = [Sealer(database_url, clock=lambda: START, events_max=7) for _ in range(4)]
    sealed = [seal for seals in at_once(*[partial(each.seal, all_of_it=True) for each in sealers]) for seal in seals]
    assert sorted(seal.number for seal in sealed) == list(range(1, len(sealed) + 1))
    report = verify(database_url, projections=[])
    assert not [finding for finding in report.findings if finding.check in ("seal", "stream")]
    assert report.blocks == len(sealed)


def test_every_sealed_event_can_be_proven(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        append(connection, orgs(13))
        Sealer(database_url, clock=lambda: START, events_max=6).seal(all_of_it=True)
        for position in range(1, 14):
            proof = prove(connection, position)
            assert proof is not None
            path = [(side, bytes.fromhex(partner)) for side, partner in proof.path]
            assert proof.seal.first <= position <= proof.seal.last
            assert leads_to(bytes.fromhex(proof.seal.root), leaf=bytes.fromhex(proof.leaf), path=path)
        assert prove(connection, 99) is None
