"""An identity provider for agents, played on a real socket: it publishes its keys, and signs whatever a test asks for,
the wrong things included."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ISSUER, AUDIENCE = "https://issuer.test", "bharatrouter"


class Issuer:
    """`keys` are published by their kid; `fetches` counts how often they were asked for."""

    def __init__(self) -> None:
        self.keys: dict[str, ec.EllipticCurvePrivateKey] = {"k1": ec.generate_private_key(ec.SECP256R1())}
        self.fetches = 0
        self.body: bytes | None = None  # instead of the keys
        self.pause_seconds = 0.0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/keys"

    def __enter__(self) -> "Issuer":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def token(self, *, kid: str = "k1", header: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """A token signed with ES256 by the key `kid`; a claim or header that is None is left out."""
        signed = self.unsigned(header={"kid": kid} | dict(header or {}), **claims)
        r, s = decode_dss_signature(self.keys[kid].sign(signed.encode(), ec.ECDSA(SHA256())))
        return f"{signed}.{in_base64(r.to_bytes(32) + s.to_bytes(32))}"

    def signed_by_hash(self, secret: bytes, **claims: Any) -> str:
        """A token signed with HS256, as by somebody who takes the public key for a secret."""
        signed = self.unsigned(header={"alg": "HS256", "kid": "k1"}, **claims)
        return f"{signed}.{in_base64(hmac.digest(secret, signed.encode(), hashlib.sha256))}"

    def unsigned(self, *, header: Mapping[str, Any], **claims: Any) -> str:
        now = int(time.time())
        said = {"iss": ISSUER, "aud": AUDIENCE, "exp": now + 300, "scope": "models:invoke", "sub": "bot"} | claims
        parts = [{"alg": "ES256", "typ": "JWT"} | dict(header), said]
        kept = [{name: value for name, value in part.items() if value is not None} for part in parts]
        return ".".join(in_base64(json.dumps(part).encode()) for part in kept)

    def pem(self) -> bytes:
        return self.keys["k1"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def published(self) -> bytes:
        return json.dumps({"keys": [jwk(key, kid=kid) for kid, key in self.keys.items()]}).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.fetches += 1
                time.sleep(issuer.pause_seconds)
                body = issuer.published() if issuer.body is None else issuer.body
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def jwk(key: ec.EllipticCurvePrivateKey, **more: Any) -> dict[str, Any]:
    numbers = key.public_key().public_numbers()
    size = (key.key_size + 7) // 8
    x, y = (in_base64(number.to_bytes(size)) for number in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y} | more


def in_base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
