"""Talk to the HybridGW daemon of this machine: find it, ask it, follow what changes.

    with hybridgw_client.connect() as client:
        client.put("tasks", "milk", {"title": "Buy milk"})
        for document in client.documents("tasks"):
            ...

Only the standard library is used, and one connection by one thread at a time. Errors are those of
`hybridgw_protocol.errors`: `NotRunning` when no daemon serves the profile, `NotFound`, `SecretsLocked` and so on.
"""

from .client import Client, Event, connect
from .profile import Profile, find_profile

__all__ = ["Client", "Event", "Profile", "connect", "find_profile"]
