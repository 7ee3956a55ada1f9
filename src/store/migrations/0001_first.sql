-- Times are Unix milliseconds. Every row knows whose it is, from the first day on.

CREATE TABLE calls (
    id        TEXT PRIMARY KEY,
    workspace TEXT NOT NULL DEFAULT 'default',
    -- The process that carries the call; an open call of an earlier one is an orphan.
    boot      TEXT NOT NULL,
    status    TEXT NOT NULL,
    began_ms  INTEGER NOT NULL,
    ended_ms  INTEGER,
    -- What was known when it began, and the record when it is over (JSON).
    open      TEXT NOT NULL,
    record    TEXT
) STRICT;
CREATE INDEX calls_open ON calls (boot) WHERE record IS NULL;
CREATE INDEX calls_began ON calls (workspace, began_ms);

CREATE TABLE events (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Made of what happened, so that telling it twice is one row.
    id         TEXT NOT NULL UNIQUE,
    workspace  TEXT NOT NULL DEFAULT 'default',
    kind       TEXT NOT NULL,
    call       TEXT NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
    created_ms INTEGER NOT NULL,
    body       TEXT NOT NULL
) STRICT;
CREATE INDEX events_call ON events (call);

CREATE TABLE deliveries (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    workspace TEXT NOT NULL DEFAULT 'default',
    event     TEXT NOT NULL REFERENCES events (id) ON DELETE CASCADE,
    endpoint  TEXT NOT NULL,
    -- pending, delivered, dead
    state     TEXT NOT NULL DEFAULT 'pending',
    attempts  INTEGER NOT NULL DEFAULT 0,
    -- Not before this time, and not before the lease of whoever holds it is over.
    due_ms    INTEGER NOT NULL,
    lease_ms  INTEGER,
    -- Grows with every claim: who holds an older one has lost it.
    fence     INTEGER NOT NULL DEFAULT 0,
    ended_ms  INTEGER,
    last      TEXT,
    UNIQUE (event, endpoint)
) STRICT;
CREATE INDEX deliveries_due ON deliveries (endpoint, due_ms) WHERE state = 'pending' AND lease_ms IS NULL;
CREATE INDEX deliveries_held ON deliveries (endpoint, lease_ms) WHERE state = 'pending' AND lease_ms IS NOT NULL;

-- Endpoints that asked not to be called again. `digest` is of the address that did.
CREATE TABLE closed_endpoints (
    id        TEXT PRIMARY KEY,
    workspace TEXT NOT NULL DEFAULT 'default',
    digest    TEXT NOT NULL,
    closed_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE jobs (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    workspace TEXT NOT NULL DEFAULT 'default',
    call      TEXT NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
    workflow  TEXT NOT NULL,
    -- The workflow and the variables as they were when the call ended (JSON).
    steps     TEXT NOT NULL,
    vars      TEXT NOT NULL,
    -- pending, done, dead
    state     TEXT NOT NULL DEFAULT 'pending',
    due_ms    INTEGER NOT NULL,
    lease_ms  INTEGER,
    fence     INTEGER NOT NULL DEFAULT 0,
    -- How often whoever held it vanished.
    lost      INTEGER NOT NULL DEFAULT 0,
    began_ms  INTEGER,
    ended_ms  INTEGER,
    result    TEXT,
    UNIQUE (call, workflow)
) STRICT;
CREATE INDEX jobs_due ON jobs (due_ms) WHERE state = 'pending' AND lease_ms IS NULL;
CREATE INDEX jobs_held ON jobs (lease_ms) WHERE state = 'pending' AND lease_ms IS NOT NULL;

-- What each job has done, one row for every step it came to, in order.
CREATE TABLE job_steps (
    job      INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
    at       INTEGER NOT NULL,
    step     INTEGER NOT NULL,
    action   TEXT NOT NULL,
    kind     TEXT NOT NULL,
    tries    INTEGER NOT NULL,
    began_ms INTEGER NOT NULL,
    -- Empty while it runs.
    ended_ms INTEGER,
    result   TEXT,
    -- While it has not ended: why its last try failed, when it waits to be tried again.
    code     TEXT,
    branch   TEXT,
    -- Variables it set (JSON).
    sets     TEXT,
    PRIMARY KEY (job, at)
) STRICT, WITHOUT ROWID;
