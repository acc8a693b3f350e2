"""Claims: one alone is at a piece of work, of all processes, and one that dies holds up nobody."""

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from adapters.claims import claimed
from adapters.postgres import make_pool

Pool = ConnectionPool[psycopg.Connection[Any]]

ELSEWHERE = """
import sys, time
from adapters.claims import claimed
from adapters.postgres import make_pool
with claimed(make_pool(sys.argv[1], size=1), "work") as ours:
    print(ours, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def pool(database_url: str) -> Iterator[Pool]:
    pool = make_pool(database_url, size=4)
    yield pool
    pool.close()


def is_free(pool: Pool, what: str = "work") -> bool:
    with claimed(pool, what) as ours:
        return ours


def test_what_is_claimed_is_nobody_elses_until_the_block_ends(pool: Pool) -> None:
    with claimed(pool, "work") as ours:
        assert ours
        assert not is_free(pool)
        assert not is_free(pool), "whoever was told no lets go of nothing"
        assert is_free(pool, "other work")
    assert is_free(pool)


def test_work_that_fails_is_let_go_of(pool: Pool) -> None:
    with pytest.raises(ValueError, match="a fault"), claimed(pool, "work"):
        raise ValueError("a fault")
    assert is_free(pool)


def test_what_another_process_claims_is_let_go_of_when_that_dies(pool: Pool, database_url: str) -> None:
    with subprocess.Popen([sys.executable, "-c", ELSEWHERE, database_url], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "True\n"
            assert not is_free(pool)
        finally:
            other.kill()
    deadline = time.monotonic() + 10
    while not is_free(pool):
        assert time.monotonic() < deadline, "the claim outlived its process"
        time.sleep(0.02)
