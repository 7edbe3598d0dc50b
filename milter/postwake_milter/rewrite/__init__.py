"""The rewriting engine: which bytes of a message change for tracking, and the proof that no others do."""
