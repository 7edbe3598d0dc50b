"""The ``postwake`` command: thin, one verb, one library call. Imports every room; nobody imports it."""
