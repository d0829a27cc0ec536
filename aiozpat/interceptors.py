"""The interceptors that need nothing installed.

Two more have extras: `aiozpat.observability.otel.Tracing` (`pip install 'aiozpat[otel]'`) and
`aiozpat.observability.prometheus.Metrics` (`pip install 'aiozpat[prometheus]'`).
"""

from aiozpat.observability.logs import Logging
from aiozpat.rpc.rate_limit import RateLimit

__all__ = ["Logging", "RateLimit"]
