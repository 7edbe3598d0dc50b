"""Why a message or a part went out as it came: every name there is, with the sentence that ``postwake explain`` says.

The names are stored and counted, so they never change their meaning. Reasons why a single link was left alone are in
:mod:`postwake_milter.rewrite.links`; those of an HTML part's own check are listed here with the rest.
"""

from __future__ import annotations

UNTRACKED_REASONS: dict[str, str] = {
    # The message as a whole: nothing changes, control fields included.
    "already-stamped": "It carries X-Postwake-ID: it has been through Postwake before, and is tracked once.",
    "dkim-signed": "It is already DKIM-signed, and any change would break the signature. "
    "Put Postwake before the signer, or set tracking.dkim_signed if the signature does not matter.",
    "arc-sealed": "It carries an ARC seal, which any change would break.",
    "signed": "It is signed (multipart/signed): the signature covers every byte.",
    "encrypted": "It is encrypted (multipart/encrypted): there is nothing to read.",
    "smime": "It is signed or encrypted with S/MIME (application/pkcs7-mime).",
    "inline-pgp": "Its text holds an inline PGP message, signed or encrypted.",
    # The message as a whole: the body stays, control fields are removed.
    "auto-replied": "It is an automatic reply (Auto-Submitted, Precedence or X-Autoreply says so).",
    "auto-generated": "It says Auto-Submitted: auto-generated, and no header field of its own asks for tracking.",
    "delivery-report": "It is a report: a bounce, a disposition notification or a complaint "
    "(multipart/report, a part of such a kind, or X-Failed-Recipients).",
    "privacy-off": "Its X-Track-Privacy field says off.",
    "disabled-by-header": "Its own header fields turn opens and clicks off.",
    "tracking-off": "Opens, clicks and unsubscribing are all off for this sender.",
    "too-large": "It is larger than milter.max_message_bytes.",
    "no-html": "It has no HTML part to track, and links in plain text are not rewritten for this sender.",
    "nothing-to-track": "It has no link that may be rewritten, and no pixel was wanted or had a place.",
    "ambiguous-structure": "Its MIME structure reads differently in different mail programs: a boundary is used twice, "
    "or fields that decide it disagree.",
    "mime-too-deep": "Its multiparts are nested more than 32 deep.",
    "mime-too-many-parts": "It has more than 1000 parts.",
    "malformed-mime": "It says multipart but gives no boundary, or gives a multipart a transfer encoding.",
    "structure-check-failed": "The rewritten message did not take apart into the same parts, so the original went out.",
    # A part.
    "html-not-verifiable": "The HTML, edited, did not prove to be the same document but for our edits.",
    "pixel-not-verifiable": "No place for the pixel proved to leave the document the same; the links were wrapped.",
    "mark-not-verifiable": "A sending service's mark in the HTML, such as {{ses:openTracker}}, stayed: taking it out "
    "did not prove to change nothing else.",
    "attachment": "The part is an attachment.",
    "attached-message": "The part is a message of its own (message/rfc822 and the like), forwarded as it was.",
    "calendar": "The part is a calendar invitation.",
    "amp": "The part is AMP for e-mail, which allows no outside pixel or redirect.",
    "related-resource": "The part is a resource of another part (multipart/related), not a text of its own.",
    "malformed-headers": "A header is broken, the message's or a part's: programs disagree where its text starts.",
    "ambiguous-headers": "The part's Content- fields stand there twice and disagree.",
    "unknown-transfer-encoding": "The part's Content-Transfer-Encoding is none that mail uses.",
    "malformed-quoted-printable": "The part is not valid quoted-printable and programs decode it differently.",
    "malformed-base64": "The part is not valid base64 and programs decode it differently.",
    "edit-inside-line-break": "A change would have cut a line break in half.",
    "transfer-check-failed": "The re-encoded part did not decode to what was meant, so the original went out.",
    "charset-not-ascii": "The part's charset is not an extension of ASCII (UTF-16, UTF-7, ISO-2022, HZ, EBCDIC).",
    "charset-unknown": "The part's charset is none that Postwake knows.",
    "charset-mismatch": "The part's bytes are not valid in the charset that it declares.",
    "charset-undeclared": "The part declares no charset, and its bytes are neither ASCII nor UTF-8.",
}
