"""How the database goes about a batch of the ledger: every row is looked up by its key, however much or little the
planner knew of the tables when it made the plans, which a session keeps.
"""

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

FILLED = """
insert into balance select 'org' || n, 1000000, 10, 0 from generate_series(1, %(rows)s) n;
insert into allowance (scope, month, used, held, day, calls)
    select kind || n, 202611, 0, 10, 20000, 0 from generate_series(1, %(rows)s) n, unnest(array['key', 'ws']) kind;
insert into hold (request, org, key, workspace, month, amount, expires, version)
    select 'req' || n, 'org' || n, 'key' || n, 'ws' || n, 202611, 10, 0, 1 from generate_series(1, %(rows)s) n;
insert into events (originator_id, originator_version, topic, state)
    select 'request:req' || n, 1, 'held', '' from generate_series(1, %(rows)s) n;
"""
# Each list has one that goes well and one that does not: a settlement, an extension, holds of two orgs, a note.
BATCH = """
select list, code from ledger_commit(202611, 20000,
    array['new1', 'new2'], array['org1', 'org2'], array['key1', 'key2'], array['ws1', 'ws2'], array[10, 5000000],
    array[1, 1], array['', '']::bytea[], 'held', '{}',
    array['req3', 'gone'], array[10, 10], array[5, 5], array['settled', 'settled'], array['', '']::bytea[],
    array['req4', 'gone'], array[10, 10], array[1, 1], array['', '']::bytea[], 'extended',
    array['noted'], array['refused'], array['']::bytea[])
"""
TABLES = {"balance", "allowance", "hold", "events"}


def by_key(plan: dict[str, Any]) -> bool:
    return "Index Cond" in plan or ("Plans" in plan and all(map(by_key, plan["Plans"])))


def lookups(plan: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Every node that reads a table: the table, the kind of node, and whether a key says which rows."""
    if plan.get("Relation Name") in TABLES and "Scan" in plan["Node Type"]:
        yield plan["Relation Name"], plan["Node Type"], by_key(plan)
    for each in plan.get("Plans", []):
        yield from lookups(each)


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize("rows", [0, 1, 4, 3_000])
def test_no_table_is_ever_read_as_a_whole(database_url: str, rows: int, analyzed: bool) -> None:
    plans: list[dict[str, Any]] = []

    def keep(notice: psycopg.errors.Diagnostic) -> None:
        _, found, plan = (notice.message_primary or "").partition("plan:\n")
        if found:
            plans.append(json.loads(plan)["Plan"])

    with psycopg.connect(database_url, autocommit=True) as connection:
        for statement in FILLED.split(";\n")[:-1]:
            connection.execute(statement.replace("%(rows)s", str(rows)).encode())
        if analyzed:
            connection.execute("analyze")
        connection.execute("load 'auto_explain'")
        for setting in (
            "log_min_duration = 0",
            "log_nested_statements = on",
            "log_format = json",
            "log_level = notice",
        ):
            connection.execute(f"set auto_explain.{setting}".encode())
        connection.add_notice_handler(keep)
        connection.execute(BATCH.encode())
    read = [each for plan in plans for each in lookups(plan)]
    assert {table for table, _, _ in read} == TABLES
    assert [each for each in read if not each[2]] == []
