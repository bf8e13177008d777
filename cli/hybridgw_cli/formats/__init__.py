"""Files people have, read into documents, and documents written back into files. No network and no terminal here."""
