"""The store: one SQLite file, written by every daemon, read by everybody.

===================  ==============================================================================
:mod:`.schema`       tables and people's views, as migrations
:mod:`.connection`   opening the file: pragmas, schema check, the write lock
:mod:`.transaction`  one write transaction: dictionaries and rollups that commit with it
:mod:`.accepted`     the milter's events → message, delivery, event
:mod:`.hits`         the pixel server's events → event, engagement
:mod:`.writer`       the one writing thread of a process, committing in groups
:mod:`.spool`        where events wait while the store cannot be written
:mod:`.recorder`     writer and spool together: what the daemons call
:mod:`.queries`      what reports, metrics and the console read
===================  ==============================================================================

``event`` is append-only and the source of truth; ``delivery``, ``engagement`` and ``rollup`` are projections
written in the same transaction. docs/schema.md describes the file for those who open it with their own tools.
"""
