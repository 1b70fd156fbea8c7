CREATE TABLE drover_runs (
    id TEXT PRIMARY KEY NOT NULL,
    namespace TEXT NOT NULL,
    model TEXT,
    version TEXT,
    digest TEXT,
    node TEXT,
    caller TEXT,
    outcome TEXT NOT NULL,
    record TEXT NOT NULL,
    capture TEXT,
    feedback TEXT
);
