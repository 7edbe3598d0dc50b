"""The private side: reports for people."""
