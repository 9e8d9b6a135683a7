"""Serve with several processes on one port, and keep them alive."""

from fastrpc.server.workers.herald import Announcement, make_announcement
from fastrpc.server.workers.supervisor import supervise

__all__ = ["Announcement", "make_announcement", "supervise"]
