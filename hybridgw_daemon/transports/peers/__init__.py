"""Links to other machines: one driver for relay and LAN, and pairing."""
