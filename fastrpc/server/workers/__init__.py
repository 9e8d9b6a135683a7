"""Serve with several processes on one port, and keep them alive."""

from fastrpc.server.workers.supervisor import supervise

__all__ = ["supervise"]
