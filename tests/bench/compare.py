"""BharatRouter beside other gateways, and beside itself in other circumstances: the same calls through each of them,
one after the other, round by round, so that only figures of one run are ever compared.

    python -m tests.bench.compare --rounds 3 --out FILE [--only a,b] [--peers DIR] [--cases c64,s200] [--scale 1]
    python -m tests.bench.compare --table FILE...

Each line of FILE is one system in one round. The tables that are printed at the end are ready for RESULTS.md.
README.md beside this file says what the systems and the cases are.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.bench import peers
from tests.bench.peers import System
from tests.bench.product import RICH_INR, Product, product
from tests.bench.rig import Rig, calls_seen, cpu_seconds, rig, rss_mb

Row = dict[str, Any]

OURS = "bharatrouter"
DIRECT = "direct"
WHOLE = {  # calls in flight, seconds that are measured, seconds before them
    "c1": (1, 3.0, 0.7),
    "c16": (16, 3.0, 0.7),
    "c64": (64, 4.0, 1.0),
    "c256": (256, 3.0, 1.0),
}
STREAMS = {  # the model, streams at once, seconds to start them in, then as above
    "s50": ("mock-50c-50ms", 50, 2.4, 5.0, 2.5),
    "s200": ("mock-50c-10ms", 200, 0.5, 5.0, 1.0),
    "s1000": ("mock-50c-50ms", 1000, 2.4, 6.0, 3.0),
}
CASES = (*WHOLE, *STREAMS)
SLOW_FACTOR = 1.6
VARIANTS = {
    "bharatrouter": "hold and settle, durable",
    "bharatrouter-2p": "the same, two processes on both cores",
    "bharatrouter-rpm": "the same, with a rate window in Valkey",
    "bharatrouter-2rupees": "the same, ₹2 in the balance",
    "bharatrouter-1000orgs": "the same, 1,000 orgs",
}
UNLIMITED_RPM = 1_000_000_000
ORGS = 1_000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("compare.jsonl"))
    parser.add_argument("--only", type=_names, default=[], help="systems, with commas between")
    parser.add_argument("--cases", type=_names, default=CASES)
    parser.add_argument("--peers", type=Path, help="the folder where the other gateways are installed")
    parser.add_argument("--scale", type=float, default=1, help="of all times; below 1 only to see that all works")
    parser.add_argument("--table", type=Path, nargs="+", help="print the tables of these files, measure nothing")
    arguments = parser.parse_args()
    if arguments.table:
        print(tables([json.loads(line) for file in arguments.table for line in file.read_text().splitlines()]))
        return
    rows = []
    with rig() as made, ExitStack() as stack, arguments.out.open("a") as out:
        provider = made.start_provider()
        systems = [*_start_all(made, stack, provider, arguments.only, arguments.peers)]
        for system in systems:
            made.load(system.port, "-c", 16, "-n", 400, "-d", 15, "-w", 0, headers=system.headers, keys=_keys(system))
            system.settle()
        for number in range(1, arguments.rounds + 1):
            for system in systems if number % 2 else reversed(systems):
                row = measure(system, made, provider, cases=arguments.cases, scale=arguments.scale)
                rows.append({"system": system.name, "bills": system.bills, "round": number, "at": time.time(), **row})
                out.write(json.dumps(rows[-1]) + "\n")
                out.flush()
                print(f"round {number}  {summary(rows[-1])}", flush=True)
    print("\n" + tables(rows))


def _names(text: str) -> list[str]:
    return text.split(",")


def _start_all(
    made: Rig, stack: ExitStack, provider: int, only: Sequence[str], folder: Path | None
) -> Iterator[System]:
    """Every wanted system that can be started."""

    def wanted(name: str) -> bool:
        return not only or name in only

    yield System(name=DIRECT, bills="–", port=provider)
    if any(wanted(name) for name in VARIANTS):
        yield from _ours(stack.enter_context(product(made, provider_port=provider)), made, wanted)
    if folder is not None:
        yield from peers.found(folder.absolute(), made, provider_port=provider, wanted=only)


def _ours(running: Product, made: Rig, wanted: Callable[[str], bool]) -> Iterator[System]:
    """The variants; those that differ in their callers alone share one gateway."""
    rich = _write_keys(made, [running.mint(inr=RICH_INR)])
    many = _write_keys(made, [running.mint(inr=RICH_INR) for _ in range(ORGS)]) if wanted(f"{OURS}-1000orgs") else rich
    callers = {  # each case has an org of its own with ₹2, so that none of them runs dry
        f"{OURS}-2rupees": lambda: _write_keys(made, [running.mint(inr=2)]),
        f"{OURS}-1000orgs": lambda: many,
    }
    shapes = {f"{OURS}-2p": (2, 0), f"{OURS}-rpm": (1, UNLIMITED_RPM)}
    gateways = {}
    for name, bills in VARIANTS.items():
        if wanted(name):
            processes, rpm = shapes.get(name, (1, 0))
            shape = f"gateway-{processes}-{rpm}"
            if shape not in gateways:
                gateways[shape] = running.gateway(shape, processes=processes, rpm=rpm)
                running.wait_for(gateways[shape], rich.read_text().split()[0], name=shape)
            yield System(
                name=name,
                bills=bills,
                port=gateways[shape].port,
                pids=gateways[shape].pids,
                pids_beside=running.pids_beside,
                keys=callers.get(name, lambda: rich),
                settle=running.settle,
            )


def _write_keys(made: Rig, secrets: Sequence[str]) -> Path:
    path = made.folder / f"keys-{len([*made.folder.glob('keys-*')])}"
    path.write_text("\n".join(secrets) + "\n")
    return path


def _keys(system: System) -> Path | None:
    if system.keys is None:
        return None
    path = system.keys()
    time.sleep(1.1)  # a new key is known everywhere within a second
    return path


# Measuring


def measure(system: System, made: Rig, provider: int, *, cases: Sequence[str], scale: float) -> Row:
    """One round of a system: by case what the load generator says and what CPU went into it, and for all whole answers
    the CPU with all that is done after them."""
    row: Row = {"cases": {}}
    factor = scale * (SLOW_FACTOR if system.slow else 1)
    for kind in (WHOLE, STREAMS):
        before, calls = _cpu(system), 0
        for case in (case for case in kind if case in cases and not (system.slow and case == "s1000")):
            options = _options(case, factor)
            keys, began = _keys(system), _cpu(system)
            found = made.load(system.port, *options, headers=system.headers, keys=keys)
            found |= {"cpu_s": _cpu(system)[0] - began[0], "cpu_beside_s": _cpu(system)[1] - began[1]}
            if system.slow:
                _wait_for_quiet(provider)
            settled = system.settle() if not system.slow else None
            row["cases"][case] = found | {"settled_s": settled}
            calls += int(str(found["issued"]))
        if system.slow:
            system.settle()
        if calls and kind is WHOLE:
            row["calls"], (row["cpu_s"], row["cpu_beside_s"]) = calls, _since(before, _cpu(system))
    row["rss_mb"] = rss_mb(system.pids, peak=True)
    return row


def _options(case: str, factor: float) -> list[object]:
    if case in WHOLE:
        calls, seconds, before = WHOLE[case]
        return ["-c", calls, "-d", seconds * factor, "-w", before * factor]
    model, streams, ramp, seconds, before = STREAMS[case]
    return ["-s", "-m", model, "-c", streams, "-r", ramp * factor, "-d", seconds * factor, "-w", before * factor]


def _cpu(system: System) -> tuple[float, float]:
    """CPU seconds so far: of the system itself, and of the servers that it uses."""
    return cpu_seconds(system.pids, without=system.pids_beside), cpu_seconds(system.pids_beside)


def _since(before: tuple[float, float], after: tuple[float, float]) -> tuple[float, float]:
    return after[0] - before[0], after[1] - before[1]


def _wait_for_quiet(provider: int) -> None:
    """A slow system still works on what the load generator has left behind."""
    for _ in range(12):
        seen = calls_seen(provider)
        time.sleep(1)
        if calls_seen(provider) == seen:
            return


# Showing


def summary(row: Row) -> str:
    rates = "  ".join(f"{case} {found['rps']:,.0f}/s" for case, found in row["cases"].items())
    return f"{row['system']:22} {rates}  bad {_bad(row)}  {row['rss_mb']:.0f} MB"


def tables(rows: Sequence[Row]) -> str:
    """Markdown: whole answers, streams, and how many times ours is a peer's."""
    by_system: dict[str, list[Row]] = {}
    for row in rows:
        by_system.setdefault(row["system"], []).append(row)
    medians = {name: _Medians(each, by_system.get(DIRECT, [])) for name, each in by_system.items()}
    rounds = max(len(each) for each in by_system.values())
    parts = [f"Medians of {rounds} interleaved rounds.", _whole(medians), _streams(medians)]
    if OURS in medians:
        parts.append(_ratios(medians))
    return "\n\n".join(parts)


class _Medians:
    """The medians of one system over its rounds; None where it was not measured."""

    def __init__(self, rows: Sequence[Row], direct: Sequence[Row]) -> None:
        self.rows = rows
        self._direct = direct

    def of(self, *path: str) -> float | None:
        return _median(_at(row, ("cases", *path)) for row in self.rows)

    def added_ms(self, *path: str) -> float | None:
        """What the system adds to the direct way, in milliseconds; for the direct way itself all of it."""
        mine, direct = self.of(*path), _median(_at(row, ("cases", *path)) for row in self._direct)
        if mine is None or direct is None:
            return None
        return (mine if self.rows[0]["system"] == DIRECT else mine - direct) / 1000

    def share_of_direct(self, case: str) -> float | None:
        return _ratio(self.of(case, "rps"), _median(_at(row, ("cases", case, "rps")) for row in self._direct))

    def cpu(self, which: str) -> float | None:
        """CPU seconds for 1,000 whole calls."""
        return _median(1000 * row[which] / row["calls"] for row in self.rows if row.get("calls"))

    def spread(self, case: str) -> str:
        rates = [rate for row in self.rows if (rate := _at(row, ("cases", case, "rps"))) is not None]
        return f" ({min(rates):,.0f}–{max(rates):,.0f})" if len(rates) > 1 else ""


def _whole(medians: dict[str, _Medians]) -> str:
    lines = [
        "Whole answers. CPU: seconds for 1,000 calls, of the gateway and of the servers that it uses.",
        "",
        "| system | bills | req/s c=1 | c=16 | c=64 | c=256 | CPU gateway | CPU servers | added ms p50/p99 c=1 | c=16"
        " | c=64 | RSS MB | errors |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, of in medians.items():
        cells = [name, of.rows[0]["bills"]]
        cells += [_show(of.of(case, "rps")) + (of.spread(case) if case == "c64" else "") for case in WHOLE]
        cells += [_show(of.cpu("cpu_s"), 3), _show(of.cpu("cpu_beside_s"), 3)]
        cells += [_both(of.added_ms(case, "lat_us", "p50"), of.added_ms(case, "lat_us", "p99")) for case in WHOLE][:3]
        cells += [_show(_median(row["rss_mb"] for row in of.rows)), str(sum(_bad(row, WHOLE) for row in of.rows))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _streams(medians: dict[str, _Medians]) -> str:
    lines = [
        "Streams of 50 pieces. First content: milliseconds added to the direct way, p50/p99.",
        "",
        "| system | 50 at once, 50 ms: first content | 200 at once, 10 ms: streams/s | of direct | first content"
        " | 1,000 at once, 50 ms: streams/s | first content | errors |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, of in medians.items():
        first = {
            case: _both(of.added_ms(case, "ttfc_us", "p50"), of.added_ms(case, "ttfc_us", "p99")) for case in STREAMS
        }
        cells = [
            name,
            first["s50"],
            _show(of.of("s200", "rps"), 1),
            _show(of.share_of_direct("s200"), 3),
            first["s200"],
        ]
        cells += [_show(of.of("s1000", "rps"), 1), first["s1000"], str(sum(_bad(row, STREAMS) for row in of.rows))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _ratios(medians: dict[str, _Medians]) -> str:
    lines = [
        "One divided by the other; for CPU the other by the one. Above 1 the first is ahead.",
        "",
        "| one / other | c=1 | c=16 | c=64 | c=256 | 50 streams | 200 streams | 1,000 streams | CPU a call |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    ours = [name for name in (OURS, f"{OURS}-2p") if name in medians]
    pairs = [(name, OURS) for name in VARIANTS if name in medians and name != OURS]
    pairs += [(mine, peer) for mine in ours for peer in medians if peer != DIRECT and peer not in VARIANTS]
    for one, other in pairs:
        cells = [_show(_ratio(medians[one].of(case, "rps"), medians[other].of(case, "rps")), 2) for case in CASES]
        cells.append(_show(_ratio(medians[other].cpu("cpu_s"), medians[one].cpu("cpu_s")), 2))
        lines.append(f"| {one} / {other} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _bad(row: Row, cases: Sequence[str] | dict[str, Any] = CASES) -> int:
    return sum(found["bad"] + found["fail"] for case, found in row["cases"].items() if case in cases)


def _at(row: Row, path: Sequence[str]) -> float | None:
    found: Any = row
    for name in path:
        found = found.get(name) if found is not None else None
    return None if found is None else float(found)


def _median(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


def _show(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _both(one: float | None, other: float | None) -> str:
    return f"{_show(one, 2)}/{_show(other, 2)}" if one is not None else "–"


if __name__ == "__main__":
    main()
