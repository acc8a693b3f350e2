"""A thousand webhooks at once: how long each waits for its 200, and whether every payment was credited exactly once.

python -m tests.bench.webhooks [--payments 1000] [--orgs 50] [--processes 2]
"""

import argparse
import asyncio
import hashlib
import hmac
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from domain.kernel.money import rupees
from domain.payments.billing import BillingProfile, books_subject, buyer_text
from domain.payments.document import Buyer
from tests.journeys.customers import Operator
from tests.product import Product

INR = 100


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--payments", type=int, default=1_000)
    parser.add_argument("--orgs", type=int, default=50)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="bharatrouter-bench-"))
    home.chmod(0o711)
    try:
        with Product(home / "home", settings={"WEB_PROCESSES": str(given.processes)}) as product:
            measure(product, payments=given.payments, orgs=given.orgs)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def measure(product: Product, *, payments: int, orgs: int) -> None:
    operator = Operator(product)
    buyers = [operator.customer(inr="0").org for _ in range(orgs)]
    bodies = [webhook(payment) for payment in paid(product, operator, buyers, payments=payments)]
    secret = str(product.running["razorpay_webhook_secrets"])
    before = cpu(product)
    began = time.monotonic()
    answers = asyncio.run(tell(product, bodies, secret))
    seconds = time.monotonic() - began
    used = {name: round(after - before.get(name, 0), 2) for name, after in cpu(product).items()}
    waits = sorted(wait for _, wait in answers)
    credited = sum(operator.app.available(org) for org in buyers)
    print(f"{payments} webhooks at once, {orgs} orgs: all answered in {seconds:.2f} s")
    print(f"statuses: { {status: sum(s == status for s, _ in answers) for status in {s for s, _ in answers}} }")
    print(f"p50 {waits[len(waits) // 2]:.2f} s, p99 {waits[len(waits) * 99 // 100]:.2f} s, longest {waits[-1]:.2f} s")
    print(f"CPU seconds: {used}")
    print(f"credited: {'exactly' if credited == payments * rupees(INR) else 'WRONG'}")
    operator.close()


def cpu(product: Product) -> dict[str, float]:
    """CPU seconds that each process of the product has used, PostgreSQL's together, and the whole machine's."""
    ticks = {"machine": sum(map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:4]))}
    names = {pid: name for name, pid in product.running["pids"].items()}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        name = names.get(int(folder.name)) or names.get(int(fields[1]))
        if name is not None:
            ticks[name] = ticks.get(name, 0) + int(fields[11]) + int(fields[12])
    return {name: count / 100 for name, count in ticks.items()}


def paid(product: Product, operator: Operator, buyers: Sequence[str], *, payments: int) -> list[dict[str, Any]]:
    """Payments of the buyers in turn that Razorpay has captured and told nobody about."""
    app, made = operator.app, []
    with httpx.Client(base_url=product.running["payments_url"], trust_env=False, timeout=60) as razorpay:
        razorpay.put("/_simulator/switches", json={"webhook_dropped": ["*"]}).raise_for_status()
        for n in range(payments):
            org = buyers[n % len(buyers)]
            sealed = app.vault.seal(books_subject(org), buyer_text(Buyer(name="Asha", state="29")))
            ordered, _ = app.till.order(
                org=org,
                profile=BillingProfile(buyer=sealed, state="29"),
                rupees=INR,
                promo="",
                receipt=app.new_id("topup"),
                at=app.clock(),
                by="bench",
            )
            made.append(razorpay.post("/_simulator/pay", json={"order": ordered.order}).json()["payment"])
    return made


def webhook(payment: dict[str, Any]) -> bytes:
    body = {"entity": "event", "event": "payment.captured", "contains": ["payment"], "created_at": int(time.time())}
    return json.dumps(body | {"payload": {"payment": {"entity": payment}}}).encode()


async def tell(product: Product, bodies: list[bytes], secret: str) -> list[tuple[int, float]]:
    """Status and seconds of each, all sent at once, each over a connection of its own."""

    async def one(body: bytes) -> tuple[int, float]:
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", product.port)
        writer.write(
            "POST /webhooks/razorpay HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n"
            f"x-razorpay-signature: {signature}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        status = int((await reader.readline()).split()[1])
        waited = time.monotonic() - began
        writer.close()
        return status, waited

    return await asyncio.gather(*(one(body) for body in bodies))


if __name__ == "__main__":
    main()
