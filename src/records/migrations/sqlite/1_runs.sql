CREATE TABLE drover_runs (
    id TEXT PRIMARY KEY NOT NULL,
    record TEXT NOT NULL,
    capture TEXT,
    feedback TEXT
);
