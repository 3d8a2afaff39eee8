-- Machines of which a token may be live at its issuer: looked at although no workflow has them.
ALTER TABLE machines ADD COLUMN owes BIGINT NOT NULL DEFAULT 0;
