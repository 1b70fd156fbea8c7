CREATE TABLE drover_audit (
    id TEXT PRIMARY KEY NOT NULL,
    at TEXT NOT NULL,
    namespace TEXT NOT NULL,
    model TEXT NOT NULL,
    deployment TEXT NOT NULL,
    record TEXT NOT NULL
);
CREATE INDEX drover_audit_at ON drover_audit (at);
