"""A product of a few lines, for tests of the supervisor: every subcommand is a real process that notes its
life in a file and obeys real signals, and none does any work. STAND_IN_FAILS names a subcommand that
fails.
"""

import json
import os
import signal
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        names = ("DATABASE_URL", "REDIS_URL", "BR_SIMULATOR_URL", "BHARATROUTER_HOME", "BR_RAZORPAY_URL")
        names += ("BR_RAZORPAY_KEY_ID", "BR_RAZORPAY_KEY_SECRET", "BR_RAZORPAY_WEBHOOK_SECRETS")
        names += ("BR_GITHUB_URL", "BR_GITHUB_API_URL", "BR_GITHUB_CLIENT_SECRET")
        names += ("BR_GOOGLE_URL", "BR_GOOGLE_CLIENT_ID", "BR_GOOGLE_CLIENT_SECRET")
        body = json.dumps({"pid": os.getpid()} | {name: os.environ.get(name) for name in names}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Inherited(HTTPServer):
    def __init__(self, fd: int) -> None:
        super().__init__(("", 0), Answer, bind_and_activate=False)
        self.socket.close()
        self.socket = socket.socket(fileno=fd)


def note(what: str) -> None:
    with (Path(os.environ["BHARATROUTER_HOME"]) / "notes").open("a") as notes:
        notes.write(f"{what}\n")


def main() -> None:
    command, *arguments = sys.argv[1:]
    options = dict(zip(arguments[::2], arguments[1::2], strict=False))
    note(f"{command} begins")
    if command == os.environ.get("STAND_IN_FAILS"):
        sys.exit(f"{command} cannot go on")

    def end(*_: object) -> None:
        if command == os.environ.get("STAND_IN_LINGERS"):
            return
        note(f"{command} ends")
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    match command:
        case "migrate":
            pass
        case "dev-key":
            sys.stdout.write(json.dumps({"key": "br-stand-in", "org": "org_1", "balance_inr": "100"}))
        case "serve":
            Inherited(int(options["--fd"])).serve_forever()
        case "simulate":
            server = HTTPServer(("127.0.0.1", int(options["--port"])), Answer)
            draft = Path(options["--announce"] + ".draft")
            draft.write_text(f"http://127.0.0.1:{server.server_port}\n")
            draft.rename(options["--announce"])
            server.serve_forever()
        case _:
            while True:
                time.sleep(60)


main()
