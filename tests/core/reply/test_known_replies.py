# ruff: noqa: E501 (replies are long)
"""Replies that the large providers, filters and MTAs document or are known for, and how each is to be judged.

The wordings come from the providers' own pages (named above each group), with addresses, hosts and identifiers replaced.
"""

from __future__ import annotations

import pytest

from postwake.reply import default_classifier

CLASSIFIER = default_classifier()

REPLIES = {
    # Google: support.google.com/a/answer/3726730 "Gmail SMTP errors and codes"
    "gmail": """
soft network network | 421 4.3.0 Temporary System Problem. Try again later. a1si2.3 - gsmtp
soft network network | 421 4.4.5 Server busy, try again later. a1si2.3 - gsmtp
soft sender policy | 421 4.7.0 IP not in whitelist for RCPT domain, closing connection. a1si2.3 - gsmtp
soft sender rate-limited | 421-4.7.28 Gmail has detected an unusual rate of mail originating from your SPF domain [example.net      35]. To protect our users from spam, mail sent from your domain has been temporarily rate limited. For more information, go to https://support.google.com/mail/?p=UnsolicitedRateLimitError a1si2.3 - gsmtp
soft sender policy | 421 4.7.0 TLS required for RCPT domain, closing connection. a1si2.3 - gsmtp
soft unknown rate-limited | 450 4.2.1 The user you are trying to contact is receiving mail too quickly. Please resend your message at a later time. a1si2.3 - gsmtp
soft sender rate-limited | 450 4.2.1 Peak SMTP relay limit exceeded for customer. This is a temporary error. a1si2.3 - gsmtp
soft network network | 451 4.3.0 Mail server temporarily rejected message. a1si2.3 - gsmtp
soft sender protocol | 451 4.3.0 Multiple destination domains per transaction is unsupported. Please try again. a1si2.3 - gsmtp
soft network network | 451 4.4.2 Timeout - closing connection. a1si2.3 - gsmtp
soft sender protocol | 451 4.5.0 SMTP protocol violation, visit RFC 2821. a1si2.3 - gsmtp
soft recipient mailbox-full | 452-4.2.2 The recipient's inbox is out of storage space and inactive. Please direct the recipient to\\n452 4.2.2 https://support.google.com/mail/?p=OverQuotaTemp a1si2.3 - gsmtp
soft sender rate-limited | 452 4.5.3 Domain policy size per transaction exceeded, please try this recipient in a separate transaction. a1si2.3 - gsmtp
soft sender rate-limited | 452 4.5.3 Your message has too many recipients. a1si2.3 - gsmtp
hard sender authentication | 535 5.7.8 Username and Password not accepted. a1si2.3 - gsmtp
hard sender authentication | 530 5.7.0 Authentication Required. a1si2.3 - gsmtp
soft sender rate-limited | 550 5.4.5 Daily sending quota exceeded. a1si2.3 - gsmtp
hard unknown relaying | 550 5.7.0 Mail relay denied. a1si2.3 - gsmtp
soft sender rate-limited | 550 5.7.1 Email quota exceeded. a1si2.3 - gsmtp
hard sender spam | 550-5.7.1 [192.0.2.1      12] Gmail has detected that this message is likely unsolicited mail. To reduce the amount of spam sent to Gmail, this message has been blocked. a1si2.3 - gsmtp
hard sender spam | 550 5.7.1 [192.0.2.1] Our system has detected that this message is likely suspicious due to the very low reputation of the sending IP address. a1si2.3 - gsmtp
hard sender authentication | 550-5.7.26 Unauthenticated email from example.net is not accepted due to domain's DMARC policy. a1si2.3 - gsmtp
hard sender authentication | 550-5.7.25 The IP address sending this message does not have a PTR record setup, or the corresponding forward DNS entry does not point to the sending IP. a1si2.3 - gsmtp
hard sender authentication | 550-5.7.27 This mail has been blocked because SPF does not pass. a1si2.3 - gsmtp
hard sender authentication | 550-5.7.30 This mail has been blocked because DKIM does not pass. a1si2.3 - gsmtp
hard sender policy | 550-5.7.29 This mail has been blocked because this mail is not sent over a TLS connection. a1si2.3 - gsmtp
hard recipient bad-mailbox | 550-5.1.1 The email account that you tried to reach does not exist. Please try double-checking the recipient's email address for typos or unnecessary spaces. For more information, go to 550 5.1.1 https://support.google.com/mail/?p=NoSuchUser a1si2.3 - gsmtp
soft recipient inactive-mailbox | 550 5.2.1 The email account that you tried to reach is inactive. a1si2.3 - gsmtp
hard sender size | 552-5.2.3 Your message exceeded Google's message size limits. a1si2.3 - gsmtp
soft recipient mailbox-full | 552-5.2.2 The email account that you tried to reach is over quota. a1si2.3 - gsmtp
hard sender content | 552-5.7.0 This message was blocked because its content presents a potential security issue. a1si2.3 - gsmtp
hard recipient bad-domain | 553-5.1.2 We weren't able to find the recipient domain. Please check for any spelling errors, and make sure you didn't enter any spaces, periods, or other punctuation after the recipient's email address. a1si2.3 - gsmtp
hard unknown routing | 554 5.4.6 Message exceeded 50 hops, this may indicate a mail loop. a1si2.3 - gsmtp
hard sender content | 554 5.6.0 Mail message is malformed. Not accepted. a1si2.3 - gsmtp
hard sender policy | 550 5.7.1 The user or domain that you are sending to (or from) has a policy that prohibited the mail that you sent. Please contact your domain administrator for further details. a1si2.3 - gsmtp
hard sender content | 550 5.7.1 This message is not RFC 5322 compliant. There are multiple From headers. To reduce the amount of spam sent to Gmail, this message has been blocked. a1si2.3 - gsmtp
""",
    # Microsoft: learn.microsoft.com, "Email non-delivery reports in Exchange Online"; sendersupport.olc.protection.outlook.com
    "microsoft": """
hard recipient bad-mailbox | 550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient user@example.com not found by SMTP address lookup
hard recipient bad-mailbox | 550 5.1.1 RESOLVER.ADR.RecipNotFound; not found
hard recipient bad-mailbox | 550 5.4.1 Recipient address rejected: Access denied. For more information see https://aka.ms/EXOSmtpErrors [AM1EUR05FT001.eop-eur05.prod.protection.outlook.com 2024-01-01T00:00:00.000Z 08DC0A]
hard recipient bad-mailbox | 550 5.4.1 All recipient addresses rejected : Access denied [DB5EUR01FT011.eop-EUR01.prod.protection.outlook.com]
hard recipient bad-mailbox | 550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302). [AM6EUR05FT003.eop-eur05.prod.protection.outlook.com]
soft recipient mailbox-full | 554 5.2.2 mailbox full; STOREDRV.Deliver.Exception:QuotaExceededException.MapiExceptionShutoffQuotaExceeded; Failed to process message due to a permanent exception with message Cannot open mailbox.
soft recipient mailbox-full | 552 5.2.2 This message is larger than the current system limit or the recipient's mailbox is full. Create a shorter message body or remove attachments and try sending it again.
soft recipient inactive-mailbox | 550 5.2.1 STOREDRV.Deliver; mailbox disabled; not accepting messages
soft recipient inactive-mailbox | 554 5.2.1 mailbox disabled, not accepting messages; STOREDRV.Deliver.Exception:MailboxDisabledException
hard sender size | 550 5.2.3 RESOLVER.RST.RecipSizeLimit; message too large for this recipient
hard sender policy | 550 5.7.1 RESOLVER.RST.AuthRequired; authentication required [Stage: CreateMessage]
hard sender policy | 550 5.7.1 RESOLVER.RST.NotAuthorized; not authorized
hard sender policy | 550 5.7.1 TRANSPORT.RULES.RejectMessage; the message was rejected by organization policy
hard sender policy | 550 5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup; authentication required; Delivery restriction check failed because the sender was not authenticated when sending to this group
hard sender blocklisted | 550 5.7.1 Unfortunately, messages from [192.0.2.9] weren't sent. Please contact your Internet service provider since part of their network is on our block list (S3140). You can also refer your provider to http://mail.live.com/mail/troubleshooting.aspx#errors. [AM6EUR05FT003.eop-eur05.prod.protection.outlook.com]
hard sender blocklisted | 550 5.7.606 Access denied, banned sending IP [192.0.2.9]. To request removal from this list please visit https://sender.office.com/ and follow the directions.
hard sender blocklisted | 550 5.7.511 Access denied, banned sender[192.0.2.9]. To request removal from this list please forward this message to delist@messaging.microsoft.com.
hard sender blocklisted | 550 5.7.1 Service unavailable, Client host [192.0.2.9] blocked using Spamhaus. To request removal from this list see https://www.spamhaus.org/query/ip/192.0.2.9 (AS3130). [AM6EUR05FT003.eop-eur05.prod.protection.outlook.com]
soft sender rate-limited | 451 4.7.652 The mail server [192.0.2.9] has exceeded the maximum number of connections. (S3115) [AM6EUR05FT003.eop-eur05.prod.protection.outlook.com]
soft sender rate-limited | 451 4.7.500 Server busy. Please try again later from [192.0.2.9]. (S77719) [AM6EUR05FT003.eop-eur05.prod.protection.outlook.com]
soft sender rate-limited | 451 4.7.500 Server busy. Please try again later. (AS780090) [AM6EUR05FT003.eop-eur05.prod.protection.outlook.com]
soft sender rate-limited | 421 RP-001 (BAY004-MC1F38) Unfortunately, some messages from 192.0.2.9 weren't sent. Please try again. We have limits for how many messages can be sent per hour and per day. (http://mail.live.com/mail/troubleshooting.aspx#errors)
hard sender blocklisted | 550 SC-001 (COL004-MC1F14) Unfortunately, messages from 192.0.2.9 weren't sent. Please contact your Internet service provider since part of their network is on our block list.
hard sender authentication | 550 5.7.515 Access denied, sending domain EXAMPLE.NET does not meet the required authentication level. The sender's domain in the 5322.From address doesn't meet the authentication requirements defined for the sender.
hard sender authentication | 550 5.7.509 Access denied, sending domain EXAMPLE.NET does not pass DMARC verification and has a DMARC policy of reject. [AM6EUR05FT003.eop-eur05.prod.protection.outlook.com]
hard sender authentication | 550 5.7.23 The message was rejected because of Sender Policy Framework violation -> 550 5.7.23 Message rejected
hard sender spam | 550 5.7.520 Message blocked because it contains content identified as spam. AS(4810) [AM6EUR05FT003.eop-eur05.prod.protection.outlook.com]
soft sender rate-limited | 550 5.1.90 Your message can't be sent because you've reached your daily limit for message recipients
hard sender spam | 550 5.7.501 Access denied, spam abuse detected from IP address 192.0.2.9
hard unknown relaying | 550 5.7.64 TenantAttribution; Relay Access Denied [AM6EUR05FT003.eop-eur05.prod.protection.outlook.com]
hard recipient bad-domain | 550 5.4.310 DNS domain example.org does not exist [Message=InfoDomainNonexistent] [LastAttemptedServerName=example.org]
hard unknown routing | 554 5.4.14 Hop count exceeded - possible mail loop ATTR34 [AM6EUR05FT003.eop-eur05.prod.protection.outlook.com]
soft network expired | 550 5.4.300 Message expired -> 451 4.4.0 Primary target IP address responded with errors
soft network expired | 550 4.4.7 QUEUE.Expired; message expired
soft unknown rate-limited | 554 5.2.122 The recipient has exceeded their limit for the number of messages they can receive per hour.
soft network network | 451 4.7.700 PFA agent busy, please try again.
soft sender rate-limited | 432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded
""",
    # Yahoo and AOL: senders.yahooinc.com/smtp-error-codes
    "yahoo": """
soft sender rate-limited | 421 4.7.0 [TSS04] Messages from 192.0.2.9 temporarily deferred due to unexpected volume or user complaints - 4.16.55.1; see https://postmaster.yahooinc.com/error-codes
soft sender blocklisted | 421 4.7.1 [TS03] All messages from 192.0.2.9 will be permanently deferred; Retrying will NOT succeed. See https://postmaster.yahooinc.com/error-codes
hard sender blocklisted | 553 5.7.2 [TSS09] All messages from 192.0.2.9 will be permanently deferred; Retrying will NOT succeed. See https://postmaster.yahooinc.com/error-codes
soft sender rate-limited | 421 4.16.55 [TS01] Messages from 192.0.2.9 temporarily deferred due to user complaints - 4.16.55.1; see http://postmaster.yahoo.com/421-ts01.html
hard sender blocklisted | 553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.9, because the ip is in Spamhaus's list; see http://postmaster.yahoo.com/550-bl23.html
hard recipient bad-mailbox | 552 1 Requested mail action aborted, mailbox not found - mta4.mail.bf1.yahoo.com
hard recipient bad-mailbox | 554 delivery error: dd This user doesn't have a yahoo.com account (user@example.com) [0] - mta1009.mail.bf1.yahoo.com
soft recipient inactive-mailbox | 554 30 Sorry, your message to user@example.com cannot be delivered. This mailbox is disabled (554.30). mta4.mail.gq1.yahoo.com
hard sender authentication | 554 5.7.9 Message not accepted for policy reasons. See https://postmaster.yahooinc.com/error-codes - DMARC policy
hard sender policy | 554 5.7.9 Message not accepted for policy reasons. See https://postmaster.yahooinc.com/error-codes
soft network network | 451 4.3.2 Internal error reading data mta4.mail.bf1.yahoo.com
soft sender rate-limited | 421 Max message per connection reached, closing transmission channel mta4.mail.bf1.yahoo.com
soft network network | 451 Resources temporarily not available - Please try again later [#4.16.5]. mta4.mail.ne1.yahoo.com
hard sender policy | 521 5.2.1 :  (CON:B1)  https://postmaster.info.aol.com/errors/521conb1.html
hard sender policy | 554 5.7.1 : (RLY:B1) https://postmaster.info.aol.com/errors/554rlyb1.html
soft recipient mailbox-full | 552 5.2.2 user@example.com over quota mta4.mail.bf1.yahoo.com
""",
    # Apple: support.apple.com/102322 and bounces as seen
    "apple": """
hard sender spam | 554 5.7.1 [CS01] Message rejected due to local policy. Please visit https://support.apple.com/en-us/HT204137
hard sender spam | 550 5.7.1 [HM08] Message rejected due to local policy. Please visit https://support.apple.com/en-us/HT204137
soft sender rate-limited | 421 4.7.1 Messages to user@icloud.com deferred due to excessive volume. Try again later - https://support.apple.com/en-us/HT204137
hard sender authentication | 554 5.7.1 Your message was rejected due to example.net's DMARC policy. See https://support.apple.com/en-us/HT204137 for info
hard recipient bad-mailbox | host mx01.mail.icloud.com[17.57.155.25] said: 550 5.1.1 <user@icloud.com>: user does not exist (in reply to RCPT TO command)
soft recipient mailbox-full | host mx01.mail.icloud.com[17.57.155.25] said: 552 5.2.2 <user@icloud.com>: user is overquota (in reply to RCPT TO command)
soft recipient inactive-mailbox | host mx01.mail.icloud.com[17.57.155.25] said: 550 5.2.1 <user@icloud.com>: inactive email address (in reply to RCPT TO command)
hard sender blocklisted | host mx01.mail.icloud.com[17.57.155.25] said: 554 5.7.0 Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.9 (in reply to RCPT TO command)
""",
    # GMX, Web.de, 1&1: postmaster.gmx.net/en/error-messages
    "unitedinternet": """
hard recipient bad-mailbox | host mx00.gmx.net[212.227.15.9] said: 550 Requested action not taken: mailbox unavailable For explanation visit https://postmaster.gmx.net/en/error-messages?ip=192.0.2.9&c=rcpt (in reply to RCPT TO command)
soft sender rate-limited | host mx00.gmx.net[212.227.15.9] refused to talk to me: 421-gmx.net (mxgmx016) Nemesis ESMTP Service not available 421-Service closing transmission channel 421-Reject due to policy violations. 421 For explanation visit https://postmaster.gmx.net/en/case?c=r0103&i=ip&v=192.0.2.9
hard sender blocklisted | host mx00.gmx.net[212.227.15.9] refused to talk to me: 554-gmx.net (mxgmx116) Nemesis ESMTP Service not available 554-No SMTP service 554-IP address is block listed. 554 For explanation visit https://postmaster.gmx.net/en/case?c=r0301&i=ip&v=192.0.2.9
hard sender authentication | host mx-ha.web.de[212.227.15.17] refused to talk to me: 554-web.de (mxweb112) Nemesis ESMTP Service not available 554-No SMTP service 554-Bad DNS PTR resource record. 554 For explanation visit https://postmaster.web.de/en/case?c=rdns
soft recipient mailbox-full | host mx00.gmx.net[212.227.15.9] said: 552-Requested mail action aborted: exceeded storage allocation 552-Quota exceeded. The recipient's mailbox is full. 552 For explanation visit https://postmaster.gmx.net/en/case?c=quota (in reply to end of DATA command)
hard sender policy | host mx00.gmx.net[212.227.15.9] said: 554-Transaction failed 554-Reject due to policy restrictions. 554 For explanation visit https://postmaster.gmx.net/en/case?c=hi&i=ip (in reply to end of DATA command)
soft recipient inactive-mailbox | host mx00.gmx.net[212.227.15.9] said: 450 Requested mail action not taken: mailbox unavailable Mail server temporarily unavailable (in reply to RCPT TO command)
""",
    # Orange, Free, SFR, La Poste, T-Online, Comcast, Spectrum, AT&T, Cox, Mail.ru, Yandex: their postmaster pages
    "isps": """
soft sender rate-limited | 421 smtp.orange.fr [192.0.2.9] Connection refused. Trop de connexions, veuillez verifier votre configuration. Too many connections, slow down. OFR004_104 [104]
soft sender rate-limited | 421 mwinf5c20 ME Service refuse. Veuillez essayer plus tard. Service refused, please try later. OFR_999 [999]
hard recipient bad-mailbox | 550 5.1.1 Adresse d au moins un destinataire invalide. Invalid recipient. OFR204_416 [416]
soft recipient inactive-mailbox | 550 5.2.1 Boite du destinataire archivee. Archived recipient. OFR_427 [427]
soft sender spam | 421 Too many spams from your IP (192.0.2.9), please visit http://postmaster.free.fr/
hard sender blocklisted | 554 5.7.1 Client host blocked using Spamhaus; see http://postmaster.free.fr/ 192.0.2.9
hard recipient bad-mailbox | 550 5.1.1 <user@example.com>: Recipient address rejected: User unknown in relay recipient table
hard sender blocklisted | 554 IP=192.0.2.9 - A problem occurred. (Ask your postmaster for help or to contact tobr@rx.t-online.de to clarify.) (BL)
hard sender blocklisted | 554 IP=192.0.2.9 - None/bad reputation. Ask your postmaster for help or to contact tobr@rx.t-online.de for reset. (NOWL)
hard recipient bad-mailbox | 550-5.1.1 <user@t-online.de>: user does not exist. 550 5.1.1 Unknown mail address
hard sender blocklisted | 554 resimta-c2p-123.sys.comcast.net resimta-c2p-123 192.0.2.9 found on one or more DNSBLs, see http://postmaster.comcast.net/smtp-error-codes.php#BL000001
soft sender rate-limited | 421 imta01.emeryville.ca.mail.comcast.net comcast Try again later: Throttled - http://postmaster.comcast.net/smtp-error-codes.php#RL000001
hard sender blocklisted | 553 5.3.0 flpd123 DNSBL:ATTRBL 521< 192.0.2.9 >_is_blocked.For assistance forward this error to abuse_rbl@abuse-att.net
hard sender blocklisted | 554 5.1.0 IMP: cxr.cox.net - 192.0.2.9 rejected - Cloudmark. CXCMK
soft recipient inactive-mailbox | 550 Message was not accepted -- invalid mailbox. Local mailbox user@mail.ru is unavailable: account is disabled
hard recipient bad-mailbox | 550 Message was not accepted -- invalid mailbox.  Local mailbox user@mail.ru is unavailable: user not found
hard recipient bad-mailbox | 550 5.7.1 No such user!
soft recipient mailbox-full | 552 5.2.2 Mailbox size limit exceeded 1704067200-ABCdef - mx.yandex.net
hard sender spam | 554 5.7.1 [2] Message rejected under suspicion of SPAM; https://ya.cc/1IrBc 1704067200-ABCdef
soft recipient mailbox-full | 452 4.2.2 Over Quota
hard recipient bad-mailbox | 550 <user@example.com> User not exist (http://mail.163.com/help/help_spam_16.htm)
hard sender spam | 554 DT:SPM 163 mx9,O8CowEDJVFKCokVaRhz+AA--.26016S3 1514513028,please see http://mail.163.com/help/help_spam.htm?ip=192.0.2.9
soft sender spam | 451 DT:SPM 163 mx13,P8CowECpNVM_oEVaenoEAQ--.23796S3 1514512449, please try again 15min later
hard recipient bad-mailbox | 550 Mailbox not found. http://service.mail.qq.com/cgi-bin/help?subtype=1&&id=20022&&no=1000728
soft recipient inactive-mailbox | 550 5.2.1 The user's account is not activated
""",
    # Filters and blocklists: Mimecast, Proofpoint, Barracuda, Cisco, Trend Micro, Symantec, Sophos, Hornetsecurity, Spamhaus …
    "filters": """
soft greylisting greylisted | 451 Internal resource temporarily unavailable - https://community.mimecast.com/docs/DOC-1369#451 [aBcDeF]
hard recipient bad-mailbox | 550 Invalid Recipient - https://community.mimecast.com/docs/DOC-1369#550 [aBcDeF]
hard sender blocklisted | 550 csi.mimecast.org Poor Reputation Sender. - https://community.mimecast.com/docs/DOC-1369#550
hard sender blocklisted | 550 Local CT IP Reputation - (reject) - https://community.mimecast.com/docs/DOC-1369#550 [aBcDeF]
hard sender policy | 554 Email rejected due to security policies - MCSpamSignature.x.x - https://community.mimecast.com/docs/DOC-1369#554 [aBcDeF]
hard sender authentication | 550 Rejected by header based Anti-Spoofing policy - https://community.mimecast.com/docs/DOC-1369#550 [aBcDeF]
soft sender blocklisted | 451 IP temporarily blacklisted - https://community.mimecast.com/docs/DOC-1369#451 [aBcDeF]
hard sender blocklisted | 554 5.7.0 Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.9
hard sender blocklisted | 550 5.7.1 Service unavailable; Client host [192.0.2.9] blocked using Barracuda Reputation; http://www.barracudanetworks.com/reputation/?pr=1&ip=192.0.2.9
hard recipient bad-mailbox | 550 permanent failure for one or more recipients (user@example.com:550 No such recipient)
hard sender policy | 550 permanent failure for one or more recipients (user@example.com:blocked)
hard sender blocklisted | 554-mx1.example.com 554 Your access to this mail system has been rejected due to the sending MTA's poor reputation. If you believe that this failure is in error, please contact the intended recipient via alternate means.
hard recipient bad-mailbox | 550 #5.1.0 Address rejected.
hard sender blocklisted | 550 #5.7.1 Your access to submit messages to this e-mail system has been rejected.
hard sender blocklisted | 550 5.7.1 Service unavailable; Client host [192.0.2.9] blocked using Trend Micro RBL+. Please see http://www.mail-abuse.com/cgi-bin/lookup?ip_address=192.0.2.9
hard sender policy | 550 5.7.1 Recipient address rejected: 5.7.1 rejected by Sophos email security policy
hard sender blocklisted | 554 5.7.1 Service unavailable; Client host [192.0.2.9] blocked using zen.spamhaus.org; https://www.spamhaus.org/query/ip/192.0.2.9
hard sender blocklisted | 550 5.7.1 Service unavailable; client [192.0.2.9] blocked using dnsbl.sorbs.net
hard sender blocklisted | 554 5.7.1 Service unavailable; Client host [192.0.2.9] blocked using b.barracudacentral.org; http://www.barracudanetworks.com/reputation/?pr=1&ip=192.0.2.9
soft greylisting greylisted | 450 4.2.0 <user@example.com>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/help/example.com.html
soft greylisting greylisted | 451 4.7.1 Greylisting in action, please come back in 00:04:59
soft greylisting greylisted | 450 4.7.1 <user@example.com>: Recipient address rejected: Policy Rejection- Please try later. GREYLIST
soft greylisting greylisted | 451 4.3.0 <user@example.com>: Temporarily deferred due to greylisting. Please try again later
soft greylisting greylisted | 450 4.2.0 Service temporarily unavailable. You have been graylisted, come back later
soft greylisting greylisted | 451 Please try again later (TEMPFAIL) - first time sender
""",
    # What MTAs say by themselves, and oddities that must not be held against the recipient
    "mtas": """
hard recipient bad-mailbox | 550 5.1.1 <user@example.com>... User unknown
hard recipient bad-mailbox | 550 No such user here
hard recipient bad-mailbox | 550 no such user at this host
hard recipient bad-mailbox | 550 5.1.1 no such user in this domain
hard recipient bad-mailbox | 553 5.3.0 <user@example.com>... Addressee unknown
hard recipient bad-mailbox | 550 There is no one at this address
hard recipient bad-mailbox | 550 This address no longer accepts mail.
hard recipient bad-mailbox | 550 no such person at this address
hard recipient bad-mailbox | 550 <user@example.com> does not exist
hard recipient bad-mailbox | 550 Address not present in directory
hard recipient bad-mailbox | 550 5.1.1 Nessun utente simile in questo indirizzo
hard recipient bad-mailbox | 550 mailbox not present
hard recipient bad-mailbox | 550 5.1.6 recipient no longer on server: user@example.com
hard recipient bad-mailbox | 550 5.1.1 Empfänger unbekannt
hard recipient bad-mailbox | 550 5.7.17 mailbox owner has changed
hard recipient bad-domain | 550 5.1.10 Domain has null MX record
hard recipient bad-domain | 550 5.7.18 domain owner has changed
hard recipient bad-domain | 556 5.1.10 Recipient address has null MX
hard unknown relaying | 550 insecure mail relay
hard unknown relaying | 550-Verification failed for <a@example.net> 550 relay not permitted
hard sender policy | 550-Verification failed for <a@example.net>\\n550-No Such User Here\\n550 Sender verify failed
hard sender policy | 550 Sender verify failed
hard sender policy | 550 5.7.1 <a@example.net>: Sender address rejected: not logged in
hard sender policy | 550 Le serveur du destinataire refuse ce message
hard sender policy | 550 5.7.1 Message rejected: by non-member to a members-only list
hard sender policy | 550 5.7.1 sender not pre-approved
hard sender policy | 550 BATV validation failure
hard sender policy | 550 5.7.1 closed mailing list
hard sender size | 552 5.3.4 Message size exceeds fixed limit
hard sender size | 523 the message size 30 MB exceeds the limit of the recipient
hard sender virus | 554 5.7.1 Message infected with Eicar-Test-Signature
hard sender content | 550 5.7.1 banned file extension .exe
hard sender content | 550 5.5.4 Unsupported option: SMTPUTF8
hard sender protocol | 502 5.5.1 VRFY command is disabled
hard sender policy | 550 Administrative prohibition
hard sender authentication | 550 5.7.1 Client host rejected: cannot find your hostname, [192.0.2.9]
hard sender authentication | 554 Refused. You have no reverse DNS entry.
hard sender authentication | 550 HELO should be a FQDN or address literal (See RFC 2821 4.1.1.1)
soft sender rate-limited | 550 5.7.1 too many messages in the last hour from 192.0.2.9
soft network network | 421 Temporary failure, please try again later.
soft recipient mailbox-full | 550 Mailbox is full / Blocks limit exceeded / Inode limit exceeded
soft recipient mailbox-full | 552 Mailbox size limit exceeded
soft recipient mailbox-full | 552 Mailbox limit exeeded for this email address
hard recipient bad-mailbox | 553 sorry, no mail-box here by that name
hard recipient bad-mailbox | 550 I cannot deliver mail for user@example.com
hard sender authentication | 503 This mail server requires authentication when attempting to send to a non-local e-mail address
hard sender policy | 550 Sender example.net has no A, AAAA, or MX DNS records
hard sender blocklisted | 550 The sending IP 192.0.2.9 is listed on bl.example. Please resolve this and retry
hard sender blocklisted | 550 Email blocked by cbl.abuseat.org
hard sender spam | 554 blocked due to spam content
hard unknown relaying | 550 user@example.com isn't allowed to relay
hard recipient bad-mailbox | host 127.0.0.1[127.0.0.1] said: 550 id=1-01 - Rejected by next-hop MTA on relaying, from MTA(smtp:[127.0.0.1]:10025): 550 5.1.1 <u@example.com>: Recipient address rejected: User unknown (in reply to end of DATA command)
soft unknown other | delivery temporarily suspended: unknown mail transport error
hard unknown routing | 552 5.7.0 Number of 'Received:' DATA headers exceeds maximum permitted
hard sender protocol | 501 5.5.4 Invalid domain name
hard sender protocol | 501 Invalid domain name
hard recipient bad-mailbox | 501 5.1.3 Bad recipient address syntax
hard recipient bad-mailbox | 550 User has no inbox
hard recipient bad-mailbox | 550 The email address you entered couldn't be found
hard recipient bad-mailbox | 550 Mailbox existiert nicht
hard recipient bad-mailbox | 550 пользователь не найден
soft recipient mailbox-full | 550 Postfach ist voll
soft recipient mailbox-full | 552 La casella di posta e' piena
soft recipient inactive-mailbox | 550 Konto gesperrt
hard sender spam | 550 Blocked by SpamAssassin
hard sender policy | 571 5.7.1 Message refused
hard sender policy | 550 5.7.1 <a@example.net>: Return-path user unknown
hard sender policy | 550 Absender unbekannt
hard sender authentication | 550 unknown host [192.0.2.9]
soft network network | 550 5.2.0 mailbox database unavailable
soft network network | 550 User's mail server not available
soft sender rate-limited | 450 4.7.1 Error: too much mail from 192.0.2.9, try again in 5 minutes
soft sender rate-limited | 421 4.7.0 Too many connections from your IP, wait 60 seconds
soft recipient mailbox-full | 452 4.2.2 Mailbox full, try again in 60 minutes
hard unknown routing | 550 Too many "Received" headers - suspected mail loop
hard sender authentication | host mx.example.com[192.0.2.5] said: 550 5.7.25 [192.0.2.9] The IP address sending this message does not have a PTR record (in reply to end of DATA command)
hard sender authentication | SASL authentication failed; server smtp.example.com[192.0.2.5] said: 535 5.7.8 Error: authentication failed:
soft recipient mailbox-full | cannot update mailbox /var/mail/u for user u. error writing message: File too large
soft unknown other | Child process of address_pipe transport returned 2 from command: /bin/x
soft unknown other | Tainted '/var/mail/u' (file or directory name for local_delivery transport) not permitted
soft network network | 451 4.3.0 Temporary lookup failure
soft network network | 451 4.3.5 Server configuration problem
soft network network | 450 4.1.1 <user@example.com>: Recipient address rejected: unverified address: connect to mx.example.com[192.0.2.5]:25: Connection timed out
soft recipient mailbox-full | 452 4.2.2 Mailbox full
soft recipient mailbox-full | 550 the user's space has been used up
soft recipient mailbox-full | 552 5.2.2 The user's mailbox does not have enough space
soft recipient mailbox-full | Maildir over quota
soft recipient inactive-mailbox | 550 5.2.1 This account has been suspended
soft recipient bad-mailbox | 450 4.1.1 <user@example.com>: Recipient address rejected: User unknown in local recipient table
soft network protocol | Cannot start TLS: handshake failure
soft network protocol | TLS is required, but was not offered by host mx.example.com[192.0.2.5]
soft network network | connect to mx.example.com[192.0.2.5]:25: No route to host
soft network network | delivery temporarily suspended: connect to mx.example.com[192.0.2.5]:25: Connection refused
soft network network | Host or domain name not found. Name service error for name=example.com type=MX: Host not found, try again
hard recipient bad-domain | Host or domain name not found. Name service error for name=example.invalid type=AAAA: Host not found
hard recipient bad-domain | Domain example.org does not accept mail (nullMX)
hard unknown routing | mail for example.com loops back to myself
hard recipient bad-mailbox | unknown user: "joe"
hard recipient bad-mailbox | User unknown in virtual alias table
soft unknown other | temporary failure. Command output: sh: 1: procmail: not found
soft unknown other | Command died with status 127: "/usr/bin/vacation"
""",
}

ROWS = [
    pytest.param(*verdict.split(), reply.strip().replace("\\\\n", "\\n"), id=f"{group}-{number}-{reply.strip()[:32]}")
    for group, lines in REPLIES.items()
    for number, line in enumerate(lines.strip().splitlines(), 1)
    for verdict, _, reply in [line.partition(" | ")]
]


@pytest.mark.parametrize(("kind", "fault", "category", "reply"), ROWS)
def test_known_reply(kind: str, fault: str, category: str, reply: str) -> None:
    """A reply that a provider, filter or MTA is known for is judged as what it is."""
    verdict = CLASSIFIER.classify(reply)
    assert (verdict.kind, verdict.fault, verdict.category) == (kind, fault, category)


@pytest.mark.parametrize(
    ("name", "group"),
    [("Gmail", "gmail"), ("Yahoo", "yahoo"), ("Apple", "apple"), ("GMX/Web.de", "unitedinternet")],
)
def test_its_provider_is_named(name: str, group: str) -> None:
    """Whoever signs its replies, by host or in words, is named."""
    lines = REPLIES[group].strip().splitlines()
    others = {
        line: found for line in lines if (found := CLASSIFIER.classify(line.partition(" | ")[2]).provider) != name
    }
    assert not others
