"""The milter: what is tracked and why not, the rewriting engine, and the daemon Postfix talks to.

=====================  =================================================================================
:mod:`.policy`         which mail is ours to track: where it came from, whose domain sends it
:mod:`.rewrite`        the engine: message in, message out, byte-exact but for links and pixels
:mod:`.mint`           the signed URLs of one message
:mod:`.handle`         one whole message: policy, rewriting, the event for the store. Pure
:mod:`.pool`           the native threads that do it (lxml crashes on libmilter's own threads)
:mod:`.adapter`        the only file that imports pymilter
:mod:`.worker`         one worker process
:mod:`.daemon`         the socket, the worker processes, signals, metrics
=====================  =================================================================================
"""
