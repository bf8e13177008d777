"""The daemon: one person's replica on one machine, served to local programs and kept in step with other devices."""
