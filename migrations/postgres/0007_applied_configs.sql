-- The config that a machine was given last, as it is shown: with a word in place of each secret.
CREATE TABLE applied_configs (
    machine TEXT PRIMARY KEY,
    generation BIGINT NOT NULL,
    at BIGINT NOT NULL,
    files TEXT NOT NULL
);
