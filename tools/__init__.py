"""Programs for the people who build HybridGW; nothing here is shipped."""
