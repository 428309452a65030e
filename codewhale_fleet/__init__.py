"""CodeWhale Fleet: a local-first control plane for durable runs of many workers."""

__version__ = "0.1.0"
