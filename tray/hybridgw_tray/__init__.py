"""The tray icon; not written yet."""
