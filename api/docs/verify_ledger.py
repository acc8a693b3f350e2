"""Checks a ledger that BharatRouter exported, without BharatRouter: `python3 verify_ledger.py ledger.jsonl`.

Every fact is hashed and led to the root of its block, blocks are chained, holds followed to their ends, costs computed
from usage and rates, the balance added up (in nano-rupees). Exits with 1 at the first thing that is not so.
"""

import hashlib
import json
import struct
import sys
from collections.abc import Iterable
from typing import Any

SIGNS = {"credit_granted": 1, "credit_added": 1, "credit_expired": -1, "credit_withdrawn": -1}


def must(true: bool, otherwise: str) -> None:
    if not true:
        raise ValueError(otherwise)


def sha256(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


def check_block(block: dict[str, Any], before: dict[str, Any]) -> None:
    follows = not before or (block["block"], block["previous"]) == (before["block"] + 1, before["header"])
    bounds = struct.pack(">qqqq", block["block"], block["first"], block["last"], block["count"])
    header = sha256(b"\2", bounds, bytes.fromhex(block["root"] + block["previous"]))
    must(header == block["header"] and follows and block["first"] > before.get("last", 0), "the block does not follow")


def check_fact(fact: dict[str, Any], stored: bytes, block: dict[str, Any]) -> None:
    parts = fact["stream"].encode(), fact["name"].encode(), stored
    node = sha256(b"\0", struct.pack(">qqIII", fact["position"], fact["version"], *map(len, parts)), *parts)
    for left, right in fact["path"] or ():
        node = sha256(b"\1", bytes.fromhex((left or node) + (right or node)))
    sealed = bool(block) and block["first"] <= fact["position"] <= block["last"] and node == block["root"]
    must(sealed or (fact["path"] is None and fact["position"] > block.get("last", 0)), "the fact is not in the block")


def check_money(fact: dict[str, Any], *, whole: bool, sums: dict[str, int], holds: dict[str, int]) -> None:
    stream, kind, data = fact["stream"], fact["name"].split(".")[1], fact["data"]
    if stream.startswith("account:"):
        sums["account"] += 1
        so_far = fact["version"], data.get("spent", 0)
        must(so_far == (sums["account"], sums["spent"]) or not whole, "a fact of the account is missing, or a cost")
        sums["balance"] += SIGNS.get(kind, 0) * data["amount"]
    elif kind == "credit_held" or (kind == "hold_extended" and stream in holds):
        holds[stream] = holds.get(stream, 0) + data["amount"]
    elif kind in ("request_settled", "hold_released", "hold_expired"):
        must(data["held"] == holds.pop(stream, None if whole else data["held"]), "the ending does not fit the hold")
    if kind == "request_settled":
        rates, cost = data["rates"], data["cost"]
        worth = rates.get("per_request", 0) - data.get("shortfall", 0) - data.get("waived", 0)
        for used, count in data["usage"].items():
            if used not in ("reasoning", "unknown", "source"):  # what has no rate of its own costs what its like does
                worth += count * rates.get(used, rates.get(used.replace("audio_", "").removesuffix("_hour"), 0))
        must(0 <= cost <= data["held"] and cost == worth, "the cost is not usage times rates, or more than was held")
        sums["spent"], sums["balance"] = sums["spent"] + cost, sums["balance"] - cost
    must(sums["balance"] >= 0, "the balance is below zero")


def verify(lines: Iterable[bytes]) -> str:
    """What was found right. Raises ValueError with the line and what is wrong there."""
    first, block, line, holds = dict[str, Any](), dict[str, Any](), dict[str, Any](), dict[str, int]()
    sums, digest, number = {"account": 0, "spent": 0, "balance": 0, "position": 0}, hashlib.sha256(), 0
    try:
        for number, raw in enumerate(lines, 1):
            must(raw.endswith(b"}\n") and "end" not in line, "the file does not end with its last line")
            line = json.loads(raw)
            if number == 1:
                must(line["ledger"] == "bharatrouter-ledger-2", "no ledger that this script knows")
                must(bool(line["from"]) or line["opening"] == 0, "the balance does not begin at nothing")
                first, sums["balance"] = line, line["opening"]
            elif "block" in line:
                check_block(line, block)
                block = line
            elif "position" in line:
                must(line["position"] > sums["position"] and line["data"]["org"] == first["org"], "not the next fact")
                check_fact(line, raw.partition(b',"data":')[2][:-2], block)
                check_money(line, whole=first["from"] is first["to"] is None, sums=sums, holds=holds)
                sums["position"] = line["position"]
            else:
                end = {"closing": sums["balance"], "sha256": digest.hexdigest()}
                must(line == {"end": end}, f"the lines make {end}")
            digest.update(raw)
        must("end" in line, "the file breaks off")
    except Exception as error:
        raise ValueError(f"Line {number}: {type(error).__name__}: {error}") from error
    last = f"Newest block {block.get('block')}: {block.get('header')}"
    return f"{first['org']}: balance {sums['balance']} nano-rupees, {sum(holds.values())} of it held. {last}"


if __name__ == "__main__":
    try:
        with open(sys.argv[1], "rb") as file:
            sys.stdout.write(f"OK. {verify(file)}\n")
    except ValueError as error:
        sys.exit(f"NOT OK. {error}")
