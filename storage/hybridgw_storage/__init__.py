"""The SQLite engine that daemon and relay share: one writer with group commit, readers beside it, migrations."""
