"""An exported ledger: only the org's own, all of it, and no byte of it can be changed without the script's noticing."""

import contextlib
import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import api.docs
from adapters.sealing import Sealer
from api.docs.verify_ledger import verify
from domain.kernel.clock import day_to_date, ist_day
from projections.ledger import EXPORTED, PAGE, ledger_export
from projections.runner import Runner
from tests.projections.history import START, append, write_guards
from tests.projections.money_history import MONEY_STEPS, play_money
from tests.projections.test_books import LONG

SCRIPT = Path(api.docs.__path__[0]) / "verify_ledger.py"
Export = Callable[..., bytes]


class Exporter:
    """Exports from a database that is projected and sealed as far as it was told."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.runner = Runner(url)
        self.runner.prepare()
        self.lent = 0

    @contextlib.contextmanager
    def reading(self) -> Iterator[psycopg.Connection]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            self.lent += 1
            yield connection
            self.lent -= 1

    def seal(self, *, events_max: int) -> None:
        Sealer(self.url, clock=lambda: START, events_max=events_max).seal(all_of_it=True)

    def project(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            self.runner.step(connection)

    def __call__(self, org: str, *, first: int | None = None, last: int | None = None) -> bytes:
        return b"".join(ledger_export(self.reading, org, first_day=first, last_day=last))


def lines_of(steps: Sequence[tuple[str, int, int]]) -> list:
    return [line for facts in play_money(steps) for line in facts]


def rows(exported: bytes) -> list[dict]:
    return [json.loads(line) for line in exported.splitlines()]


def written(tmp_path: Path, exported: bytes) -> str:
    file = tmp_path / "ledger.jsonl"
    file.write_bytes(exported)
    return str(file)


def run(file: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", SCRIPT, file], capture_output=True, text=True, check=False)


def resealed(lines: Sequence[bytes]) -> bytes:
    """The lines with the last one's hash made to fit: what a forger who knows the format would do."""
    end = json.loads(lines[-1])
    end["end"]["sha256"] = hashlib.sha256(b"".join(lines[:-1])).hexdigest()
    return b"".join([*lines[:-1], json.dumps(end, separators=(",", ":")).encode() + b"\n"])


@pytest.fixture(scope="module")
def history() -> list:
    return lines_of(LONG)


@pytest.fixture(scope="module")
def exporter(new_database: Callable[..., str], migrated_template: str, history: list) -> Exporter:
    """A long history in sealed blocks of 60 events over several pages, and some events that are not sealed yet."""
    made = Exporter(new_database(template=migrated_template))
    with psycopg.connect(made.url, autocommit=True) as connection:
        write_guards(connection, history)
        append(connection, history[:200])
        connection.execute("select setval('events_notification_id_seq', %s)", [3 * PAGE])
        append(connection, history[200:-10])
        made.seal(events_max=60)
        append(connection, history[-10:])
    made.project()
    return made


@pytest.fixture(scope="module")
def exported(exporter: Exporter) -> bytes:
    return exporter("org0")


def test_the_script_confirms_a_whole_export(exporter: Exporter, exported: bytes, tmp_path: Path) -> None:
    done = run(written(tmp_path, exported))
    assert (done.returncode, done.stderr) == (0, "")
    with exporter.reading() as connection:
        row = connection.execute("select available, held from balance where org = 'org0'").fetchone()
    assert row is not None
    withheld = sum(
        {"credit_withheld": 1, "credit_returned": -1, "credit_withdrawn": -1}.get(line["name"].split(".")[1], 0)
        * line["data"]["amount"]
        for line in rows(exported)
        if line.get("name", "").startswith("ledger.credit_w") or line.get("name") == "ledger.credit_returned.v1"
    )
    assert done.stdout.startswith("OK. ")
    assert f"org0: balance {sum(row) + withheld} nano-rupees, {row[1]} of it held." in done.stdout
    assert exporter.lent == 0


def test_every_fact_of_the_org_is_there_as_stored_and_nothing_of_others(
    exporter: Exporter, history: list, exported: bytes
) -> None:
    names = {fact.NAME for fact in EXPORTED}
    for org in ("org0", "org1", "org2"):
        ours = exported if org == "org0" else exporter(org)
        facts = [line for line in rows(ours) if "position" in line]
        expected = [(stream, event.NAME) for stream, event in history if getattr(event, "org", None) == org]
        assert [(line["stream"], line["name"]) for line in facts] == [each for each in expected if each[1] in names]
        assert [line["position"] for line in facts] == sorted(line["position"] for line in facts)
        for other in {"org0", "org1", "org2"} - {org}:
            assert other.encode() not in ours
        strangers = {stream for stream, event in history if getattr(event, "org", org) != org} - {
            stream for stream, event in history if getattr(event, "org", None) == org
        }
        assert not {line["stream"] for line in facts} & strangers
    assert [list(row) for row in rows(exporter("nobody"))] == [[*rows(exported)[0]], ["end"]]


def test_blocks_are_chained_to_the_one_after_the_last(exporter: Exporter, exported: bytes) -> None:
    blocks = [line for line in rows(exported) if "block" in line]
    assert [block["block"] for block in blocks] == list(range(1, len(blocks) + 1))
    assert len(blocks) > 5
    assert any(line["path"] is None for line in rows(exported) if "position" in line)
    early = exporter("org0", last=ist_day(START))
    chained = [line["block"] for line in rows(early) if "block" in line]
    last = max(line["position"] for line in rows(early) if "position" in line)
    assert chained[-1] < len(blocks)
    assert blocks[chained[-2] - 1]["first"] <= last <= blocks[chained[-2] - 1]["last"]


def test_days_follow_from_each_other(exporter: Exporter, history: list, exported: bytes, tmp_path: Path) -> None:
    days = sorted({ist_day(event.at) for _, event in history})
    assert len(days) > 5
    balance, facts = 0, []
    for first, last in ((days[0], days[2]), (days[2] + 1, days[-3]), (days[-3] + 1, days[-1])):
        part = exporter("org0", first=first, last=last)
        head, *_, end = rows(part)
        assert (head["from"], head["to"]) == (day_to_date(first).isoformat(), day_to_date(last).isoformat())
        assert head["opening"] == balance
        balance = end["end"]["closing"]
        facts += [line["position"] for line in rows(part) if "position" in line]
        assert verify(io.BytesIO(part))
    assert sorted(facts) == [line["position"] for line in rows(exported) if "position" in line]
    assert balance == rows(exported)[-1]["end"]["closing"]


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_byte_can_be_altered(exported: bytes, tmp_path: Path, place: float, bit: int) -> None:
    altered = bytearray(exported)
    altered[int(place * len(exported))] ^= 1 << bit
    with pytest.raises(ValueError, match=r"[Ll]ine \d+"):
        verify(io.BytesIO(bytes(altered)))


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(nth=st.integers(0, 1_000), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_byte_of_a_fact_can_be_altered_even_by_who_knows_the_format(
    exported: bytes, tmp_path: Path, nth: int, place: float, bit: int
) -> None:
    lines = exported.splitlines(keepends=True)
    sealed = [number for number, line in enumerate(lines) if b'"path":[' in line]
    number = sealed[nth % len(sealed)]
    altered = bytearray(lines[number])
    altered[int(place * len(altered))] ^= 1 << bit
    content = json.loads(lines[number])
    forged = resealed([*lines[:number], bytes(altered), *lines[number + 1 :]])
    if is_only_in_capitals(bytes(altered), content):
        return
    with pytest.raises(ValueError, match=r"[Ll]ine \d+"):
        verify(io.BytesIO(forged))


def is_only_in_capitals(altered: bytes, content: dict) -> bool:
    """Whether a hash of the path was merely written in capitals, which makes it no other hash."""
    with contextlib.suppress(ValueError):
        line = json.loads(altered)
        path = [[left.lower(), right.lower()] for left, right in line.get("path") or []]
        return {**line, "path": path} == content
    return False


@pytest.mark.parametrize("what", ["removed", "doubled", "swapped", "cheaper", "cut", "richer"])
def test_what_a_forger_would_do_is_found(exported: bytes, tmp_path: Path, what: str) -> None:
    lines = exported.splitlines(keepends=True)
    settled = next(n for n, line in enumerate(lines) if b"request_settled" in line)
    match what:
        case "removed":
            del lines[settled]
        case "doubled":
            lines.insert(settled, lines[settled])
        case "swapped":
            lines[settled - 1], lines[settled] = lines[settled], lines[settled - 1]
        case "cheaper":
            cost = json.loads(lines[settled])["data"]["cost"]
            lines[settled] = lines[settled].replace(b'"cost":%d' % cost, b'"cost":%d' % (cost - 1))
        case "cut":
            del lines[-1]
        case "richer":
            head = json.loads(lines[0])
            lines[0] = json.dumps(head | {"opening": 5}).encode() + b"\n"
    done = run(written(tmp_path, resealed(lines) if what != "cut" else b"".join(lines)))
    assert done.returncode == 1
    assert done.stderr.startswith("NOT OK. ")


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=MONEY_STEPS, size=st.integers(1, 90), sealed=st.integers(0, 100))
def test_any_history_can_be_exported_and_confirmed(
    new_database: Callable[..., str], migrated_template: str, tmp_path: Path, steps: list, size: int, sealed: int
) -> None:
    lines = lines_of(steps)
    exporter = Exporter(new_database(template=migrated_template))
    with psycopg.connect(exporter.url, autocommit=True) as connection:
        append(connection, lines[: len(lines) * sealed // 100])
        exporter.seal(events_max=size)
        append(connection, lines[len(lines) * sealed // 100 :])
    exporter.project()
    for org in ("org0", "org1"):
        assert verify(io.BytesIO(exporter(org)))


def test_a_log_that_lost_a_fact_is_not_exported_as_whole(
    new_database: Callable[..., str], migrated_template: str
) -> None:
    exporter = Exporter(new_database(template=migrated_template))
    with psycopg.connect(exporter.url, autocommit=True) as connection:
        append(connection, lines_of(LONG[:20]))
        exporter.project()
        connection.execute("alter table events disable trigger user")
        connection.execute("delete from events where topic = 'ledger.credit_added.v1'")
    with pytest.raises(AssertionError, match="the read model counted"):
        exporter("org0")
