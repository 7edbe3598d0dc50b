"""A private mail world on loopback: Postfix, servers that stand for the internet, Postwake's services, readers.

Used by ``make demo``, the tests and the benchmarks; not installed. Everything lives under one directory and listens on
loopback only; the machine's own Postfix is not touched.
"""
