"""Checks a ledger that BharatRouter exported, without BharatRouter: `python3 verify_ledger.py ledger.jsonl`.

Every fact is hashed and led to the root of its block, blocks are chained, holds followed to their ends, costs computed
from usage and rates, the balance added up (in nano-rupees). Exits with 1 at the first thing that is not so.
"""

import hashlib
import json
import struct
import sys
from datetime import datetime
from typing import Any

SIGNS = {"credit_granted": 1, "credit_added": 1, "credit_expired": -1, "credit_withdrawn": -1}
CLASSES = ("input", "cached_input", "cache_write", "output")
# Classes that may have a rate of their own, and whose rate counts where they have none.
RARE = {"cache_write_hour": "cache_write", "audio_input": "input", "cached_audio_input": "cached_input"}
RARE |= {"audio_output": "output", "seconds": "", "characters": ""}


def must(true: bool, otherwise: str) -> None:
    if not true:
        raise ValueError(otherwise)


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def check_block(block: dict[str, Any], before: dict[str, Any]) -> None:
    follows = not before or (block["block"], block["previous"]) == (before["block"] + 1, before["header"])
    must(follows and block["first"] > before.get("last", 0), "the block does not follow from the one before")
    bounds = struct.pack(">qqqq", block["block"], block["first"], block["last"], block["count"])
    header = sha256(b"\2", bounds, bytes.fromhex(block["root"]), bytes.fromhex(block["previous"]))
    must(header.hex() == block["header"], "the header is not that of the block")


def check_fact(fact: dict[str, Any], stored: bytes, block: dict[str, Any]) -> None:
    parts = fact["stream"].encode(), fact["name"].encode(), stored
    node = sha256(b"\0", struct.pack(">qqIII", fact["position"], fact["version"], *map(len, parts)), *parts)
    must(node.hex() == fact["leaf"], "the fact was altered: its hash is another")
    at = datetime.fromisoformat(fact["at"].replace("Z", "+00:00")) - datetime.fromisoformat("1970-01-01T00:00:00+00:00")
    must((at.days * 86_400 + at.seconds) * 10**6 + at.microseconds == fact["data"]["at"], "the moment is another")
    for side, partner in fact["path"] or ():
        other = bytes.fromhex(partner)
        node = sha256(b"\1", *{"left": (other, node), "right": (node, other)}[side])
    sealed = block and block["first"] <= fact["position"] <= block["last"] and node.hex() == block["root"]
    must(sealed or (fact["path"] is None and fact["position"] > block.get("last", 0)), "the fact is not in the block")


def check_money(fact: dict[str, Any], first: dict[str, Any], sums: dict[str, int], holds: dict[str, int]) -> None:
    stream, kind, data = fact["stream"], fact["name"].split(".")[1], fact["data"]
    if stream.startswith("account:"):
        sums["account"] += 1
        if first["from"] == first["to"] is None:
            must(fact["version"] == sums["account"], "a fact of the account is missing")
            must(data.get("spent", 0) == sums["spent"], "the costs are not what was spent by then")
        sums["balance"] += SIGNS.get(kind, 0) * data["amount"]
    elif kind == "credit_held":
        holds[stream] = data["amount"]
    elif stream in holds and kind == "hold_extended":
        holds[stream] += data["amount"]
    elif kind in ("request_settled", "hold_released", "hold_expired"):
        held = holds.pop(stream, data["held"] if first["from"] else None)
        must(held == data["held"], "the ending does not fit the hold")
        if kind == "request_settled":
            usage, rates, cost = data["usage"], data["rates"], data["cost"]
            worth = rates.get("per_request", 0) + sum(usage.get(each, 0) * rates[each] for each in CLASSES)
            worth += sum(usage.get(each, 0) * rates.get(each, rates.get(like, 0)) for each, like in RARE.items())
            free = data.get("shortfall", 0) + data.get("waived", 0)
            must(cost + free == worth, "the cost is not the usage times the rates")
            must(0 <= cost <= held, "the cost is more than was held")
            sums["spent"], sums["balance"] = sums["spent"] + cost, sums["balance"] - cost
    must(sums["balance"] >= 0, "the balance is below zero")


def verify(path: str) -> str:
    """What was found right. Raises ValueError with the line and what is wrong there."""
    first, block, end = dict[str, Any](), dict[str, Any](), dict[str, Any]()
    sums, holds = dict.fromkeys(("lines", "sealed", "account", "spent", "balance"), 0), dict[str, int]()
    digest, position, number = hashlib.sha256(), 0, 0
    with open(path, "rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                must(raw.endswith(b"}\n") and not end, "the file does not end with its last line")
                line = json.loads(raw)
                if number == 1:
                    must(line["ledger"] == "bharatrouter-ledger-1", "no ledger that this script knows")
                    must(line["from"] or line["opening"] == 0, "the balance does not begin at nothing")
                    first, sums["balance"] = line, line["opening"]
                elif "end" in line:
                    end = {"lines": sums["lines"], "closing": sums["balance"], "sha256": digest.hexdigest()}
                    must(end == line["end"], f"the lines make {end}")
                elif "block" in line:
                    check_block(line, block)
                    block = line
                else:
                    must(line["position"] > position and line["data"]["org"] == first["org"], "not the next fact")
                    check_fact(line, raw.partition(b',"data":')[2][:-2], block)
                    check_money(line, first, sums, holds)
                    position, sums["lines"] = line["position"], sums["lines"] + 1
                    sums["sealed"] += line["path"] is not None
            except Exception as error:
                raise ValueError(f"Line {number}: {type(error).__name__}: {error}") from error
            digest.update(raw)
    must(bool(end), f"The file breaks off after line {number}.")
    return (
        f"{sums['lines']} facts of {first['org']}, {sums['sealed']} of them sealed. Balance {sums['balance']}"
        f" nano-rupees, {sum(holds.values())} of it held. Newest block {block.get('block')}: {block.get('header')}"
    )


if __name__ == "__main__":
    try:
        sys.stdout.write(f"OK. {verify(sys.argv[1])}\n")
    except (ValueError, OSError) as error:
        sys.exit(f"NOT OK. {error}")
