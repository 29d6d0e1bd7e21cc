"""The commands `serve`, `ps`, `stop`, `logs` and `service` run a model as a server."""

from plm_edge.cli.serve.command import serve
from plm_edge.cli.serve.logs import logs
from plm_edge.cli.serve.ps import ps
from plm_edge.cli.serve.service import service
from plm_edge.cli.serve.stop import stop

__all__ = ["logs", "ps", "serve", "service", "stop"]
