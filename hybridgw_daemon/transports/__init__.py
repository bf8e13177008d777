"""Carriers without logic: the local API and the links to peers."""
