-- What the boot plane heard of one MAC, known or not: for `explain`. Bounded by store/heard.rs.
CREATE TABLE heard (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    mac TEXT NOT NULL,
    known BIGINT NOT NULL,
    at BIGINT NOT NULL,
    sign TEXT NOT NULL
);
CREATE INDEX heard_by_mac ON heard (mac, seq);
CREATE INDEX heard_unknown ON heard (seq) WHERE known = 0;

-- DHCP servers that are not ours. `blocks_until`: no unattended wipe begins before; 0 where the server is allowed.
CREATE TABLE foreign_servers (
    ip TEXT PRIMARY KEY,
    mac TEXT,
    kind TEXT NOT NULL,
    boot_file TEXT,
    heard_by TEXT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    times BIGINT NOT NULL,
    blocks_until BIGINT NOT NULL
);
