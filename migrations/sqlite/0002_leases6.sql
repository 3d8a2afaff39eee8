-- What DHCPv6 has promised. `owner` is a MAC, or a client identifier and the number of its association; `duid` the
-- identifier as it came last.
CREATE TABLE leases6 (
    ip TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    duid TEXT,
    machine TEXT,
    state TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);
