"""Putting Postwake beside an MTA, taking it out again, and finding out whether everything is right.

=====================  ==================================================================
:mod:`.main_cf`        main.cf as bytes: where a parameter stands, edits that touch nothing else
:mod:`.milter_list`    a list of milters: which is ours, which sign, where ours belongs
:mod:`.postfix`        what ``postconf`` says about one instance
:mod:`.journal`        what setup changed, so that undo can take it back
:mod:`.plan`           the steps of a setup; each can say what it would do, do it, and undo it
:mod:`.setup_postfix`  which steps a Postfix needs
:mod:`.setup_exim`     the lines an Exim needs
:mod:`.trial`          a test message and what became of it
:mod:`.check`          every check, its finding and what to do
=====================  ==================================================================
"""
