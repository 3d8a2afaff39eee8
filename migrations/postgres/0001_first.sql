-- What is declared: the JSON of one machine's hardware, one profile, one image.
CREATE TABLE declared (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    spec TEXT NOT NULL,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (kind, name)
);

-- What is: one machine's state. `version` is the compare-and-swap counter.
CREATE TABLE machines (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    phase TEXT NOT NULL,
    state TEXT NOT NULL,
    boot_hash TEXT UNIQUE,
    changed_at BIGINT NOT NULL,
    version BIGINT NOT NULL
);

CREATE TABLE macs (
    mac TEXT PRIMARY KEY,
    machine TEXT NOT NULL REFERENCES machines (id) ON DELETE CASCADE
);

-- What happened. `verdict` is NULL until the engine has folded the event.
CREATE TABLE events (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    machine TEXT NOT NULL,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    event TEXT NOT NULL,
    verdict TEXT
);
CREATE INDEX events_unfolded ON events (machine, seq) WHERE verdict IS NULL;
CREATE INDEX events_by_machine ON events (machine, seq);

-- The trail: append-only, each row chained to the one before by its hash.
CREATE TABLE audit (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at BIGINT NOT NULL,
    machine TEXT NOT NULL,
    generation BIGINT NOT NULL,
    kind TEXT NOT NULL,
    before TEXT NOT NULL,
    after TEXT NOT NULL,
    cause TEXT NOT NULL,
    reason TEXT NOT NULL,
    previous TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE
);

CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'audit is append-only'; END $$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();

-- One row allows one write or wipe of the named disks in one generation.
CREATE TABLE licences (
    id TEXT PRIMARY KEY,
    machine TEXT NOT NULL,
    generation BIGINT NOT NULL,
    purpose TEXT NOT NULL,
    disks TEXT NOT NULL,
    issued_at BIGINT NOT NULL,
    spent_at BIGINT,
    UNIQUE (machine, generation)
);

CREATE TABLE leases (
    ip TEXT PRIMARY KEY,
    mac TEXT NOT NULL,
    client_id TEXT,
    machine TEXT,
    state TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);

-- Sealed values (BMC passwords): useless without the key file.
CREATE TABLE secrets (
    owner TEXT NOT NULL,
    field TEXT NOT NULL,
    sealed BYTEA NOT NULL,
    PRIMARY KEY (owner, field)
);

-- Public keys of BMCs, pinned on first use.
CREATE TABLE pins (
    bmc TEXT PRIMARY KEY,
    spki_sha256 TEXT NOT NULL,
    pinned_at BIGINT NOT NULL
);

CREATE TABLE api_tokens (
    hash TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
