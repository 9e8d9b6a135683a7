"""Time whole calls over the loopback device, through the public API."""
