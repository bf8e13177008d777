"""The parts of the replica, one idea a module; services/replica.py puts them together and says how."""
