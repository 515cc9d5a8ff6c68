"""``python -m demo``: authsvc, the adapter and a local S3 with its STS, until Ctrl-C."""

from __future__ import annotations

import signal
import socket
import sys
import time
from pathlib import Path

import click

from authsvc.common.settings import load
from authsvc.server.config import Settings
from authsvc.server.development import mint_token
from demo.children import POLL_SECONDS, ChildFailedError, Children
from demo.commands import what_to_try
from demo.layout import Layout
from demo.stopping import Stop

TOKEN_TTL_SECONDS = 12 * 3600


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--folder", type=click.Path(path_type=Path), default=Path("var/demo"))
@click.option("--authsvc-port", default=50051, show_default=True)
@click.option("--adapter-port", default=8000, show_default=True)
@click.option("--s3-port", default=5555, show_default=True)
@click.option("--metrics-port", default=9464, show_default=True)
def main(
    folder: Path, authsvc_port: int, adapter_port: int, s3_port: int, metrics_port: int
) -> None:
    """Run all parts on this machine, and print commands to try. Ctrl-C stops the demo."""
    layout = Layout(folder, authsvc_port, adapter_port, s3_port, metrics_port)
    signals = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)  # the terminal was closed; under nohup the demo continues
    stop = Stop(signals)
    try:
        _check_ports(layout)
        with Children() as children:
            _start(layout, children, stop)
            if not stop.is_set:
                _say("\n" + what_to_try(layout))
            while not stop.wait(POLL_SECONDS * 10):
                children.check()
            _say("\nStopping.")
    except (ChildFailedError, PortTakenError) as error:
        click.echo(f"demo: {error}", err=True)
        sys.exit(1)


class PortTakenError(Exception):
    """Another program listens on a port that the demo needs."""


def _check_ports(layout: Layout) -> None:
    ports = {
        "authsvc": layout.authsvc_port,
        "the adapter": layout.adapter_port,
        "S3": layout.s3_port,
        "metrics": layout.metrics_port,
    }
    for name, port in ports.items():
        with socket.socket() as probe:
            # As servers do: lingering connections of an earlier run do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                raise PortTakenError(
                    f"port {port} of 127.0.0.1, for {name}, is taken: "
                    "stop the program that uses it, or choose another (`python -m demo --help`)"
                ) from None


def _start(layout: Layout, children: Children, stop: Stop) -> None:
    layout.write()
    steps = (
        ("s3", "a local S3 and STS with 32 buckets", ("demo.s3", "--port", str(layout.s3_port))),
        ("authsvc", "authsvc", ("authsvc", "serve", "--config", str(layout.authsvc_config))),
        (
            "adapter",
            "the adapter",
            ("mcp_adapter", "serve", "--config", str(layout.adapter_config)),
        ),
    )
    for number, (name, title, arguments) in enumerate(steps, 1):
        if stop.is_set:
            return
        _say(f"[{number}/{len(steps)}] starting {title} …")
        began = time.monotonic()
        children.start(name, *arguments, log=layout.log(name))
        _say(f"      ready after {time.monotonic() - began:.1f} s")
    _write_token(layout)


def _write_token(layout: Layout) -> None:
    settings = load(Settings, layout.authsvc_config)
    token = mint_token(settings, {"sub": "ada"}, ttl_seconds=TOKEN_TTL_SECONDS, now=time.time())
    layout.token.touch(mode=0o600)
    layout.token.write_text(token + "\n", encoding="ascii")


def _say(text: str) -> None:
    click.echo(text)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
