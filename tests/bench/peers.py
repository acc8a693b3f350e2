"""The gateways that we compare ourselves with: where each is found in the folder of peers, and how it is set up to pass
the same calls to the same mock provider. README.md beside this file says how to fill the folder."""

import os
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from adapters.embedded import Postgres
from tests.bench.rig import MODELS, TESTED_CPU, NotUp, Rig, serves, set_aside, wait_until
from tests.machine import free_port

_KEY = "sk-bench-000000000001"


@dataclass
class System:
    """Something that answers chat calls on a port. `pids` are the roots of its processes, `pids_beside` those of the
    servers that it uses. `settle` waits until what it does after the answers is done."""

    name: str
    bills: str
    port: int
    pids: Sequence[int] = ()
    pids_beside: Sequence[int] = ()
    headers: Sequence[str] = ()
    keys: Callable[[], Path] | None = None
    settle: Callable[[], object] = lambda: None
    slow: bool = False
    cases: Sequence[str] = field(default_factory=tuple)


def found(folder: Path, rig: Rig, *, provider_port: int, wanted: Sequence[str]) -> Iterator[System]:
    """Starts the peers that are in the folder, if they are wanted, and yields each when it serves. One that does not
    is told and left out."""
    makers = {
        "nginx": _nginx,
        "rolter": _rolter,
        "smg": _smg,
        "portkey": _portkey,
        "litellm": _litellm,
        "litellm-db": _litellm_with_database,
    }
    for name, make in makers.items():
        if not wanted or name in wanted:
            try:
                system = make(folder, rig, provider_port)
            except NotUp as failure:
                print(f"{name} is left out: {failure}", flush=True)
                continue
            if system is not None:
                yield system


def _start(
    rig: Rig,
    name: str,
    command: Sequence[str | Path],
    *,
    port: int,
    bills: str,
    headers: Sequence[str] = (),
    environment: dict[str, str] | None = None,
    slow: bool = False,
    settle_seconds: float = 0,
) -> System:
    process = rig.start(name, command, cpus=[TESTED_CPU], environment=environment)
    wait_until(lambda: serves(port, headers), process, rig.log_of(name))
    return System(
        name=name,
        bills=bills,
        port=port,
        pids=[process.pid],
        headers=headers,
        settle=lambda: time.sleep(settle_seconds),
        slow=slow,
    )


def _nginx(_: Path, rig: Rig, provider_port: int) -> System | None:
    program, port = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"), free_port()
    if program is None:
        return None
    scratch = rig.folder / "nginx"
    scratch.mkdir()
    bodies = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    configuration = scratch / "nginx.conf"
    configuration.write_text(
        f"""
        {"user root;" if os.geteuid() == 0 else ""}
        worker_processes 1; daemon off; pid {scratch}/pid; error_log {scratch}/error.log; worker_rlimit_nofile 65536;
        events {{ worker_connections 8192; }}
        http {{
            access_log off; client_body_buffer_size 256k;
            {"".join(f"{kind}_temp_path {scratch}/{kind}; " for kind in bodies)}
            upstream provider {{
                server 127.0.0.1:{provider_port}; keepalive 2048; keepalive_requests 100000000;
            }}
            server {{
                listen 127.0.0.1:{port} backlog=4096; keepalive_requests 100000000;
                location / {{
                    proxy_pass http://provider; proxy_http_version 1.1; proxy_buffering off;
                    proxy_set_header Connection ""; proxy_set_header Authorization "Bearer sk-upstream";
                }}
            }}
        }}
        """
    )
    return _start(rig, "nginx", [program, "-c", configuration], port=port, bills="nothing (a plain proxy: the limit)")


def _rolter(folder: Path, rig: Rig, provider_port: int) -> System | None:
    program, port = folder / "v-misc/bin/rolter", free_port()
    if not program.exists():
        return None
    lines = [
        f'[server]\nhost = "127.0.0.1"\nport = {port}',
        f'[[providers]]\nname = "up"\nkind = "openai_compatible"\napi_base = "http://127.0.0.1:{provider_port}"',
        '[[virtual_keys]]\nkey = "sk-mock"\nname = "bench"\nmodels = []',
        # Anything that takes a request stands in for its ClickHouse.
        f'[logging]\nclickhouse_url = "http://127.0.0.1:{rig.start_provider()}"',
    ]
    for model in MODELS:
        lines.append(f'[[routes]]\nmodel = "{model}"\nstrategy = "round_robin"')
        lines.append(f'[[routes.targets]]\nprovider = "up"\nmodel = "{model}"')
        lines.append(f'[[model_prices]]\nmodel = "{model}"\ninput_per_mtok = 0.15\noutput_per_mtok = 0.6')
    configuration = rig.folder / "rolter.toml"
    configuration.write_text("\n".join(lines))
    return _start(
        rig,
        "rolter",
        [program, "gateway", "-c", configuration],
        port=port,
        bills="nothing; logs in batches",
        environment={"RUST_LOG": "warn"},
        settle_seconds=2,
    )


def _smg(folder: Path, rig: Rig, _: int) -> System | None:
    """It asks each worker for its model, so each model has a provider of its own."""
    program, port = folder / "v-misc/bin/smg", free_port()
    if not program.exists():
        return None
    workers = [f"http://127.0.0.1:{rig.start_provider(only=model)}" for model in MODELS]
    command: list[str | Path] = [
        program,
        "launch",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--worker-urls",
        *workers,
    ]
    command += ["--policy", "round_robin", "--log-level", "warn"]
    command += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())]
    return _start(rig, "smg", command, port=port, bills="nothing")


def _portkey(folder: Path, rig: Rig, provider_port: int) -> System | None:
    program, port = folder / "npm/node_modules/@portkey-ai/gateway/build/start-server.js", free_port()
    if not program.exists():
        return None
    return _start(
        rig,
        "portkey",
        ["node", program, f"--port={port}", "--headless"],
        port=port,
        bills="nothing",
        headers=["x-portkey-provider: openai", f"x-portkey-custom-host: http://127.0.0.1:{provider_port}/v1"],
        environment={"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"},
    )


def _litellm(folder: Path, rig: Rig, provider_port: int) -> System | None:
    return _start_litellm(
        folder,
        rig,
        provider_port,
        name="litellm",
        bills="nothing; computes the cost",
        key="sk-master",
        settle_seconds=3,
    )


def _litellm_with_database(folder: Path, rig: Rig, provider_port: int) -> System | None:
    """Keys and budgets in PostgreSQL, spend written from memory every ten seconds, as its documentation advises."""
    migrations = [*folder.glob("v-litellm/lib/python*/site-packages/litellm_proxy_extras/migrations/*/migration.sql")]
    if not migrations or not [*folder.glob("v-litellm/lib/python*/site-packages/prisma/client.py")]:
        return None
    server = Postgres(rig.folder / "litellm")
    server.start()
    assert server.process is not None
    rig.processes.append(server.process)
    wait_until(server.is_ready, server.process, server.log)
    for migration in sorted(migrations):
        with psycopg.connect(server.url) as connection:  # in one transaction, where nothing is built concurrently
            connection.execute(migration.read_text().replace("CONCURRENTLY", "").encode())
    user, _, query = server.url.partition("@")
    url = f"{user}@{query.partition('host=')[2]}/{query[1:].partition('?')[0]}?connection_limit=10"
    system = _start_litellm(
        folder,
        rig,
        provider_port,
        name="litellm-db",
        bills="seconds later, in batches",
        key="sk-master",
        settle_seconds=15,
        general=f', database_url: "{url}", database_connection_pool_limit: 10, proxy_batch_write_at: 10',
        environment={"DATABASE_URL": url, "DISABLE_SCHEMA_UPDATE": "true", "LITELLM_SALT_KEY": "sk-salt"},
    )
    if system is not None:
        _mint_litellm_key(system.port)
        system.headers = [f"Authorization: Bearer {_KEY}"]
        system.pids_beside = [server.process.pid, *set_aside(system.pids[0], "prisma_engine")]
    return system


def _start_litellm(
    folder: Path,
    rig: Rig,
    provider_port: int,
    *,
    name: str,
    bills: str,
    key: str,
    settle_seconds: float,
    general: str = "",
    environment: dict[str, str] | None = None,
) -> System | None:
    program, port = folder / "v-litellm/bin/litellm", free_port()
    if not program.exists():
        return None
    cost = "model_info: {input_cost_per_token: 0.00000015, output_cost_per_token: 0.0000006}"
    base = f'api_base: "http://127.0.0.1:{provider_port}/v1", api_key: sk-upstream'
    lines = ["model_list:"]
    lines += [
        f"  - {{model_name: {model}, litellm_params: {{model: openai/{model}, {base}}}, {cost}}}" for model in MODELS
    ]
    lines += ["litellm_settings: {request_timeout: 60, num_retries: 0}"]
    lines += [f"general_settings: {{master_key: sk-master{general}}}"]
    configuration = rig.folder / f"{name}.yaml"
    configuration.write_text("\n".join(lines))
    command: list[str | Path] = [program, "--config", configuration, "--host", "127.0.0.1", "--port", str(port)]
    engine = folder / "prisma_engine_shim.js"
    return _start(
        rig,
        name,
        [*command, "--num_workers", "1", "--telemetry", "False"],
        port=port,
        bills=bills,
        headers=[f"Authorization: Bearer {key}"],
        environment={
            "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_DONT_SHOW_FEEDBACK_BOX": "true",
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            **({"PRISMA_QUERY_ENGINE_BINARY": str(engine), "SHIM_NPM": str(folder / "npm")} if engine.exists() else {}),
            **(environment or {}),
        },
        slow=True,
        settle_seconds=settle_seconds,
    )


def _mint_litellm_key(port: int) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/key/generate",
        f'{{"key": "{_KEY}", "max_budget": 1000000, "models": []}}'.encode(),
        {"authorization": "Bearer sk-master", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as reply:
        reply.read()
