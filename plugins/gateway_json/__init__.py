"""The JSON backend: files that a person can read, written so that a crash loses nothing acknowledged."""
