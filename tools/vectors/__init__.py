"""Writes the golden bytes of the protocol: protocol/vectors/*.json.

Each module of this package that has `vectors()` makes one file of the same name. `vectors()` takes nothing and returns
what the file holds: dicts with text keys, lists, text, numbers, booleans, None and bytes (written as lower-case hex).
It uses fixed keys, nonces and times, so that the same code always writes the same bytes. The usual shape is

    {"about": "what these bytes are, and the section of protocol/SPEC.md that says so",
     "cases": [{"name": "...", ...}],                         accepted, with every input that led to the bytes
     "refused": [{"name": "...", "bytes": b"...", "code": "bad_frame"}]}    the code of the error class
"""
