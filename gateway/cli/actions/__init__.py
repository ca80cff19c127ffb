"""What the commands do. Imported when a command runs, not before."""
