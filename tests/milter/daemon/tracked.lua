-- A mail of a tracked sender: rewritten, stamped, accepted. Run: miltertest -s tracked.lua -D socket=unix:/PATH
local function check(condition, what)
    if not condition then print("failed: " .. what) error(what) end
end

local conn = mt.connect(socket, 40, 0.25)
check(conn ~= nil, "connect failed")
check(mt.negotiate(conn, SMFI_VERSION, SMFI_V6_ACTS, SMFI_V6_PROT) == nil, "negotiation failed")
check(mt.test_option(conn, SMFIP_NOHELO), "HELO is asked for")
check(mt.test_option(conn, SMFIP_NR_HDR), "header fields are answered")
check(not mt.test_option(conn, SMFIP_NOBODY), "no body is asked for")
check(mt.test_action(conn, SMFIF_CHGBODY), "bodies are not to be changed")
check(not mt.test_action(conn, SMFIF_QUARANTINE), "quarantine is asked for")

mt.macro(conn, SMFIC_CONNECT, "j", "mx.example.com")
check(mt.conninfo(conn, "client.test", "127.0.0.1") == nil, "connect")
for number = 1, 2 do
    check(mt.mailfrom(conn, "<news@example.com>") == nil, "mail")
    check(mt.rcptto(conn, "<ada@accept.test>") == nil, "rcpt")
    check(mt.header(conn, "From", "<news@example.com>") == nil, "from")
    check(mt.header(conn, "X-Tag", "lua") == nil, "tag")
    check(mt.header(conn, "Content-Type", "text/html; charset=us-ascii") == nil, "content type")
    check(mt.bodystring(conn, "<html><body><a href=\"https://shop.example.net/\">x</a></body></html>\r\n") == nil, "body")
    check(mt.getreply(conn) == SMFIR_CONTINUE, "body not wanted")
    mt.macro(conn, string.byte("E"), "i", "4QLua" .. number)
    check(mt.eom(conn) == nil, "end of message")
    check(mt.getreply(conn) == SMFIR_ACCEPT, "not accepted")
    check(mt.eom_check(conn, MT_HDRADD, "X-Postwake-ID"), "not stamped")
    check(mt.eom_check(conn, MT_HDRDELETE, "X-Tag"), "the control field stays")
    check(mt.eom_check(conn, MT_BODYCHANGE), "body not replaced")
end
mt.disconnect(conn)
