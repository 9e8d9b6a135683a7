"""Speak other tongues on the server's port: HTTP, WebSocket, JSON-RPC, msgpack-rpc.

Whatever is spoken, one session of the server stands behind it: a translator turns the
messages of others into our frames and our frames into theirs. So limits, interceptors,
deadlines, streams and errors are the same by every door.

Nothing here is imported until somebody knocks.
"""
