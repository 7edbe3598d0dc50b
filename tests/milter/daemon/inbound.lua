-- Mail from outside: nothing is edited, and the rest of its body is declined. Run: miltertest -s inbound.lua -D socket=unix:/PATH
local function check(condition, what)
    if not condition then print("failed: " .. what) error(what) end
end

local conn = mt.connect(socket, 40, 0.25)
check(conn ~= nil, "connect failed")
check(mt.conninfo(conn, "stranger.test", "203.0.113.9") == nil, "connect")
check(mt.mailfrom(conn, "<news@example.com>") == nil, "mail")
check(mt.rcptto(conn, "<ada@accept.test>") == nil, "rcpt")
check(mt.header(conn, "From", "<news@example.com>") == nil, "from")
check(mt.bodystring(conn, "<html><body>x</body></html>\r\n") == nil, "body")
check(mt.getreply(conn) == SMFIR_SKIP, "the body is wanted")
check(mt.eom(conn) == nil, "end of message")
check(mt.getreply(conn) == SMFIR_ACCEPT, "not accepted")
check(not mt.eom_check(conn, MT_HDRADD), "a field was added")
check(not mt.eom_check(conn, MT_BODYCHANGE), "the body was replaced")
check(mt.abort(conn) == nil, "abort")
mt.disconnect(conn, false)
