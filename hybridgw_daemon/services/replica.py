"""The replica: one space's documents and logs over a database. The parts are in replication/, one idea a module.

How it hangs together (protocol/SPEC.md, "Merge" and "Logs"):
    write     merge local operations into documents, keep them as pending under a batch number fixed now  (writing.py)
    seal      each pending number becomes exactly one signed batch  (writing.py)
    receive   keep verified batches, gapless per log; what differs from a batch held is evidence  (receiving.py)
    drain     apply every batch whose turn it is: causal, in clock bounds, with its key and records known  (applying.py)
    learn     control records close logs: batches off the closed chain are void  (repairing.py, branches.py), the
              documents are built again without them  (rebuilding.py)
    repair    our own log was closed: what is void of ours is sealed again, first thing, in a new log  (repairing.py)
    import    what is kept aside of another log (aside.py) is sealed again as our own, if a person says  (importing.py)
    open_log  the logs of this device: the first one, another one for a copy, none of an old space  (own_logs.py)

Each part is a class over those it calls, and calls nothing above itself:
    Base < Writer < Applier < Rebuilder < Receiver, and Rebuilder < LogOwner < Repairer < Importer

Everything here runs on the writer's thread and keeps its own cache in `tx.memo` (state.py), which a rollback empties.
"""

from __future__ import annotations

from .replication.importing import Importer
from .replication.receiving import DECIDE, Receiver
from .replication.values import (
    NO_KEYS,
    PROVISIONAL,
    SECRET_COLLECTIONS,
    End,
    Incoming,
    Keys,
    Sealer,
    Stored,
    Written,
)

__all__ = [  # a replica, and the values that its callers give and get
    "DECIDE",
    "NO_KEYS",
    "PROVISIONAL",
    "SECRET_COLLECTIONS",
    "End",
    "Incoming",
    "Keys",
    "Replica",
    "Sealer",
    "Stored",
    "Written",
]


class Replica(Receiver, Importer):
    """One space's replica over a database; every method takes the open transaction."""
