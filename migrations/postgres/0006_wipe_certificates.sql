-- What the server has vouched for: one signed text a wiped disk.
CREATE TABLE wipe_certificates (
    id TEXT PRIMARY KEY,
    machine TEXT NOT NULL,
    generation BIGINT NOT NULL,
    disk TEXT NOT NULL,
    at BIGINT NOT NULL,
    certificate TEXT NOT NULL,
    signature TEXT NOT NULL,
    public_key TEXT NOT NULL
);
