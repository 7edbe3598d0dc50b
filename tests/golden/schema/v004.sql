PRAGMA application_id = 1349481335;
PRAGMA user_version = 4;
BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'postwake','m001_first','2026-11-25 18:47:18.270880+00:00');
INSERT INTO "_sqlite_migrations" VALUES(2,'postwake','m002_readers_by_recipient_domain','2026-11-25 19:58:30.123574+00:00');
INSERT INTO "_sqlite_migrations" VALUES(3,'postwake','m003_look_ups_by_the_hour','2026-11-25 19:58:30.425504+00:00');
INSERT INTO "_sqlite_migrations" VALUES(4,'postwake','m004_four_weeks_and_replies','2026-11-25 22:23:30.053401+00:00');
CREATE TABLE cursor (source TEXT PRIMARY KEY, state TEXT NOT NULL, at_us INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO "cursor" VALUES('stdin','{"v":1,"messages":35}',1773212400000000);
CREATE TABLE delivery (
  id INTEGER PRIMARY KEY,
  message INTEGER NOT NULL,
  recipient TEXT NOT NULL,
  original_recipient TEXT,
  idx INTEGER NOT NULL DEFAULT 0,
  state INTEGER NOT NULL DEFAULT 0,
  attempts INTEGER NOT NULL DEFAULT 0,
  at_us INTEGER NOT NULL,
  first_attempt_us INTEGER,
  last_attempt_us INTEGER,
  last_event INTEGER
);
INSERT INTO "delivery" VALUES(1,1,'r10@example.net',NULL,1,1,1,1772690001000000,1772690001000000,1772690001000000,30);
INSERT INTO "delivery" VALUES(2,2,'r20@example.net',NULL,1,2,1,1772690002000000,1772690002000000,1772690002000000,31);
INSERT INTO "delivery" VALUES(3,2,'r21@example.net',NULL,2,3,1,1772690002000000,1772690002500000,1772690002500000,32);
INSERT INTO "delivery" VALUES(4,3,'r30@example.net',NULL,1,0,0,1772690003000000,NULL,NULL,NULL);
INSERT INTO "delivery" VALUES(5,3,'r31@example.net',NULL,2,0,0,1772690003000000,NULL,NULL,NULL);
INSERT INTO "delivery" VALUES(6,3,'r32@example.net',NULL,3,0,0,1772690003000000,NULL,NULL,NULL);
INSERT INTO "delivery" VALUES(7,4,'ok@shop.example',NULL,0,1,1,1772689922500000,1772689922500000,1772689922500000,18);
INSERT INTO "delivery" VALUES(8,4,'gone@shop.example','old@shop.example',0,3,1,1772689922600000,1772689922600000,1772689922600000,19);
INSERT INTO "delivery" VALUES(9,4,'away@slow.example',NULL,0,4,1,1772689951600000,1772689951600000,1772689951600000,24);
INSERT INTO "delivery" VALUES(10,5,'news@partner.example',NULL,0,1,1,1772689952000000,1772689952000000,1772689952000000,23);
INSERT INTO "delivery" VALUES(11,7,'anna@customer.example',NULL,0,1,1,1772689922000000,1772689924000000,1772689924000000,29);
CREATE TABLE direction (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
INSERT INTO "direction" VALUES(0,'unknown');
INSERT INTO "direction" VALUES(1,'outbound');
INSERT INTO "direction" VALUES(2,'inbound');
CREATE TABLE engagement (
  message INTEGER NOT NULL,
  recipient_idx INTEGER NOT NULL,
  opens_human INTEGER NOT NULL DEFAULT 0,
  opens_machine INTEGER NOT NULL DEFAULT 0,
  opens_unknown INTEGER NOT NULL DEFAULT 0,
  clicks_human INTEGER NOT NULL DEFAULT 0,
  clicks_machine INTEGER NOT NULL DEFAULT 0,
  clicks_unknown INTEGER NOT NULL DEFAULT 0,
  first_open_us INTEGER,
  first_click_us INTEGER,
  unsubscribed_us INTEGER,
  complained_us INTEGER, domain TEXT,
  PRIMARY KEY (message, recipient_idx)
) WITHOUT ROWID;
INSERT INTO "engagement" VALUES(1,0,1,1,1,1,1,1,1772690060001000,1772690060002000,1772690090000000,NULL,'example.net');
INSERT INTO "engagement" VALUES(2,0,1,1,1,1,1,1,1772690060007000,1772690060008000,NULL,NULL,'example.net');
CREATE TABLE event (
  id INTEGER PRIMARY KEY,
  at_us INTEGER NOT NULL,
  type INTEGER NOT NULL,
  message INTEGER,
  delivery INTEGER,
  relay INTEGER,
  reply INTEGER,
  reply_part TEXT,
  delay_us INTEGER,
  before_qmgr_us INTEGER,
  in_qmgr_us INTEGER,
  connect_us INTEGER,
  transmit_us INTEGER,
  who INTEGER,
  reason TEXT,
  link INTEGER,
  url INTEGER,
  user_agent INTEGER,
  client TEXT,
  recipient_idx INTEGER,
  hit_id BLOB,
  detail TEXT
);
INSERT INTO "event" VALUES(1,1772690001000000,1,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "event" VALUES(2,1772690002000000,1,2,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "event" VALUES(3,1772690003000000,1,3,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "event" VALUES(4,1772690060001000,7,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,'test',0,NULL,1,'192.0.2.9',0,X'00000000000000000000000000000001',NULL);
INSERT INTO "event" VALUES(5,1772690060002000,8,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,'test',2,1,1,'192.0.2.9',0,X'00000000000000000000000000000002',NULL);
INSERT INTO "event" VALUES(6,1772690060003000,7,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,2,'test',0,NULL,1,'192.0.2.9',0,X'00000000000000000000000000000003',NULL);
INSERT INTO "event" VALUES(7,1772690060004000,8,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,2,'test',2,1,1,'192.0.2.9',0,X'00000000000000000000000000000004',NULL);
INSERT INTO "event" VALUES(8,1772690060005000,7,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,'test',0,NULL,1,'192.0.2.9',0,X'00000000000000000000000000000005',NULL);
INSERT INTO "event" VALUES(9,1772690060006000,8,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,'test',2,1,1,'192.0.2.9',0,X'00000000000000000000000000000006',NULL);
INSERT INTO "event" VALUES(10,1772690060007000,7,2,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,'test',0,NULL,1,'192.0.2.9',0,X'00000000000000000000000000000007',NULL);
INSERT INTO "event" VALUES(11,1772690060008000,8,2,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,'test',2,1,1,'192.0.2.9',0,X'00000000000000000000000000000008',NULL);
INSERT INTO "event" VALUES(12,1772690060009000,7,2,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,2,'test',0,NULL,1,'192.0.2.9',0,X'00000000000000000000000000000009',NULL);
INSERT INTO "event" VALUES(13,1772690060010000,8,2,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,2,'test',2,1,1,'192.0.2.9',0,X'0000000000000000000000000000000A',NULL);
INSERT INTO "event" VALUES(14,1772690060011000,7,2,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,'test',0,NULL,1,'192.0.2.9',0,X'0000000000000000000000000000000B',NULL);
INSERT INTO "event" VALUES(15,1772690060012000,8,2,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,'test',2,1,1,'192.0.2.9',0,X'0000000000000000000000000000000C',NULL);
INSERT INTO "event" VALUES(16,1772690090000000,9,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,NULL,NULL,NULL,0,X'00000000000000000000000000000063',NULL);
INSERT INTO "event" VALUES(17,1772689921000300,2,4,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "event" VALUES(18,1772689922500000,3,4,7,1,1,NULL,1500000,1400000,0,0,100000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "event" VALUES(19,1772689922600000,5,4,8,2,2,NULL,1600000,1400000,0,0,200000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "event" VALUES(20,1772689951600000,4,4,9,3,3,'mx.slow.example[203.0.113.5]:25:',30000000,1400000,0,28000000,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "event" VALUES(21,1772689951700100,18,4,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"notice": "non-delivery", "audience": "sender", "queue_id": "1F2E3D4C5B"}');
INSERT INTO "event" VALUES(22,1772689951800000,2,5,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "event" VALUES(23,1772689952000000,3,5,10,4,4,NULL,300000,100000,0,100000,100000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "event" VALUES(24,1773121953000000,6,4,9,NULL,5,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "event" VALUES(25,1773212400200000,1,6,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "event" VALUES(26,1773212400300000,12,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"action": "reject", "stage": "RCPT", "client": "unknown[203.0.113.66]", "code": 554, "dsn": "5.7.1", "text": "554 5.7.1 <x@y.example>: Relay access denied", "sender": "spam@z.example", "recipient": "x@y.example"}');
INSERT INTO "event" VALUES(27,1772689921000000,1,7,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "event" VALUES(28,1772689922000000,15,7,11,5,6,'MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as 4PbC4z6W5Qz3tG3',1100000,100000,0,0,1000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{"next_queue_id": "4PbC4z6W5Qz3tG3"}');
INSERT INTO "event" VALUES(29,1772689924000000,3,7,11,6,7,'7C3F02B',2300000,100000,0,1200000,1000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "event" VALUES(30,1772690001000000,3,1,1,7,8,NULL,1500000,200000,0,300000,1000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "event" VALUES(31,1772690002000000,4,2,2,7,9,'mx.example.net[203.0.113.5]',2000000,200000,0,300000,1000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "event" VALUES(32,1772690002500000,5,2,3,7,10,'mx.example.net[203.0.113.5] said: 550 5.1.1 <r21@example.net>:',2000000,200000,0,300000,1000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE event_type (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
INSERT INTO "event_type" VALUES(1,'accepted');
INSERT INTO "event_type" VALUES(2,'received');
INSERT INTO "event_type" VALUES(3,'sent');
INSERT INTO "event_type" VALUES(4,'deferred');
INSERT INTO "event_type" VALUES(5,'bounced');
INSERT INTO "event_type" VALUES(6,'expired');
INSERT INTO "event_type" VALUES(7,'opened');
INSERT INTO "event_type" VALUES(8,'clicked');
INSERT INTO "event_type" VALUES(9,'unsubscribed');
INSERT INTO "event_type" VALUES(10,'complained');
INSERT INTO "event_type" VALUES(11,'replied');
INSERT INTO "event_type" VALUES(12,'rejected');
INSERT INTO "event_type" VALUES(13,'suppressed');
INSERT INTO "event_type" VALUES(14,'resubscribed');
INSERT INTO "event_type" VALUES(15,'handed_over');
INSERT INTO "event_type" VALUES(16,'held');
INSERT INTO "event_type" VALUES(17,'deleted');
INSERT INTO "event_type" VALUES(18,'notified');
CREATE TABLE message (
  id INTEGER PRIMARY KEY,
  at_us INTEGER NOT NULL,
  direction INTEGER NOT NULL DEFAULT 0,
  tracking_id BLOB,
  host TEXT,
  queue_id TEXT,
  message_id TEXT,
  sender TEXT,
  domain TEXT,
  recipients INTEGER,
  size_bytes INTEGER,
  client TEXT,
  sasl_username TEXT,
  subject TEXT,
  tag TEXT,
  campaign TEXT,
  metadata TEXT,
  tracked INTEGER NOT NULL DEFAULT 0,
  untracked_reason TEXT,
  privacy INTEGER,
  pixels INTEGER,
  links INTEGER,
  links_skipped TEXT,
  parts_rewritten INTEGER,
  rewrite_us INTEGER,
  parent INTEGER,
  merged_into INTEGER,
  removed_us INTEGER
);
INSERT INTO "message" VALUES(1,1772690001000000,1,X'019CBC8ECC6870008000000000000001','mx1','4cQ1xyz','<news-1@example.com>','shop@example.com','example.com',1,2001,'127.0.0.1','shop','Grüße 1','news','spring','{"order": "1"}',1,NULL,0,1,3,'{"mailto": 1}',1,1500,NULL,NULL,1772690001100000);
INSERT INTO "message" VALUES(2,1772690002000000,1,X'019CBC8ED05070008000000000000002','mx1','4cQ2xyz','<news-2@example.com>','shop@example.com','example.com',2,2002,'127.0.0.1','shop','Grüße 2','news','spring','{"order": "2"}',1,NULL,1,1,3,'{"mailto": 1}',1,1500,NULL,NULL,NULL);
INSERT INTO "message" VALUES(3,1772690003000000,1,X'019CBC8ED43870008000000000000003','mx1','4cQ3xyz','<news-3@example.com>','shop@example.com','example.com',3,2003,'127.0.0.1','shop','Grüße 3','news','spring','{"order": "3"}',0,'no-html',1,1,3,'{"mailto": 1}',1,1500,NULL,NULL,NULL);
INSERT INTO "message" VALUES(4,1772689921000300,2,NULL,'mx1','0A1B2C3D4E','news-7@partner.example','news@partner.example','partner.example',3,9000,'mail.partner.example[198.51.100.77]',NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1773121953500000);
INSERT INTO "message" VALUES(5,1772689951800000,2,NULL,'mx1','1F2E3D4C5B','20260305.1F2E3D4C5B@mx1','',NULL,1,11000,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,4,NULL,1772689952000100);
INSERT INTO "message" VALUES(6,1773212400200000,1,NULL,'mx1','0A1B2C3D4E','another@mx1','www-data@shop.example','shop.example',1,400,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "message" VALUES(7,1772689921000000,1,NULL,'mx1','4PbC4x469Jz3tBr','order-1@shop.example','orders@shop.example','shop.example',1,2412,'app.shop.example[10.0.0.9]','shop',NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1772689924000000);
INSERT INTO "message" VALUES(8,1772689922000000,0,NULL,NULL,'4PbC4z6W5Qz3tG3',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,7,NULL);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE privacy (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
INSERT INTO "privacy" VALUES(0,'full');
INSERT INTO "privacy" VALUES(1,'pseudonymous');
INSERT INTO "privacy" VALUES(2,'anonymous');
INSERT INTO "privacy" VALUES(3,'off');
CREATE TABLE queue (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  queue_id TEXT NOT NULL,
  at_us INTEGER NOT NULL,
  message INTEGER,
  state TEXT
);
INSERT INTO "queue" VALUES(2,'4cQ2xyz',1772690002000000,2,NULL);
INSERT INTO "queue" VALUES(3,'4cQ3xyz',1772690003000000,3,NULL);
INSERT INTO "queue" VALUES(4,'0A1B2C3D4E',1773212400000000,6,'{"host": "mx1", "local": true, "message_id": "another@mx1"}');
CREATE TABLE relabel (
  id INTEGER PRIMARY KEY,
  event INTEGER NOT NULL,
  at_us INTEGER NOT NULL,
  who_before INTEGER,
  reason_before TEXT
);
INSERT INTO "relabel" VALUES(1,4,1772690060001005,2,'first');
CREATE TABLE relay (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
INSERT INTO "relay" VALUES(1,'virtual');
INSERT INTO "relay" VALUES(2,'local');
INSERT INTO "relay" VALUES(3,'none');
INSERT INTO "relay" VALUES(4,'mail.partner.example[198.51.100.77]:25');
INSERT INTO "relay" VALUES(5,'127.0.0.1[127.0.0.1]:10024');
INSERT INTO "relay" VALUES(6,'mx2.customer.example[198.51.100.2]:25');
INSERT INTO "relay" VALUES(7,'mx.example.net[203.0.113.5]:25');
CREATE TABLE reply (
  id INTEGER PRIMARY KEY,
  text TEXT NOT NULL,
  code INTEGER,
  dsn TEXT,
  kind TEXT,
  fault TEXT,
  category TEXT,
  provider TEXT,
  rule TEXT
);
INSERT INTO "reply" VALUES(1,'delivered to maildir',NULL,'2.0.0',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "reply" VALUES(2,'unknown user: "gone"',NULL,'5.1.1','hard','recipient','bad-mailbox',NULL,'unknown-user');
INSERT INTO "reply" VALUES(3,'connect to {} Connection timed out',NULL,'4.4.1','soft','network','network',NULL,'network');
INSERT INTO "reply" VALUES(4,'250 ok',250,'2.0.0',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "reply" VALUES(5,'message expired, returned to sender',NULL,NULL,'soft','network','expired',NULL,'expired');
INSERT INTO "reply" VALUES(6,'250 2.0.0 from {}',250,'2.0.0',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "reply" VALUES(7,'250 2.0.0 Ok: queued as {}',250,'2.0.0',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "reply" VALUES(8,'250 2.0.0 Ok: queued as 4AB12',250,'2.0.0',NULL,NULL,NULL,NULL,NULL);
INSERT INTO "reply" VALUES(9,'host {} said: 451 4.7.1 Greylisting in action, please come back later (in reply to RCPT TO command)',451,'4.7.1','soft','greylisting','greylisted',NULL,'greylisting');
INSERT INTO "reply" VALUES(10,'host {} Recipient address rejected: User unknown (in reply to RCPT TO command)',550,'5.1.1','hard','recipient','bad-mailbox',NULL,'unknown-user');
CREATE TABLE rollup (
  basis TEXT NOT NULL,
  span TEXT NOT NULL,
  dimension TEXT NOT NULL,
  start_us INTEGER NOT NULL,
  key TEXT NOT NULL,
  measure TEXT NOT NULL,
  n INTEGER NOT NULL,
  PRIMARY KEY (basis, span, dimension, start_us, key, measure)
) WITHOUT ROWID;
INSERT INTO "rollup" VALUES('cohort','4weeks','recipient_domain',1770854400000000,'customer.example','sent',1);
INSERT INTO "rollup" VALUES('cohort','4weeks','recipient_domain',1770854400000000,'example.net','bounced',1);
INSERT INTO "rollup" VALUES('cohort','4weeks','recipient_domain',1770854400000000,'example.net','clicked_any',2);
INSERT INTO "rollup" VALUES('cohort','4weeks','recipient_domain',1770854400000000,'example.net','clicked_human',2);
INSERT INTO "rollup" VALUES('cohort','4weeks','recipient_domain',1770854400000000,'example.net','clicked_possible',2);
INSERT INTO "rollup" VALUES('cohort','4weeks','recipient_domain',1770854400000000,'example.net','deferred',1);
INSERT INTO "rollup" VALUES('cohort','4weeks','recipient_domain',1770854400000000,'example.net','opened_any',2);
INSERT INTO "rollup" VALUES('cohort','4weeks','recipient_domain',1770854400000000,'example.net','opened_human',2);
INSERT INTO "rollup" VALUES('cohort','4weeks','recipient_domain',1770854400000000,'example.net','opened_possible',2);
INSERT INTO "rollup" VALUES('cohort','4weeks','recipient_domain',1770854400000000,'example.net','queued',3);
INSERT INTO "rollup" VALUES('cohort','4weeks','recipient_domain',1770854400000000,'example.net','sent',1);
INSERT INTO "rollup" VALUES('cohort','4weeks','recipient_domain',1770854400000000,'example.net','unsubscribed',1);
INSERT INTO "rollup" VALUES('cohort','4weeks','sender_domain',1770854400000000,'example.com','bounced',1);
INSERT INTO "rollup" VALUES('cohort','4weeks','sender_domain',1770854400000000,'example.com','clicked_any',2);
INSERT INTO "rollup" VALUES('cohort','4weeks','sender_domain',1770854400000000,'example.com','clicked_human',2);
INSERT INTO "rollup" VALUES('cohort','4weeks','sender_domain',1770854400000000,'example.com','clicked_possible',2);
INSERT INTO "rollup" VALUES('cohort','4weeks','sender_domain',1770854400000000,'example.com','deferred',1);
INSERT INTO "rollup" VALUES('cohort','4weeks','sender_domain',1770854400000000,'example.com','messages',3);
INSERT INTO "rollup" VALUES('cohort','4weeks','sender_domain',1770854400000000,'example.com','opened_any',2);
INSERT INTO "rollup" VALUES('cohort','4weeks','sender_domain',1770854400000000,'example.com','opened_human',2);
INSERT INTO "rollup" VALUES('cohort','4weeks','sender_domain',1770854400000000,'example.com','opened_possible',2);
INSERT INTO "rollup" VALUES('cohort','4weeks','sender_domain',1770854400000000,'example.com','queued',3);
INSERT INTO "rollup" VALUES('cohort','4weeks','sender_domain',1770854400000000,'example.com','sent',1);
INSERT INTO "rollup" VALUES('cohort','4weeks','sender_domain',1770854400000000,'example.com','unsubscribed',1);
INSERT INTO "rollup" VALUES('cohort','4weeks','sender_domain',1770854400000000,'shop.example','messages',2);
INSERT INTO "rollup" VALUES('cohort','4weeks','sender_domain',1770854400000000,'shop.example','sent',1);
INSERT INTO "rollup" VALUES('cohort','4weeks','tag',1770854400000000,'news','bounced',1);
INSERT INTO "rollup" VALUES('cohort','4weeks','tag',1770854400000000,'news','clicked_any',2);
INSERT INTO "rollup" VALUES('cohort','4weeks','tag',1770854400000000,'news','clicked_human',2);
INSERT INTO "rollup" VALUES('cohort','4weeks','tag',1770854400000000,'news','clicked_possible',2);
INSERT INTO "rollup" VALUES('cohort','4weeks','tag',1770854400000000,'news','deferred',1);
INSERT INTO "rollup" VALUES('cohort','4weeks','tag',1770854400000000,'news','messages',3);
INSERT INTO "rollup" VALUES('cohort','4weeks','tag',1770854400000000,'news','opened_any',2);
INSERT INTO "rollup" VALUES('cohort','4weeks','tag',1770854400000000,'news','opened_human',2);
INSERT INTO "rollup" VALUES('cohort','4weeks','tag',1770854400000000,'news','opened_possible',2);
INSERT INTO "rollup" VALUES('cohort','4weeks','tag',1770854400000000,'news','queued',3);
INSERT INTO "rollup" VALUES('cohort','4weeks','tag',1770854400000000,'news','sent',1);
INSERT INTO "rollup" VALUES('cohort','4weeks','tag',1770854400000000,'news','unsubscribed',1);
INSERT INTO "rollup" VALUES('cohort','all','all',0,'','bounced',1);
INSERT INTO "rollup" VALUES('cohort','all','all',0,'','clicked_any',2);
INSERT INTO "rollup" VALUES('cohort','all','all',0,'','clicked_human',2);
INSERT INTO "rollup" VALUES('cohort','all','all',0,'','clicked_possible',2);
INSERT INTO "rollup" VALUES('cohort','all','all',0,'','deferred',1);
INSERT INTO "rollup" VALUES('cohort','all','all',0,'','messages',5);
INSERT INTO "rollup" VALUES('cohort','all','all',0,'','opened_any',2);
INSERT INTO "rollup" VALUES('cohort','all','all',0,'','opened_human',2);
INSERT INTO "rollup" VALUES('cohort','all','all',0,'','opened_possible',2);
INSERT INTO "rollup" VALUES('cohort','all','all',0,'','queued',3);
INSERT INTO "rollup" VALUES('cohort','all','all',0,'','sent',2);
INSERT INTO "rollup" VALUES('cohort','all','all',0,'','unsubscribed',1);
INSERT INTO "rollup" VALUES('cohort','all','inbound',0,'','bounced',1);
INSERT INTO "rollup" VALUES('cohort','all','inbound',0,'','expired',1);
INSERT INTO "rollup" VALUES('cohort','all','inbound',0,'','messages',2);
INSERT INTO "rollup" VALUES('cohort','all','inbound',0,'','sent',2);
INSERT INTO "rollup" VALUES('cohort','all','sender_domain',0,'example.com','bounced',1);
INSERT INTO "rollup" VALUES('cohort','all','sender_domain',0,'example.com','clicked_any',2);
INSERT INTO "rollup" VALUES('cohort','all','sender_domain',0,'example.com','clicked_human',2);
INSERT INTO "rollup" VALUES('cohort','all','sender_domain',0,'example.com','clicked_possible',2);
INSERT INTO "rollup" VALUES('cohort','all','sender_domain',0,'example.com','deferred',1);
INSERT INTO "rollup" VALUES('cohort','all','sender_domain',0,'example.com','messages',3);
INSERT INTO "rollup" VALUES('cohort','all','sender_domain',0,'example.com','opened_any',2);
INSERT INTO "rollup" VALUES('cohort','all','sender_domain',0,'example.com','opened_human',2);
INSERT INTO "rollup" VALUES('cohort','all','sender_domain',0,'example.com','opened_possible',2);
INSERT INTO "rollup" VALUES('cohort','all','sender_domain',0,'example.com','queued',3);
INSERT INTO "rollup" VALUES('cohort','all','sender_domain',0,'example.com','sent',1);
INSERT INTO "rollup" VALUES('cohort','all','sender_domain',0,'example.com','unsubscribed',1);
INSERT INTO "rollup" VALUES('cohort','all','sender_domain',0,'shop.example','messages',2);
INSERT INTO "rollup" VALUES('cohort','all','sender_domain',0,'shop.example','sent',1);
INSERT INTO "rollup" VALUES('cohort','day','all',1772668800000000,'','bounced',1);
INSERT INTO "rollup" VALUES('cohort','day','all',1772668800000000,'','clicked_any',2);
INSERT INTO "rollup" VALUES('cohort','day','all',1772668800000000,'','clicked_human',2);
INSERT INTO "rollup" VALUES('cohort','day','all',1772668800000000,'','clicked_possible',2);
INSERT INTO "rollup" VALUES('cohort','day','all',1772668800000000,'','deferred',1);
INSERT INTO "rollup" VALUES('cohort','day','all',1772668800000000,'','messages',4);
INSERT INTO "rollup" VALUES('cohort','day','all',1772668800000000,'','opened_any',2);
INSERT INTO "rollup" VALUES('cohort','day','all',1772668800000000,'','opened_human',2);
INSERT INTO "rollup" VALUES('cohort','day','all',1772668800000000,'','opened_possible',2);
INSERT INTO "rollup" VALUES('cohort','day','all',1772668800000000,'','queued',3);
INSERT INTO "rollup" VALUES('cohort','day','all',1772668800000000,'','sent',2);
INSERT INTO "rollup" VALUES('cohort','day','all',1772668800000000,'','unsubscribed',1);
INSERT INTO "rollup" VALUES('cohort','day','all',1773187200000000,'','messages',1);
INSERT INTO "rollup" VALUES('cohort','day','inbound',1772668800000000,'','bounced',1);
INSERT INTO "rollup" VALUES('cohort','day','inbound',1772668800000000,'','expired',1);
INSERT INTO "rollup" VALUES('cohort','day','inbound',1772668800000000,'','messages',2);
INSERT INTO "rollup" VALUES('cohort','day','inbound',1772668800000000,'','sent',2);
INSERT INTO "rollup" VALUES('cohort','day','recipient_domain',1772668800000000,'customer.example','sent',1);
INSERT INTO "rollup" VALUES('cohort','day','recipient_domain',1772668800000000,'example.net','bounced',1);
INSERT INTO "rollup" VALUES('cohort','day','recipient_domain',1772668800000000,'example.net','clicked_any',2);
INSERT INTO "rollup" VALUES('cohort','day','recipient_domain',1772668800000000,'example.net','clicked_human',2);
INSERT INTO "rollup" VALUES('cohort','day','recipient_domain',1772668800000000,'example.net','clicked_possible',2);
INSERT INTO "rollup" VALUES('cohort','day','recipient_domain',1772668800000000,'example.net','deferred',1);
INSERT INTO "rollup" VALUES('cohort','day','recipient_domain',1772668800000000,'example.net','opened_any',2);
INSERT INTO "rollup" VALUES('cohort','day','recipient_domain',1772668800000000,'example.net','opened_human',2);
INSERT INTO "rollup" VALUES('cohort','day','recipient_domain',1772668800000000,'example.net','opened_possible',2);
INSERT INTO "rollup" VALUES('cohort','day','recipient_domain',1772668800000000,'example.net','queued',3);
INSERT INTO "rollup" VALUES('cohort','day','recipient_domain',1772668800000000,'example.net','sent',1);
INSERT INTO "rollup" VALUES('cohort','day','recipient_domain',1772668800000000,'example.net','unsubscribed',1);
INSERT INTO "rollup" VALUES('cohort','day','sender_domain',1772668800000000,'example.com','bounced',1);
INSERT INTO "rollup" VALUES('cohort','day','sender_domain',1772668800000000,'example.com','clicked_any',2);
INSERT INTO "rollup" VALUES('cohort','day','sender_domain',1772668800000000,'example.com','clicked_human',2);
INSERT INTO "rollup" VALUES('cohort','day','sender_domain',1772668800000000,'example.com','clicked_possible',2);
INSERT INTO "rollup" VALUES('cohort','day','sender_domain',1772668800000000,'example.com','deferred',1);
INSERT INTO "rollup" VALUES('cohort','day','sender_domain',1772668800000000,'example.com','messages',3);
INSERT INTO "rollup" VALUES('cohort','day','sender_domain',1772668800000000,'example.com','opened_any',2);
INSERT INTO "rollup" VALUES('cohort','day','sender_domain',1772668800000000,'example.com','opened_human',2);
INSERT INTO "rollup" VALUES('cohort','day','sender_domain',1772668800000000,'example.com','opened_possible',2);
INSERT INTO "rollup" VALUES('cohort','day','sender_domain',1772668800000000,'example.com','queued',3);
INSERT INTO "rollup" VALUES('cohort','day','sender_domain',1772668800000000,'example.com','sent',1);
INSERT INTO "rollup" VALUES('cohort','day','sender_domain',1772668800000000,'example.com','unsubscribed',1);
INSERT INTO "rollup" VALUES('cohort','day','sender_domain',1772668800000000,'shop.example','messages',1);
INSERT INTO "rollup" VALUES('cohort','day','sender_domain',1772668800000000,'shop.example','sent',1);
INSERT INTO "rollup" VALUES('cohort','day','sender_domain',1773187200000000,'shop.example','messages',1);
INSERT INTO "rollup" VALUES('cohort','day','tag',1772668800000000,'news','bounced',1);
INSERT INTO "rollup" VALUES('cohort','day','tag',1772668800000000,'news','clicked_any',2);
INSERT INTO "rollup" VALUES('cohort','day','tag',1772668800000000,'news','clicked_human',2);
INSERT INTO "rollup" VALUES('cohort','day','tag',1772668800000000,'news','clicked_possible',2);
INSERT INTO "rollup" VALUES('cohort','day','tag',1772668800000000,'news','deferred',1);
INSERT INTO "rollup" VALUES('cohort','day','tag',1772668800000000,'news','messages',3);
INSERT INTO "rollup" VALUES('cohort','day','tag',1772668800000000,'news','opened_any',2);
INSERT INTO "rollup" VALUES('cohort','day','tag',1772668800000000,'news','opened_human',2);
INSERT INTO "rollup" VALUES('cohort','day','tag',1772668800000000,'news','opened_possible',2);
INSERT INTO "rollup" VALUES('cohort','day','tag',1772668800000000,'news','queued',3);
INSERT INTO "rollup" VALUES('cohort','day','tag',1772668800000000,'news','sent',1);
INSERT INTO "rollup" VALUES('cohort','day','tag',1772668800000000,'news','unsubscribed',1);
INSERT INTO "rollup" VALUES('cohort','hour','all',1772686800000000,'','bounced',1);
INSERT INTO "rollup" VALUES('cohort','hour','all',1772686800000000,'','clicked_any',2);
INSERT INTO "rollup" VALUES('cohort','hour','all',1772686800000000,'','clicked_human',2);
INSERT INTO "rollup" VALUES('cohort','hour','all',1772686800000000,'','clicked_possible',2);
INSERT INTO "rollup" VALUES('cohort','hour','all',1772686800000000,'','deferred',1);
INSERT INTO "rollup" VALUES('cohort','hour','all',1772686800000000,'','messages',4);
INSERT INTO "rollup" VALUES('cohort','hour','all',1772686800000000,'','opened_any',2);
INSERT INTO "rollup" VALUES('cohort','hour','all',1772686800000000,'','opened_human',2);
INSERT INTO "rollup" VALUES('cohort','hour','all',1772686800000000,'','opened_possible',2);
INSERT INTO "rollup" VALUES('cohort','hour','all',1772686800000000,'','queued',3);
INSERT INTO "rollup" VALUES('cohort','hour','all',1772686800000000,'','sent',2);
INSERT INTO "rollup" VALUES('cohort','hour','all',1772686800000000,'','unsubscribed',1);
INSERT INTO "rollup" VALUES('cohort','hour','all',1773212400000000,'','messages',1);
INSERT INTO "rollup" VALUES('cohort','hour','inbound',1772686800000000,'','bounced',1);
INSERT INTO "rollup" VALUES('cohort','hour','inbound',1772686800000000,'','expired',1);
INSERT INTO "rollup" VALUES('cohort','hour','inbound',1772686800000000,'','messages',2);
INSERT INTO "rollup" VALUES('cohort','hour','inbound',1772686800000000,'','sent',2);
INSERT INTO "rollup" VALUES('cohort','hour','recipient_domain',1772686800000000,'customer.example','sent',1);
INSERT INTO "rollup" VALUES('cohort','hour','recipient_domain',1772686800000000,'example.net','bounced',1);
INSERT INTO "rollup" VALUES('cohort','hour','recipient_domain',1772686800000000,'example.net','clicked_any',2);
INSERT INTO "rollup" VALUES('cohort','hour','recipient_domain',1772686800000000,'example.net','clicked_human',2);
INSERT INTO "rollup" VALUES('cohort','hour','recipient_domain',1772686800000000,'example.net','clicked_possible',2);
INSERT INTO "rollup" VALUES('cohort','hour','recipient_domain',1772686800000000,'example.net','deferred',1);
INSERT INTO "rollup" VALUES('cohort','hour','recipient_domain',1772686800000000,'example.net','opened_any',2);
INSERT INTO "rollup" VALUES('cohort','hour','recipient_domain',1772686800000000,'example.net','opened_human',2);
INSERT INTO "rollup" VALUES('cohort','hour','recipient_domain',1772686800000000,'example.net','opened_possible',2);
INSERT INTO "rollup" VALUES('cohort','hour','recipient_domain',1772686800000000,'example.net','queued',3);
INSERT INTO "rollup" VALUES('cohort','hour','recipient_domain',1772686800000000,'example.net','sent',1);
INSERT INTO "rollup" VALUES('cohort','hour','recipient_domain',1772686800000000,'example.net','unsubscribed',1);
INSERT INTO "rollup" VALUES('cohort','hour','sender_domain',1772686800000000,'example.com','bounced',1);
INSERT INTO "rollup" VALUES('cohort','hour','sender_domain',1772686800000000,'example.com','clicked_any',2);
INSERT INTO "rollup" VALUES('cohort','hour','sender_domain',1772686800000000,'example.com','clicked_human',2);
INSERT INTO "rollup" VALUES('cohort','hour','sender_domain',1772686800000000,'example.com','clicked_possible',2);
INSERT INTO "rollup" VALUES('cohort','hour','sender_domain',1772686800000000,'example.com','deferred',1);
INSERT INTO "rollup" VALUES('cohort','hour','sender_domain',1772686800000000,'example.com','messages',3);
INSERT INTO "rollup" VALUES('cohort','hour','sender_domain',1772686800000000,'example.com','opened_any',2);
INSERT INTO "rollup" VALUES('cohort','hour','sender_domain',1772686800000000,'example.com','opened_human',2);
INSERT INTO "rollup" VALUES('cohort','hour','sender_domain',1772686800000000,'example.com','opened_possible',2);
INSERT INTO "rollup" VALUES('cohort','hour','sender_domain',1772686800000000,'example.com','queued',3);
INSERT INTO "rollup" VALUES('cohort','hour','sender_domain',1772686800000000,'example.com','sent',1);
INSERT INTO "rollup" VALUES('cohort','hour','sender_domain',1772686800000000,'example.com','unsubscribed',1);
INSERT INTO "rollup" VALUES('cohort','hour','sender_domain',1772686800000000,'shop.example','messages',1);
INSERT INTO "rollup" VALUES('cohort','hour','sender_domain',1772686800000000,'shop.example','sent',1);
INSERT INTO "rollup" VALUES('cohort','hour','sender_domain',1773212400000000,'shop.example','messages',1);
INSERT INTO "rollup" VALUES('cohort','hour','tag',1772686800000000,'news','bounced',1);
INSERT INTO "rollup" VALUES('cohort','hour','tag',1772686800000000,'news','clicked_any',2);
INSERT INTO "rollup" VALUES('cohort','hour','tag',1772686800000000,'news','clicked_human',2);
INSERT INTO "rollup" VALUES('cohort','hour','tag',1772686800000000,'news','clicked_possible',2);
INSERT INTO "rollup" VALUES('cohort','hour','tag',1772686800000000,'news','deferred',1);
INSERT INTO "rollup" VALUES('cohort','hour','tag',1772686800000000,'news','messages',3);
INSERT INTO "rollup" VALUES('cohort','hour','tag',1772686800000000,'news','opened_any',2);
INSERT INTO "rollup" VALUES('cohort','hour','tag',1772686800000000,'news','opened_human',2);
INSERT INTO "rollup" VALUES('cohort','hour','tag',1772686800000000,'news','opened_possible',2);
INSERT INTO "rollup" VALUES('cohort','hour','tag',1772686800000000,'news','queued',3);
INSERT INTO "rollup" VALUES('cohort','hour','tag',1772686800000000,'news','sent',1);
INSERT INTO "rollup" VALUES('cohort','hour','tag',1772686800000000,'news','unsubscribed',1);
INSERT INTO "rollup" VALUES('event','4weeks','recipient_domain',1770854400000000,'customer.example','sent',1);
INSERT INTO "rollup" VALUES('event','4weeks','recipient_domain',1770854400000000,'example.net','bounced',1);
INSERT INTO "rollup" VALUES('event','4weeks','recipient_domain',1770854400000000,'example.net','deferred',1);
INSERT INTO "rollup" VALUES('event','4weeks','recipient_domain',1770854400000000,'example.net','sent',1);
INSERT INTO "rollup" VALUES('event','4weeks','reply',1770854400000000,'10','bounced',1);
INSERT INTO "rollup" VALUES('event','4weeks','reply',1770854400000000,'2','bounced',1);
INSERT INTO "rollup" VALUES('event','4weeks','reply',1770854400000000,'3','deferred',1);
INSERT INTO "rollup" VALUES('event','4weeks','reply',1770854400000000,'5','expired',1);
INSERT INTO "rollup" VALUES('event','4weeks','reply',1770854400000000,'9','deferred',1);
INSERT INTO "rollup" VALUES('event','4weeks','sender_domain',1770854400000000,'example.com','accepted',3);
INSERT INTO "rollup" VALUES('event','4weeks','sender_domain',1770854400000000,'example.com','bounced',1);
INSERT INTO "rollup" VALUES('event','4weeks','sender_domain',1770854400000000,'example.com','clicked.human',2);
INSERT INTO "rollup" VALUES('event','4weeks','sender_domain',1770854400000000,'example.com','clicked.machine',2);
INSERT INTO "rollup" VALUES('event','4weeks','sender_domain',1770854400000000,'example.com','clicked.unknown',2);
INSERT INTO "rollup" VALUES('event','4weeks','sender_domain',1770854400000000,'example.com','deferred',1);
INSERT INTO "rollup" VALUES('event','4weeks','sender_domain',1770854400000000,'example.com','opened.human',2);
INSERT INTO "rollup" VALUES('event','4weeks','sender_domain',1770854400000000,'example.com','opened.machine',2);
INSERT INTO "rollup" VALUES('event','4weeks','sender_domain',1770854400000000,'example.com','opened.unknown',2);
INSERT INTO "rollup" VALUES('event','4weeks','sender_domain',1770854400000000,'example.com','sent',1);
INSERT INTO "rollup" VALUES('event','4weeks','sender_domain',1770854400000000,'example.com','unsubscribed',1);
INSERT INTO "rollup" VALUES('event','4weeks','sender_domain',1770854400000000,'shop.example','accepted',2);
INSERT INTO "rollup" VALUES('event','4weeks','sender_domain',1770854400000000,'shop.example','sent',1);
INSERT INTO "rollup" VALUES('event','4weeks','tag',1770854400000000,'news','accepted',3);
INSERT INTO "rollup" VALUES('event','4weeks','tag',1770854400000000,'news','bounced',1);
INSERT INTO "rollup" VALUES('event','4weeks','tag',1770854400000000,'news','clicked.human',2);
INSERT INTO "rollup" VALUES('event','4weeks','tag',1770854400000000,'news','clicked.machine',2);
INSERT INTO "rollup" VALUES('event','4weeks','tag',1770854400000000,'news','clicked.unknown',2);
INSERT INTO "rollup" VALUES('event','4weeks','tag',1770854400000000,'news','deferred',1);
INSERT INTO "rollup" VALUES('event','4weeks','tag',1770854400000000,'news','opened.human',2);
INSERT INTO "rollup" VALUES('event','4weeks','tag',1770854400000000,'news','opened.machine',2);
INSERT INTO "rollup" VALUES('event','4weeks','tag',1770854400000000,'news','opened.unknown',2);
INSERT INTO "rollup" VALUES('event','4weeks','tag',1770854400000000,'news','sent',1);
INSERT INTO "rollup" VALUES('event','4weeks','tag',1770854400000000,'news','unsubscribed',1);
INSERT INTO "rollup" VALUES('event','all','all',0,'','accepted',5);
INSERT INTO "rollup" VALUES('event','all','all',0,'','bounced',1);
INSERT INTO "rollup" VALUES('event','all','all',0,'','clicked.human',2);
INSERT INTO "rollup" VALUES('event','all','all',0,'','clicked.machine',2);
INSERT INTO "rollup" VALUES('event','all','all',0,'','clicked.unknown',2);
INSERT INTO "rollup" VALUES('event','all','all',0,'','deferred',1);
INSERT INTO "rollup" VALUES('event','all','all',0,'','opened.human',2);
INSERT INTO "rollup" VALUES('event','all','all',0,'','opened.machine',2);
INSERT INTO "rollup" VALUES('event','all','all',0,'','opened.unknown',2);
INSERT INTO "rollup" VALUES('event','all','all',0,'','rejected',1);
INSERT INTO "rollup" VALUES('event','all','all',0,'','sent',2);
INSERT INTO "rollup" VALUES('event','all','all',0,'','unsubscribed',1);
INSERT INTO "rollup" VALUES('event','all','category',0,'bad-mailbox','bounced',1);
INSERT INTO "rollup" VALUES('event','all','category',0,'greylisted','deferred',1);
INSERT INTO "rollup" VALUES('event','all','inbound',0,'','bounced',1);
INSERT INTO "rollup" VALUES('event','all','inbound',0,'','deferred',1);
INSERT INTO "rollup" VALUES('event','all','inbound',0,'','expired',1);
INSERT INTO "rollup" VALUES('event','all','inbound',0,'','received',2);
INSERT INTO "rollup" VALUES('event','all','inbound',0,'','sent',2);
INSERT INTO "rollup" VALUES('event','all','kind',0,'hard','bounced',1);
INSERT INTO "rollup" VALUES('event','all','kind',0,'soft','deferred',1);
INSERT INTO "rollup" VALUES('event','all','reason',0,'','tracked',2);
INSERT INTO "rollup" VALUES('event','all','reason',0,'no-html','untracked',1);
INSERT INTO "rollup" VALUES('event','all','sender_domain',0,'example.com','accepted',3);
INSERT INTO "rollup" VALUES('event','all','sender_domain',0,'example.com','bounced',1);
INSERT INTO "rollup" VALUES('event','all','sender_domain',0,'example.com','clicked.human',2);
INSERT INTO "rollup" VALUES('event','all','sender_domain',0,'example.com','clicked.machine',2);
INSERT INTO "rollup" VALUES('event','all','sender_domain',0,'example.com','clicked.unknown',2);
INSERT INTO "rollup" VALUES('event','all','sender_domain',0,'example.com','deferred',1);
INSERT INTO "rollup" VALUES('event','all','sender_domain',0,'example.com','opened.human',2);
INSERT INTO "rollup" VALUES('event','all','sender_domain',0,'example.com','opened.machine',2);
INSERT INTO "rollup" VALUES('event','all','sender_domain',0,'example.com','opened.unknown',2);
INSERT INTO "rollup" VALUES('event','all','sender_domain',0,'example.com','sent',1);
INSERT INTO "rollup" VALUES('event','all','sender_domain',0,'example.com','unsubscribed',1);
INSERT INTO "rollup" VALUES('event','all','sender_domain',0,'shop.example','accepted',2);
INSERT INTO "rollup" VALUES('event','all','sender_domain',0,'shop.example','sent',1);
INSERT INTO "rollup" VALUES('event','day','all',1772668800000000,'','accepted',4);
INSERT INTO "rollup" VALUES('event','day','all',1772668800000000,'','bounced',1);
INSERT INTO "rollup" VALUES('event','day','all',1772668800000000,'','clicked.human',2);
INSERT INTO "rollup" VALUES('event','day','all',1772668800000000,'','clicked.machine',2);
INSERT INTO "rollup" VALUES('event','day','all',1772668800000000,'','clicked.unknown',2);
INSERT INTO "rollup" VALUES('event','day','all',1772668800000000,'','deferred',1);
INSERT INTO "rollup" VALUES('event','day','all',1772668800000000,'','opened.human',2);
INSERT INTO "rollup" VALUES('event','day','all',1772668800000000,'','opened.machine',2);
INSERT INTO "rollup" VALUES('event','day','all',1772668800000000,'','opened.unknown',2);
INSERT INTO "rollup" VALUES('event','day','all',1772668800000000,'','sent',2);
INSERT INTO "rollup" VALUES('event','day','all',1772668800000000,'','unsubscribed',1);
INSERT INTO "rollup" VALUES('event','day','all',1773187200000000,'','accepted',1);
INSERT INTO "rollup" VALUES('event','day','all',1773187200000000,'','rejected',1);
INSERT INTO "rollup" VALUES('event','day','category',1772668800000000,'bad-mailbox','bounced',1);
INSERT INTO "rollup" VALUES('event','day','category',1772668800000000,'greylisted','deferred',1);
INSERT INTO "rollup" VALUES('event','day','inbound',1772668800000000,'','bounced',1);
INSERT INTO "rollup" VALUES('event','day','inbound',1772668800000000,'','deferred',1);
INSERT INTO "rollup" VALUES('event','day','inbound',1772668800000000,'','received',2);
INSERT INTO "rollup" VALUES('event','day','inbound',1772668800000000,'','sent',2);
INSERT INTO "rollup" VALUES('event','day','inbound',1773100800000000,'','expired',1);
INSERT INTO "rollup" VALUES('event','day','kind',1772668800000000,'hard','bounced',1);
INSERT INTO "rollup" VALUES('event','day','kind',1772668800000000,'soft','deferred',1);
INSERT INTO "rollup" VALUES('event','day','reason',1772668800000000,'','tracked',2);
INSERT INTO "rollup" VALUES('event','day','reason',1772668800000000,'no-html','untracked',1);
INSERT INTO "rollup" VALUES('event','day','recipient_domain',1772668800000000,'customer.example','sent',1);
INSERT INTO "rollup" VALUES('event','day','recipient_domain',1772668800000000,'example.net','bounced',1);
INSERT INTO "rollup" VALUES('event','day','recipient_domain',1772668800000000,'example.net','deferred',1);
INSERT INTO "rollup" VALUES('event','day','recipient_domain',1772668800000000,'example.net','sent',1);
INSERT INTO "rollup" VALUES('event','day','reply',1772668800000000,'10','bounced',1);
INSERT INTO "rollup" VALUES('event','day','reply',1772668800000000,'2','bounced',1);
INSERT INTO "rollup" VALUES('event','day','reply',1772668800000000,'3','deferred',1);
INSERT INTO "rollup" VALUES('event','day','reply',1772668800000000,'9','deferred',1);
INSERT INTO "rollup" VALUES('event','day','reply',1773100800000000,'5','expired',1);
INSERT INTO "rollup" VALUES('event','day','sender_domain',1772668800000000,'example.com','accepted',3);
INSERT INTO "rollup" VALUES('event','day','sender_domain',1772668800000000,'example.com','bounced',1);
INSERT INTO "rollup" VALUES('event','day','sender_domain',1772668800000000,'example.com','clicked.human',2);
INSERT INTO "rollup" VALUES('event','day','sender_domain',1772668800000000,'example.com','clicked.machine',2);
INSERT INTO "rollup" VALUES('event','day','sender_domain',1772668800000000,'example.com','clicked.unknown',2);
INSERT INTO "rollup" VALUES('event','day','sender_domain',1772668800000000,'example.com','deferred',1);
INSERT INTO "rollup" VALUES('event','day','sender_domain',1772668800000000,'example.com','opened.human',2);
INSERT INTO "rollup" VALUES('event','day','sender_domain',1772668800000000,'example.com','opened.machine',2);
INSERT INTO "rollup" VALUES('event','day','sender_domain',1772668800000000,'example.com','opened.unknown',2);
INSERT INTO "rollup" VALUES('event','day','sender_domain',1772668800000000,'example.com','sent',1);
INSERT INTO "rollup" VALUES('event','day','sender_domain',1772668800000000,'example.com','unsubscribed',1);
INSERT INTO "rollup" VALUES('event','day','sender_domain',1772668800000000,'shop.example','accepted',1);
INSERT INTO "rollup" VALUES('event','day','sender_domain',1772668800000000,'shop.example','sent',1);
INSERT INTO "rollup" VALUES('event','day','sender_domain',1773187200000000,'shop.example','accepted',1);
INSERT INTO "rollup" VALUES('event','day','tag',1772668800000000,'news','accepted',3);
INSERT INTO "rollup" VALUES('event','day','tag',1772668800000000,'news','bounced',1);
INSERT INTO "rollup" VALUES('event','day','tag',1772668800000000,'news','clicked.human',2);
INSERT INTO "rollup" VALUES('event','day','tag',1772668800000000,'news','clicked.machine',2);
INSERT INTO "rollup" VALUES('event','day','tag',1772668800000000,'news','clicked.unknown',2);
INSERT INTO "rollup" VALUES('event','day','tag',1772668800000000,'news','deferred',1);
INSERT INTO "rollup" VALUES('event','day','tag',1772668800000000,'news','opened.human',2);
INSERT INTO "rollup" VALUES('event','day','tag',1772668800000000,'news','opened.machine',2);
INSERT INTO "rollup" VALUES('event','day','tag',1772668800000000,'news','opened.unknown',2);
INSERT INTO "rollup" VALUES('event','day','tag',1772668800000000,'news','sent',1);
INSERT INTO "rollup" VALUES('event','day','tag',1772668800000000,'news','unsubscribed',1);
INSERT INTO "rollup" VALUES('event','hour','all',1772686800000000,'','accepted',4);
INSERT INTO "rollup" VALUES('event','hour','all',1772686800000000,'','bounced',1);
INSERT INTO "rollup" VALUES('event','hour','all',1772686800000000,'','clicked.human',2);
INSERT INTO "rollup" VALUES('event','hour','all',1772686800000000,'','clicked.machine',2);
INSERT INTO "rollup" VALUES('event','hour','all',1772686800000000,'','clicked.unknown',2);
INSERT INTO "rollup" VALUES('event','hour','all',1772686800000000,'','deferred',1);
INSERT INTO "rollup" VALUES('event','hour','all',1772686800000000,'','opened.human',2);
INSERT INTO "rollup" VALUES('event','hour','all',1772686800000000,'','opened.machine',2);
INSERT INTO "rollup" VALUES('event','hour','all',1772686800000000,'','opened.unknown',2);
INSERT INTO "rollup" VALUES('event','hour','all',1772686800000000,'','sent',2);
INSERT INTO "rollup" VALUES('event','hour','all',1772686800000000,'','unsubscribed',1);
INSERT INTO "rollup" VALUES('event','hour','all',1773212400000000,'','accepted',1);
INSERT INTO "rollup" VALUES('event','hour','all',1773212400000000,'','rejected',1);
INSERT INTO "rollup" VALUES('event','hour','category',1772686800000000,'bad-mailbox','bounced',1);
INSERT INTO "rollup" VALUES('event','hour','category',1772686800000000,'greylisted','deferred',1);
INSERT INTO "rollup" VALUES('event','hour','inbound',1772686800000000,'','bounced',1);
INSERT INTO "rollup" VALUES('event','hour','inbound',1772686800000000,'','deferred',1);
INSERT INTO "rollup" VALUES('event','hour','inbound',1772686800000000,'','received',2);
INSERT INTO "rollup" VALUES('event','hour','inbound',1772686800000000,'','sent',2);
INSERT INTO "rollup" VALUES('event','hour','inbound',1773118800000000,'','expired',1);
INSERT INTO "rollup" VALUES('event','hour','kind',1772686800000000,'hard','bounced',1);
INSERT INTO "rollup" VALUES('event','hour','kind',1772686800000000,'soft','deferred',1);
INSERT INTO "rollup" VALUES('event','hour','reason',1772686800000000,'','tracked',2);
INSERT INTO "rollup" VALUES('event','hour','reason',1772686800000000,'no-html','untracked',1);
INSERT INTO "rollup" VALUES('event','hour','recipient_domain',1772686800000000,'customer.example','sent',1);
INSERT INTO "rollup" VALUES('event','hour','recipient_domain',1772686800000000,'example.net','bounced',1);
INSERT INTO "rollup" VALUES('event','hour','recipient_domain',1772686800000000,'example.net','deferred',1);
INSERT INTO "rollup" VALUES('event','hour','recipient_domain',1772686800000000,'example.net','sent',1);
INSERT INTO "rollup" VALUES('event','hour','reply',1772686800000000,'10','bounced',1);
INSERT INTO "rollup" VALUES('event','hour','reply',1772686800000000,'2','bounced',1);
INSERT INTO "rollup" VALUES('event','hour','reply',1772686800000000,'3','deferred',1);
INSERT INTO "rollup" VALUES('event','hour','reply',1772686800000000,'9','deferred',1);
INSERT INTO "rollup" VALUES('event','hour','reply',1773118800000000,'5','expired',1);
INSERT INTO "rollup" VALUES('event','hour','sender_domain',1772686800000000,'example.com','accepted',3);
INSERT INTO "rollup" VALUES('event','hour','sender_domain',1772686800000000,'example.com','bounced',1);
INSERT INTO "rollup" VALUES('event','hour','sender_domain',1772686800000000,'example.com','clicked.human',2);
INSERT INTO "rollup" VALUES('event','hour','sender_domain',1772686800000000,'example.com','clicked.machine',2);
INSERT INTO "rollup" VALUES('event','hour','sender_domain',1772686800000000,'example.com','clicked.unknown',2);
INSERT INTO "rollup" VALUES('event','hour','sender_domain',1772686800000000,'example.com','deferred',1);
INSERT INTO "rollup" VALUES('event','hour','sender_domain',1772686800000000,'example.com','opened.human',2);
INSERT INTO "rollup" VALUES('event','hour','sender_domain',1772686800000000,'example.com','opened.machine',2);
INSERT INTO "rollup" VALUES('event','hour','sender_domain',1772686800000000,'example.com','opened.unknown',2);
INSERT INTO "rollup" VALUES('event','hour','sender_domain',1772686800000000,'example.com','sent',1);
INSERT INTO "rollup" VALUES('event','hour','sender_domain',1772686800000000,'example.com','unsubscribed',1);
INSERT INTO "rollup" VALUES('event','hour','sender_domain',1772686800000000,'shop.example','accepted',1);
INSERT INTO "rollup" VALUES('event','hour','sender_domain',1772686800000000,'shop.example','sent',1);
INSERT INTO "rollup" VALUES('event','hour','sender_domain',1773212400000000,'shop.example','accepted',1);
INSERT INTO "rollup" VALUES('event','hour','tag',1772686800000000,'news','accepted',3);
INSERT INTO "rollup" VALUES('event','hour','tag',1772686800000000,'news','bounced',1);
INSERT INTO "rollup" VALUES('event','hour','tag',1772686800000000,'news','clicked.human',2);
INSERT INTO "rollup" VALUES('event','hour','tag',1772686800000000,'news','clicked.machine',2);
INSERT INTO "rollup" VALUES('event','hour','tag',1772686800000000,'news','clicked.unknown',2);
INSERT INTO "rollup" VALUES('event','hour','tag',1772686800000000,'news','deferred',1);
INSERT INTO "rollup" VALUES('event','hour','tag',1772686800000000,'news','opened.human',2);
INSERT INTO "rollup" VALUES('event','hour','tag',1772686800000000,'news','opened.machine',2);
INSERT INTO "rollup" VALUES('event','hour','tag',1772686800000000,'news','opened.unknown',2);
INSERT INTO "rollup" VALUES('event','hour','tag',1772686800000000,'news','sent',1);
INSERT INTO "rollup" VALUES('event','hour','tag',1772686800000000,'news','unsubscribed',1);
CREATE TABLE state (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
INSERT INTO "state" VALUES(0,'queued');
INSERT INTO "state" VALUES(1,'sent');
INSERT INTO "state" VALUES(2,'deferred');
INSERT INTO "state" VALUES(3,'bounced');
INSERT INTO "state" VALUES(4,'expired');
INSERT INTO "state" VALUES(5,'handed_over');
INSERT INTO "state" VALUES(6,'deleted');
CREATE TABLE url (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
INSERT INTO "url" VALUES(1,'https://shop.example.com/a?b=1');
CREATE TABLE user_agent (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
INSERT INTO "user_agent" VALUES(1,'Mozilla/5.0 (X11; Linux)');
CREATE TABLE who (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
INSERT INTO "who" VALUES(0,'unknown');
INSERT INTO "who" VALUES(1,'human');
INSERT INTO "who" VALUES(2,'machine');
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE UNIQUE INDEX message_tracking_id ON message (tracking_id) WHERE tracking_id IS NOT NULL;
CREATE INDEX message_merged_into ON message (merged_into) WHERE merged_into IS NOT NULL;
CREATE INDEX delivery_message ON delivery (message);
CREATE INDEX event_message ON event (message);
CREATE INDEX event_failed ON event (at_us, reply) WHERE type IN (4, 5, 6);
CREATE UNIQUE INDEX event_hit_id ON event (hit_id) WHERE hit_id IS NOT NULL;
CREATE INDEX relabel_event ON relabel (event);
CREATE INDEX queue_message ON queue (message);
CREATE VIEW messages AS
SELECT message.id, strftime('%Y-%m-%dT%H:%M:%fZ', message.at_us / 1e6, 'unixepoch') AS at, direction.name AS direction, lower(hex(tracking_id)) AS tracking_id,
  host, queue_id, message_id, sender, domain, recipients, subject, tag, campaign, metadata, size_bytes, client, sasl_username,
  tracked, untracked_reason, privacy.name AS privacy, pixels, links, links_skipped, message.at_us
FROM message JOIN direction ON direction.id = message.direction LEFT JOIN privacy ON privacy.id = message.privacy
WHERE merged_into IS NULL;
CREATE VIEW deliveries AS
SELECT delivery.id, delivery.message, strftime('%Y-%m-%dT%H:%M:%fZ', delivery.at_us / 1e6, 'unixepoch') AS at, message.sender, delivery.recipient,
  delivery.original_recipient, state.name AS state, attempts, strftime('%Y-%m-%dT%H:%M:%fZ', last_attempt_us / 1e6, 'unixepoch') AS last_attempt,
  relay.text AS relay, reply.code, reply.dsn, replace(reply.text, '{}', coalesce(event.reply_part, '{}')) AS reply, reply.kind, reply.fault, reply.category, reply.provider,
  event.delay_us / 1e6 AS delay_s, message.queue_id, message.message_id, message.subject, message.tag, delivery.at_us
FROM delivery JOIN message ON message.id = delivery.message JOIN state ON state.id = delivery.state
LEFT JOIN event ON event.id = delivery.last_event LEFT JOIN reply ON reply.id = event.reply LEFT JOIN relay ON relay.id = event.relay
WHERE message.merged_into IS NULL;
CREATE VIEW opens AS
SELECT event.id, strftime('%Y-%m-%dT%H:%M:%fZ', event.at_us / 1e6, 'unixepoch') AS at, event.message, delivery.recipient, who.name AS who, reason,
  user_agent.text AS user_agent, event.client, message.subject, message.tag, event.at_us
FROM event LEFT JOIN message ON message.id = event.message LEFT JOIN delivery ON delivery.id = event.delivery
JOIN who ON who.id = event.who LEFT JOIN user_agent ON user_agent.id = event.user_agent
WHERE event.type = 7;
CREATE VIEW clicks AS
SELECT event.id, strftime('%Y-%m-%dT%H:%M:%fZ', event.at_us / 1e6, 'unixepoch') AS at, event.message, delivery.recipient, event.link, url.text AS url, who.name AS who,
  reason, user_agent.text AS user_agent, event.client, message.subject, message.tag, event.at_us
FROM event LEFT JOIN message ON message.id = event.message LEFT JOIN delivery ON delivery.id = event.delivery
JOIN who ON who.id = event.who LEFT JOIN url ON url.id = event.url LEFT JOIN user_agent ON user_agent.id = event.user_agent
WHERE event.type = 8;
CREATE VIEW events AS
SELECT event.id, strftime('%Y-%m-%dT%H:%M:%fZ', event.at_us / 1e6, 'unixepoch') AS at, event_type.name AS type, event.message, lower(hex(message.tracking_id)) AS tracking_id,
  message.queue_id, message.message_id, message.sender, delivery.recipient, relay.text AS relay, reply.code, reply.dsn,
  replace(reply.text, '{}', coalesce(event.reply_part, '{}')) AS reply, reply.kind, reply.category, event.delay_us / 1e6 AS delay_s, who.name AS who, event.reason, url.text AS url,
  event.detail, event.at_us
FROM event JOIN event_type ON event_type.id = event.type LEFT JOIN message ON message.id = event.message
LEFT JOIN delivery ON delivery.id = event.delivery LEFT JOIN relay ON relay.id = event.relay LEFT JOIN reply ON reply.id = event.reply
LEFT JOIN who ON who.id = event.who LEFT JOIN url ON url.id = event.url;
CREATE VIEW daily AS
SELECT strftime('%Y-%m-%d', start_us / 1e6, 'unixepoch') AS day,
  sum(n) FILTER (WHERE measure = 'accepted') AS accepted,
  sum(n) FILTER (WHERE measure = 'sent') AS sent,
  sum(n) FILTER (WHERE measure = 'deferred') AS deferrals,
  sum(n) FILTER (WHERE measure IN ('bounced', 'expired')) AS bounced,
  sum(n) FILTER (WHERE measure = 'opened.human') AS opens_human,
  sum(n) FILTER (WHERE measure = 'opened.machine') AS opens_machine,
  sum(n) FILTER (WHERE measure = 'opened.unknown') AS opens_unknown,
  sum(n) FILTER (WHERE measure = 'clicked.human') AS clicks_human,
  sum(n) FILTER (WHERE measure = 'clicked.machine') AS clicks_machine,
  sum(n) FILTER (WHERE measure = 'clicked.unknown') AS clicks_unknown,
  sum(n) FILTER (WHERE measure = 'unsubscribed') AS unsubscribed,
  sum(n) FILTER (WHERE measure = 'complained') AS complained
FROM rollup WHERE basis = 'event' AND span = 'day' AND dimension = 'all' GROUP BY start_us ORDER BY start_us;
CREATE INDEX engagement_unsubscribed ON engagement (unsubscribed_us) WHERE unsubscribed_us IS NOT NULL;
CREATE UNIQUE INDEX reply_text ON reply (text, coalesce(code, 0), coalesce(dsn, ''), coalesce(rule, ''), coalesce(provider, ''));
CREATE INDEX message_queue_id ON message (at_us / 3600000000, queue_id);
CREATE INDEX message_message_id ON message (at_us / 3600000000, message_id) WHERE message_id IS NOT NULL;
CREATE INDEX delivery_recipient ON delivery (at_us / 3600000000, recipient COLLATE NOCASE);
CREATE INDEX event_reply ON event (reply, at_us) WHERE type IN (4, 5, 6);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('queue',4);
COMMIT;
